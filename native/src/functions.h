// The transcendental operations on vectors. Maximum errors, over all floats whose result is normal, are tested in
// tests/engine/test_native_functions.py. Not-a-number stays not-a-number.
#pragma once

#include "lanes.h"

namespace unrolled::UNROLLED_NAMESPACE {

// 2^n (1 + rest), with n and rest such that the product is exp(x); x within +-150.
struct Power {
  Ints n;
  Floats rest;
};

inline Power power_of_e(Floats x) {
  const Floats shift = splat(12582912.0f);  // 1.5 * 2^23: adding it rounds to a whole number, which stands in the last bits
  const Floats shifted = x * 1.44269504088896341f + shift, whole = shifted - shift;
  // ln 2 in two parts, the first exact in few bits, so that x - whole * ln 2 loses nothing.
  const Floats r = (x - whole * 0.693359375f) - whole * -2.12194440e-4f;
  Floats p = splat(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  return {(Ints)shifted - 0x4b400000, p * (r * r) + r};
}

inline Floats power_of_two(Ints n) { return (Floats)((n << 23) + 0x3f800000); }

inline Floats exponential(Floats x) {
  x = x > 89.0f ? splat(89.0f) : x;
  x = x < -104.0f ? splat(-104.0f) : x;
  const Power power = power_of_e(x);
  const Ints half = power.n >> 1;  // two factors: 2^128 and 2^-150 are no floats of their own
  return (power.rest + 1.0f) * power_of_two(half) * power_of_two(power.n - half);
}

inline Floats logistic(Floats x) {
  x = x > 88.0f ? splat(88.0f) : x;
  x = x < -88.0f ? splat(-89.0f) : x;  // that of -89 is infinite, by 2^128 and a positive rest, and so the result zero
  const Power power = power_of_e(-x);
  const Floats two = power_of_two(power.n);
  return 1.0f / (two * power.rest + (two + 1.0f));
}

// z / (1 + z) with z = (exp(2x) - 1) / 2, which is as exact as the rest of a power is. Where z is small, the rounding of 1 + z
// counts less in z - z (z / (1 + z)).
inline Floats hyperbolic_tangent(Floats x) {
  Floats magnitude = (Floats)((Ints)x & 0x7fffffff);
  magnitude = magnitude > 10.0f ? splat(10.0f) : magnitude;
  const Power power = power_of_e(magnitude + magnitude);
  const Floats half_two = power_of_two(power.n - 1);
  const Floats z = half_two * power.rest + (half_two - 0.5f), ratio = z / (z + 1.0f);
  const Floats y = z < 0.5f ? z - z * ratio : ratio;
  return (Floats)((Ints)y | ((Ints)x & (int32_t)0x80000000));
}

inline Floats logarithm(Floats x) {
  const Ints bits = (Ints)x;
  Ints exponent = (bits >> 23) - 126;
  Floats m = (Floats)((bits & 0x007fffff) | 0x3f000000);  // in [0.5, 1)
  const Ints below = m < 0.707106781186547524f;
  exponent += below;  // a true lane is -1
  m = below ? m + m - 1.0f : m - 1.0f;
  const Floats square = m * m;
  Floats p = splat(7.0376836292e-2f);
  p = p * m - 1.1514610310e-1f;
  p = p * m + 1.1676998740e-1f;
  p = p * m - 1.2420140846e-1f;
  p = p * m + 1.4249322787e-1f;
  p = p * m - 1.6668057665e-1f;
  p = p * m + 2.0000714765e-1f;
  p = p * m - 2.4999993993e-1f;
  p = p * m + 3.3333331174e-1f;
  const Floats e = __builtin_convertvector(exponent, Floats);
  Floats y = p * m * square;
  y += e * -2.12194440e-4f;
  y -= square * 0.5f;
  y = m + y + e * 0.693359375f;
  const Floats infinity = splat(__builtin_inff());
  y = x == infinity ? infinity : y;
  y = x < 1.17549435e-38f ? -infinity : y;  // denormals count as zero
  return (x < 0.0f) | (x != x) ? splat(__builtin_nanf("")) : y;
}

inline Floats soft_plus(Floats x) {
  const Floats u = exponential((Floats)((Ints)x | (int32_t)0x80000000));  // exp(-|x|)
  const Floats sum = 1.0f + u;
  // log(1 + u) with what the sum lost put back, u itself where the sum lost everything.
  const Floats log1p = sum == 1.0f ? u : logarithm(sum) + (u - (sum - 1.0f)) / sum;
  return (x > 0.0f ? x : splat(0.0f)) + log1p + (x != x ? x : splat(0.0f));
}

inline Floats square_root(Floats x) {
  for (int i = 0; i < lanes; ++i) x[i] = __builtin_sqrtf(x[i]);
  return x;
}

}  // namespace unrolled::UNROLLED_NAMESPACE
