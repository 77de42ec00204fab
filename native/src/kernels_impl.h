// The kernels, written once over the vector width; each kernels_<set>.cpp compiles them for one instruction set.
#pragma once

#include <algorithm>
#include <cmath>

#include "functions.h"
#include "lanes.h"

namespace unrolled::UNROLLED_NAMESPACE {

inline void multiply_add(Floats &sum, Floats left, Floats right) { sum += left * right; }

}  // namespace unrolled::UNROLLED_NAMESPACE

#include "tiles.h"

// The value counts as read and changed here, in its register: nothing before or after may be left out.
#if defined(__x86_64__)
#define UNROLLED_KEEP(value) asm volatile("" : "+x"(value))
#else
#define UNROLLED_KEEP(value) asm volatile("" : "+w"(value))
#endif

namespace unrolled::UNROLLED_NAMESPACE {

// Sums enough to hide the latency of all units, few enough to stay in registers; the factor is opaque to the compiler.
inline double multiply_adds(int64_t rounds) {
  constexpr int sums = 12;
  Floats sum[sums]{}, factor = splat(0.5f);
  asm volatile("" : "+m"(factor));
  for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 12
    for (int s = 0; s < sums; ++s) sum[s] = sum[s] * factor + factor;
#pragma GCC unroll 12
    for (int s = 0; s < sums; ++s) UNROLLED_KEEP(sum[s]);
  }
  return 2.0 * sums * lanes * double(rounds);
}

// Four rows at a time: what they compute does not wait for each other.
template <class Function>
void each(const Pointwise &step, Extent extent, Function function) {
  const ptrdiff_t da = step.a.stride, db = step.b.stride, dc = step.c.stride, dy = step.destination.stride;
  const int rows = extent.rows;
  for (int j = extent.first; j < extent.last; ++j) {
    const float *a = step.a.data + j * step.a.block_stride, *b = step.b.data + j * step.b.block_stride;
    const float *c = step.c.data + j * step.c.block_stride;
    float *y = step.destination.data + j * step.destination.block_stride;
    int r = 0;
    for (; r + 4 <= rows; r += 4, a += 4 * da, b += 4 * db, c += 4 * dc, y += 4 * dy) {
      for (int u = 0; u < block; u += lanes) {
        Floats result[4];
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) result[i] = function(load(a + i * da + u), load(b + i * db + u), load(c + i * dc + u));
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) store(y + i * dy + u, result[i]);
      }
    }
    for (; r < rows; ++r, a += da, b += db, c += dc, y += dy)
      for (int u = 0; u < block; u += lanes) store(y + u, function(load(a + u), load(b + u), load(c + u)));
  }
}

inline void accumulate(const Pointwise &step, Extent extent) {
  const int rows = extent.rows;
  for (int j = extent.first; j < extent.last; ++j) {
    for (int c = 0; c < block; c += lanes) {
      const float *a = step.a.data + j * step.a.block_stride + c;
      float *y = step.destination.data + j * step.destination.block_stride + c;
      Floats sum[4]{};  // that do not wait for each other
      int r = 0;
      for (; r + 4 <= rows; r += 4)
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) sum[i] += load(a + (r + i) * step.a.stride);
      for (; r < rows; ++r) sum[0] += load(a + r * step.a.stride);
      store(y, load(y) + ((sum[0] + sum[1]) + (sum[2] + sum[3])));
    }
  }
}

// `first` and what follows it.
template <class First>
void execute_then(const Pointwise &step, Extent extent, First first) {
  switch (step.then) {
    case UNROLLED_ADD: return each(step, extent, [=](Floats a, Floats b, Floats c) { return first(a, b) + c; });
    case UNROLLED_SUB: return each(step, extent, [=](Floats a, Floats b, Floats c) { return first(a, b) - c; });
    case UNROLLED_MUL: return each(step, extent, [=](Floats a, Floats b, Floats c) { return first(a, b) * c; });
    case subtract_from: return each(step, extent, [=](Floats a, Floats b, Floats c) { return c - first(a, b); });
  }
}

