// The sampling rules. All is float64; sums run from the first term to the last; of equal values the lower id comes first.
#include "sampling.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <new>
#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

#include "kernels.h"

namespace unrolled {
namespace {

// Numbers below the normal ones count here, as they do in Python.
class KeepDenormals {
 public:
#if defined(__SSE2__)
  KeepDenormals() : before_(_mm_getcsr()) { _mm_setcsr(before_ & ~0x8040u); }
  ~KeepDenormals() { _mm_setcsr(before_); }

 private:
  unsigned before_;
#endif
};

// Keeps the logits from `least` up.
void keep_likely(SamplingMemory &m, double least) {
  size_t kept = 0;
  for (size_t i = 0; i < m.logits.size(); ++i)
    if (m.logits[i] >= least) {
      m.logits[kept] = m.logits[i];
      m.ids[kept++] = m.ids[i];
    }
  m.logits.resize(kept);
  m.ids.resize(kept);
}

// exp(x) for x <= 0, operation by operation as generation/exponential.py has it.
[[gnu::always_inline]] inline double exponential(double x) {
  const double shift = 6755399441055744.0;  // 1.5 * 2^52: adding it rounds to a whole number, in the lowest bits
  const double shifted = x * 1.4426950408889634 + shift, whole = shifted - shift;
  const double r = (x - whole * 0.6931471803691238) - whole * 1.9082149292705877e-10;
  double p = 1.0 / 6227020800.0;
  p = p * r + 1.0 / 479001600.0;
  p = p * r + 1.0 / 39916800.0;
  p = p * r + 1.0 / 3628800.0;
  p = p * r + 1.0 / 362880.0;
  p = p * r + 1.0 / 40320.0;
  p = p * r + 1.0 / 5040.0;
  p = p * r + 1.0 / 720.0;
  p = p * r + 1.0 / 120.0;
  p = p * r + 1.0 / 24.0;
  p = p * r + 1.0 / 6.0;
  p = p * r + 1.0 / 2.0;
  p = p * r + 1.0;
  p = p * r + 1.0;
  uint64_t bits;
  std::memcpy(&bits, &shifted, sizeof bits);
  bits = (bits + 1023) << 52;
  double scale;
  std::memcpy(&scale, &bits, sizeof scale);
  return x >= -708.0 ? p * scale : 0.0;
}

[[gnu::always_inline]] inline void exponentials(const double *x, double *y, size_t count) {
  for (size_t i = 0; i < count; ++i) y[i] = exponential(x[i]);
}

// Vectors compute each number as it would be alone, so the widest may be taken.
#if defined(__x86_64__)
[[gnu::target("avx512f,avx512dq")]] void exponentials_avx512(const double *x, double *y, size_t count) {
  exponentials(x, y, count);
}
[[gnu::target("avx2")]] void exponentials_avx2(const double *x, double *y, size_t count) { exponentials(x, y, count); }
#endif

void weigh(SamplingMemory &m) {
  m.weights.resize(m.logits.size());
#if defined(__x86_64__)
  static const char *const set = kernels().name;
  if (std::strcmp(set, "avx512") == 0) return exponentials_avx512(m.logits.data(), m.weights.data(), m.logits.size());
  if (std::strcmp(set, "avx2") == 0) return exponentials_avx2(m.logits.data(), m.weights.data(), m.logits.size());
#endif
  exponentials(m.logits.data(), m.weights.data(), m.logits.size());
}

double uniform(unrolled_stream &stream) {  // SplitMix64
  uint64_t mixed = stream.seed + ++stream.counter * 0x9E3779B97F4A7C15u;
  mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9u;
  mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EBu;
  return double((mixed ^ (mixed >> 31)) >> 11) * 0x1p-53;
}

// Keeps the `count` largest logits.
void keep_largest(SamplingMemory &m, int64_t count) {
  std::vector<double> &best = m.best;
  best.assign(m.logits.begin(), m.logits.begin() + count);
  std::make_heap(best.begin(), best.end(), std::greater<>());
  for (size_t i = count; i < m.logits.size(); ++i)
    if (m.logits[i] > best.front()) {
      std::pop_heap(best.begin(), best.end(), std::greater<>());
      best.back() = m.logits[i];
      std::push_heap(best.begin(), best.end(), std::greater<>());
    }
  const double smallest = best.front();
  int64_t ties = std::count(best.begin(), best.end(), smallest);
  size_t kept = 0;
  for (size_t i = 0; i < m.logits.size(); ++i)
    if (m.logits[i] > smallest || (m.logits[i] == smallest && ties-- > 0)) {
      m.logits[kept] = m.logits[i];
      m.ids[kept++] = m.ids[i];
    }
  m.logits.resize(kept);
  m.ids.resize(kept);
}

double sum(const std::vector<double> &values) {
  double total = 0.0;
  for (double value : values) total += value;
  return total;
}

// Keeps the fewest likeliest whose weights reach share * sum of all.
void keep_share(SamplingMemory &m, double share) {
  const double needed = share * sum(m.weights);
  const auto later = [&](int32_t a, int32_t b) {
    return m.weights[a] != m.weights[b] ? m.weights[a] < m.weights[b] : a > b;
  };
  m.order.resize(m.weights.size());
  for (size_t i = 0; i < m.order.size(); ++i) m.order[i] = int32_t(i);
  std::make_heap(m.order.begin(), m.order.end(), later);
  auto end = m.order.end();
  double reached = 0.0;
  do {
    std::pop_heap(m.order.begin(), end, later);
    reached += m.weights[*--end];
  } while (reached < needed && end != m.order.begin());
  std::sort(end, m.order.end());
  size_t kept = 0;
  for (; end != m.order.end(); ++end, ++kept) {
    m.weights[kept] = m.weights[*end];
    m.ids[kept] = m.ids[*end];
  }
  m.weights.resize(kept);
  m.ids.resize(kept);
}

}  // namespace

bool in_range(const unrolled_stream &s) {
  return s.temperature >= 0 && s.temperature <= 100 && s.repetition_penalty >= 0.01 && s.repetition_penalty <= 100 &&
         s.repetition_window >= 0 && s.top_k >= 0 && s.log_min_p <= 0 && s.top_p > 0 && s.top_p <= 1;
}

int32_t choose(const float *logits, int64_t vocabulary, const int32_t *recent, int64_t recent_count,
               unrolled_stream &s, SamplingMemory &m) {
  const KeepDenormals keep;
  m.logits.assign(logits, logits + vocabulary);
  s.bad_logits = 0;
  for (double value : m.logits) s.bad_logits += !std::isfinite(value);
  if (s.bad_logits) return -1;

  if (s.repetition_penalty != 1.0) {
    m.order.assign(recent, recent + recent_count);
    std::sort(m.order.begin(), m.order.end());
    m.order.erase(std::unique(m.order.begin(), m.order.end()), m.order.end());
    for (int32_t id : m.order)
      if (id >= 0 && id < vocabulary)
        m.logits[id] = m.logits[id] > 0 ? m.logits[id] / s.repetition_penalty : m.logits[id] * s.repetition_penalty;
  }
  const auto largest = std::max_element(m.logits.begin(), m.logits.end());
  if (s.temperature == 0.0) {
    uniform(s);  // every token takes one number
    return int32_t(largest - m.logits.begin());
  }
  const double top = *largest;
  m.ids.resize(vocabulary);
  for (int64_t i = 0; i < vocabulary; ++i) {
    m.logits[i] = (m.logits[i] - top) / s.temperature;
    m.ids[i] = int32_t(i);
  }
  if (s.top_k > 0 && s.top_k < vocabulary) keep_largest(m, s.top_k);
  if (s.log_min_p > -HUGE_VAL) keep_likely(m, s.log_min_p);
  weigh(m);
  if (s.top_p != 1.0) keep_share(m, s.top_p);

  const double reached = uniform(s) * sum(m.weights);
  double total = 0.0;
  for (size_t i = 0; i + 1 < m.ids.size(); ++i)
    if ((total += m.weights[i]) > reached) return m.ids[i];
  return m.ids.back();
}

}  // namespace unrolled

int32_t unrolled_choose(const float *logits, int64_t vocabulary, unrolled_stream *stream) {
  if (stream == nullptr) return -1;
  stream->bad_logits = 0;
  if (logits == nullptr || vocabulary < 1 || vocabulary > INT32_MAX || stream->before < 0 ||
      (stream->before > 0 && stream->tokens == nullptr) || !unrolled::in_range(*stream))
    return -1;
  try {
    unrolled::SamplingMemory memory;
    const int64_t count = stream->before < stream->repetition_window ? stream->before : stream->repetition_window;
    return unrolled::choose(logits, vocabulary, stream->tokens + stream->before - count, count, *stream, memory);
  } catch (const std::bad_alloc &) {
    return -1;
  }
}
