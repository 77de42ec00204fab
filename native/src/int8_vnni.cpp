// AVX-512 VNNI: four products and their sum in one instruction, of numbers without sign (the vector's, plus 128) and
// with; what the 128 adds is known beforehand.
#include <immintrin.h>

#include <cstring>

#include "int8.h"

namespace unrolled {

template <int Rows>
static void multiply(const Int8Panel &panel, int64_t depth, const int8_t *vectors, int64_t stride,
                     const float *vector_scale, float *result, bool accumulate) {
  constexpr int parts = Rows < 4 ? 4 / Rows : 1;  // sums under way at once, for an instruction takes some cycles
  __m512i sum[Rows][parts];
  for (auto &row : sum)
    for (auto &part : row) part = _mm512_setzero_si512();
  const auto add = [&](int64_t k, int part) {
    const __m512i weight = _mm512_loadu_si512(panel.weight + k * block);
    for (int r = 0; r < Rows; ++r) {
      uint32_t four;
      std::memcpy(&four, vectors + r * stride + k, 4);
      sum[r][part] = _mm512_dpbusd_epi32(sum[r][part], _mm512_set1_epi32(int32_t(four ^ 0x80808080u)), weight);
    }
  };
  int64_t k = 0;
  for (; k + 4 * parts <= depth; k += 4 * parts)
    for (int part = 0; part < parts; ++part) add(k + 4 * part, part);
  for (; k < depth; k += 4) add(k, 0);
  const __m512i offset = _mm512_loadu_si512(panel.offset);
  for (int r = 0; r < Rows; ++r) {
    __m512i total = sum[r][0];
    for (int part = 1; part < parts; ++part) total = _mm512_add_epi32(total, sum[r][part]);
    const __m512 scale = _mm512_mul_ps(_mm512_loadu_ps(panel.scale), _mm512_set1_ps(vector_scale[r]));
    const __m512 before = accumulate ? _mm512_loadu_ps(result + r * block) : _mm512_setzero_ps();
    const __m512 product = _mm512_cvtepi32_ps(_mm512_sub_epi32(total, offset));
    _mm512_storeu_ps(result + r * block, _mm512_fmadd_ps(product, scale, before));
  }
}

void int8_multiply_vnni(const Int8Panel &panel, int64_t depth, const int8_t *vectors, int64_t stride,
                        const float *vector_scale, int rows, float *result, bool accumulate) {
  switch (rows) {
    case 1: return multiply<1>(panel, depth, vectors, stride, vector_scale, result, accumulate);
    case 2: return multiply<2>(panel, depth, vectors, stride, vector_scale, result, accumulate);
    case 3: return multiply<3>(panel, depth, vectors, stride, vector_scale, result, accumulate);
    case 4: return multiply<4>(panel, depth, vectors, stride, vector_scale, result, accumulate);
  }
}

}  // namespace unrolled