inline void execute_pair(const Pointwise &step, Extent extent) {
  switch (step.then) {
    case UNROLLED_SIGMOID: return each(step, extent, [](Floats a, Floats b, Floats) { return logistic(a + b); });
    case UNROLLED_TANH:
      return each(step, extent, [](Floats a, Floats b, Floats) { return hyperbolic_tangent(a + b); });
  }
  switch (step.opcode) {
    case UNROLLED_ADD: return execute_then(step, extent, [](Floats a, Floats b) { return a + b; });
    case UNROLLED_SUB: return execute_then(step, extent, [](Floats a, Floats b) { return a - b; });
    case UNROLLED_MUL:  // rounded, as it is where the two are not neighbours: results do not depend on who else reads them
      return execute_then(step, extent, [](Floats a, Floats b) {
        Floats product = a * b;
        UNROLLED_KEEP(product);
        return product;
      });
  }
}

inline void execute_one(const Pointwise &step, Extent extent) {
  const Floats zero{}, one = splat(1.0f);
  if (step.then != UNROLLED_COPY) return execute_pair(step, extent);
  switch (step.opcode) {
    case UNROLLED_COPY: return each(step, extent, [](Floats a, Floats, Floats) { return a; });
    case UNROLLED_ADD: return each(step, extent, [](Floats a, Floats b, Floats) { return a + b; });
    case UNROLLED_SUB: return each(step, extent, [](Floats a, Floats b, Floats) { return a - b; });
    case UNROLLED_MUL: return each(step, extent, [](Floats a, Floats b, Floats) { return a * b; });
    case UNROLLED_DIV: return each(step, extent, [](Floats a, Floats b, Floats) { return a / b; });
    case UNROLLED_NEG: return each(step, extent, [](Floats a, Floats, Floats) { return -a; });
    case UNROLLED_SIGMOID: return each(step, extent, [](Floats a, Floats, Floats) { return logistic(a); });
    case UNROLLED_TANH: return each(step, extent, [](Floats a, Floats, Floats) { return hyperbolic_tangent(a); });
    case UNROLLED_RELU: return each(step, extent, [=](Floats a, Floats, Floats) { return a < zero ? zero : a; });
    case UNROLLED_SOFTPLUS: return each(step, extent, [](Floats a, Floats, Floats) { return soft_plus(a); });
    case UNROLLED_EXP: return each(step, extent, [](Floats a, Floats, Floats) { return exponential(a); });
    case UNROLLED_LOG: return each(step, extent, [](Floats a, Floats, Floats) { return logarithm(a); });
    case UNROLLED_SQRT: return each(step, extent, [](Floats a, Floats, Floats) { return square_root(a); });
    case UNROLLED_ABS: return each(step, extent, [](Floats a, Floats, Floats) { return (Floats)((Ints)a & 0x7fffffff); });
    case UNROLLED_MAXIMUM:
      return each(step, extent, [](Floats a, Floats b, Floats) { return (a > b) | (a != a) ? a : b; });
    case UNROLLED_MINIMUM:
      return each(step, extent, [](Floats a, Floats b, Floats) { return (a < b) | (a != a) ? a : b; });
    case UNROLLED_SIGN:
      return each(step, extent, [=](Floats a, Floats, Floats) { return (a > zero ? one : zero) - (a < zero ? one : zero); });
    case UNROLLED_ACCUMULATE: return accumulate(step, extent);
  }
}

// The step on the blocks from `first` on, with rows and blocks in each other's place.
inline Pointwise turned(const Pointwise &step, int first) {
  const auto turn = [=](const Operand &o) {
    return Operand{o.data + first * o.block_stride, o.block_stride, o.stride};
  };
  if (step.opcode == UNROLLED_ACCUMULATE)
    return {UNROLLED_ADD, turn(step.destination), turn(step.destination), turn(step.a), UNROLLED_COPY, {}};
  return {step.opcode, turn(step.destination), turn(step.a), turn(step.b), step.then, turn(step.c)};
}

inline void execute(const Pointwise *code, int count, Extent extent) {
  if (extent.rows == 1)
    for (int i = 0; i < count; ++i)
      execute_one(turned(code[i], extent.first), {extent.last - extent.first, 0, 1});
  else
    for (int i = 0; i < count; ++i) execute_one(code[i], extent);
}

// Calls function(vector) on all numbers, the last ones filled up with `rest`, and puts its results in their place.
template <class Function>
void replace(float *values, int64_t count, float rest, Function function) {
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) store(values + i, function(load(values + i)));
  if (i == count) return;
  float last[lanes];
  std::fill(std::copy(values + i, values + count, last), last + lanes, rest);
  store(last, function(load(last)));
  std::copy(last, last + (count - i), values + i);
}

