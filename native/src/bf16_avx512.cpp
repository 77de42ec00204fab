// AVX512_BF16: two products and their sum in each of 16 lanes. Numbers below the normal ones count as zero.
#include <immintrin.h>

#define UNROLLED_NAMESPACE avx512_bf16
#define UNROLLED_LANES 16

#include "bf16.h"
#include "lanes.h"

namespace unrolled::UNROLLED_NAMESPACE {

constexpr int tile_rows = 8;
constexpr int tile_sums = 24;  // accumulators of a tile, in registers

inline void multiply_add(Floats &sum, Floats left, Floats right) {
  sum = (Floats)_mm512_dpbf16_ps((__m512)sum, (__m512bh)left, (__m512bh)right);
}

}  // namespace unrolled::UNROLLED_NAMESPACE

#include "tiles.h"

namespace unrolled::UNROLLED_NAMESPACE {
namespace {

__mmask16 first(int64_t count) { return count >= block ? 0xffff : count > 0 ? (1 << count) - 1 : 0; }

void pair_units(const float *from, int64_t rows, int64_t width, int64_t block_stride, float *pairs) {
  for (int64_t unit = 0; unit < width; unit += pair_block, from += 2 * block_stride) {
    const __mmask16 low = first(width - unit), high = first(width - unit - block);
    for (int64_t r = 0; r < rows; ++r, pairs += block) {
      const __m512 a = _mm512_maskz_loadu_ps(low, from + r * block);
      const __m512 b = _mm512_maskz_loadu_ps(high, from + block_stride + r * block);
      _mm512_storeu_si512(pairs, (__m512i)_mm512_cvtne2ps_pbh(b, a));
    }
  }
}

void pair_rows(const float *from, int64_t rows, float *pairs) {
  const __m512i interleaved = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                                               21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  for (int64_t r = 0; r < rows; r += 2, from += 2 * block, pairs += block) {
    const __m512 a = _mm512_loadu_ps(from);
    const __m512 b = r + 1 < rows ? _mm512_loadu_ps(from + block) : _mm512_setzero_ps();
    _mm512_storeu_si512(pairs, _mm512_permutexvar_epi16(interleaved, (__m512i)_mm512_cvtne2ps_pbh(b, a)));
  }
}

}  // namespace
}  // namespace unrolled::UNROLLED_NAMESPACE

namespace unrolled {
extern const Bf16Kernels bf16_avx512;
const Bf16Kernels bf16_avx512 = {avx512_bf16::multiply, avx512_bf16::pair_units, avx512_bf16::pair_rows};
}  // namespace unrolled
