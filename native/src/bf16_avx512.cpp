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

__mmask16 first_of(int64_t count) { return count >= block ? 0xffff : count > 0 ? (1 << count) - 1 : 0; }

void pair_units(const float *from, int64_t rows, int64_t width, int64_t block_stride, int64_t first, int64_t last,
                float *pairs) {
  const int64_t blocks = (width + block - 1) / block;
  for (int64_t low = first / 2 * 2; low < last; low += 2) {
    const int64_t high = low + 1;
    const bool own_low = low >= first, own_high = high < last;
    const __mmask16 read_low = own_low ? first_of(width - low * block) : 0;
    const __mmask16 read_high = own_high ? first_of(width - high * block) : 0;
    // Who has the last block also writes the zeros behind it.
    const __mmask16 write = (own_low ? 0x00ff : 0) | (own_high || (own_low && high == blocks) ? 0xff00 : 0);
    const float *a = from + low * block_stride, *b = a + block_stride;
    float *to = pairs + low / 2 * rows * block;
    for (int64_t r = 0; r < rows; ++r) {
      const __m512 lower = _mm512_maskz_loadu_ps(read_low, a + r * block);
      const __m512 upper = _mm512_maskz_loadu_ps(read_high, b + r * block);
      _mm512_mask_storeu_epi32(to + r * block, write, (__m512i)_mm512_cvtne2ps_pbh(upper, lower));
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