inline float cross_entropy(float *logits, int64_t count, int64_t target, float scale) {
  const float least = -__builtin_inff(), wanted = logits[target];
  Floats most = splat(least), sum{};
  replace(logits, count, least, [&](Floats x) { return most = x > most ? x : most, x; });
  float largest = most[0], total = 0.0f;
  for (int i = 1; i < lanes; ++i) largest = std::max(largest, most[i]);
  replace(logits, count, least, [&](Floats x) {
    x = exponential(x - largest);
    sum += x;
    return x;
  });
  for (int i = 0; i < lanes; ++i) total += sum[i];
  const Floats factor = splat(scale / total);
  replace(logits, count, 0.0f, [&](Floats x) { return x * factor; });
  logits[target] -= scale;
  return std::log(total) + (largest - wanted);
}

inline void drop(const float *from, float *to, int64_t count, uint64_t seed, int dropped, float scale) {
  constexpr int64_t group = 512;
  uint64_t words[group / 8];
  uint8_t fate[group];
  for (int64_t first = 0; first < count; first += group, from += group, to += group) {
    for (uint64_t &word : words) {
      uint64_t z = seed += random_step;
      z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
      z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
      word = z ^ (z >> 31);
    }
    std::memcpy(fate, words, group);
    const int64_t here = std::min(group, count - first);
    for (int64_t i = 0; i < here; ++i) to[i] = fate[i] < dropped ? 0.0f : from[i] * scale;
  }
}

// Square pieces in registers: in each round two vectors change half of what they hold, in ever smaller parts.
inline void transpose(const float *from, ptrdiff_t row_stride, float *to) {
  for (int u = 0; u < block; u += lanes)
    for (int c = 0; c < block; c += lanes) {
      Floats rows[lanes];
#pragma GCC unroll 16
      for (int i = 0; i < lanes; ++i) rows[i] = load(from + (u + i) * row_stride + c);
#pragma GCC unroll 4
      for (int half = lanes / 2; half > 0; half /= 2) {
        Ints low, high;
        for (int i = 0; i < lanes; ++i) {
          low[i] = i & half ? lanes + i - half : i;
          high[i] = i & half ? lanes + i : i + half;
        }
#pragma GCC unroll 16
        for (int i = 0; i < lanes; ++i) {
          if (i & half) continue;
          const Floats a = rows[i], b = rows[i + half];
          rows[i] = __builtin_shuffle(a, b, low);
          rows[i + half] = __builtin_shuffle(a, b, high);
        }
      }
#pragma GCC unroll 16
      for (int i = 0; i < lanes; ++i) store(to + (c + i) * block + u, rows[i]);
    }
}

inline void add_rows(const unrolled_rows &to, const unrolled_rows &from, int64_t rows, int64_t unit_block) {
  constexpr int64_t ahead = 16;  // rows whose memory is asked for before it is needed: the next ones may be anywhere
  const ptrdiff_t to_block = unit_block * to.block_stride, from_block = unit_block * from.block_stride;
  for (int64_t r = 0; r < rows; ++r) {
    if (r + ahead < rows) {
      __builtin_prefetch(row_of(from, r + ahead) + from_block);
      __builtin_prefetch(row_of(to, r + ahead) + to_block, 1);
    }
    const float *source = row_of(from, r) + from_block;
    float *target = row_of(to, r) + to_block;
    for (int u = 0; u < block; u += lanes) store(target + u, load(target + u) + load(source + u));
  }
}

inline void widen(const uint16_t *from, int64_t count, float *to) {
  for (int64_t i = 0; i < count; ++i) {
    const uint32_t bits = uint32_t(from[i]) << 16;
    std::memcpy(to + i, &bits, sizeof bits);
  }
}

inline void round(const float *from, int64_t count, uint16_t *to) {
  for (int64_t i = 0; i < count; ++i) {
    uint32_t bits;
    std::memcpy(&bits, from + i, sizeof bits);
    const uint32_t nearest = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    to[i] = uint16_t(from[i] != from[i] ? 0x7fc0 : nearest);
  }
}

}  // namespace unrolled::UNROLLED_NAMESPACE
