// AVX2: the sizes of the vector's numbers times the weights with their signs; no pair's sum leaves 16 bits.
#include <immintrin.h>

#include <cstring>

#include "int8.h"

namespace unrolled {

template <int Rows>
static void multiply(const Int8Panel &panel, int64_t depth, const int8_t *vectors, int64_t stride,
                     const float *vector_scale, float *result, bool accumulate) {
  __m256i sum[Rows][2];
  for (auto &row : sum) row[0] = row[1] = _mm256_setzero_si256();
  const __m256i ones = _mm256_set1_epi16(1);
  for (int64_t k = 0; k < depth; k += 4) {
    const auto *weight = reinterpret_cast<const __m256i *>(panel.weight + k * block);
    const __m256i w[2] = {_mm256_loadu_si256(weight), _mm256_loadu_si256(weight + 1)};
    for (int r = 0; r < Rows; ++r) {
      int32_t four;
      std::memcpy(&four, vectors + r * stride + k, 4);
      const __m256i x = _mm256_set1_epi32(four), size = _mm256_abs_epi8(x);
      for (int i = 0; i < 2; ++i) {
        const __m256i pairs = _mm256_maddubs_epi16(size, _mm256_sign_epi8(w[i], x));
        sum[r][i] = _mm256_add_epi32(sum[r][i], _mm256_madd_epi16(pairs, ones));
      }
    }
  }
  for (int r = 0; r < Rows; ++r)
    for (int i = 0; i < 2; ++i) {
      float *to = result + r * block + 8 * i;
      const __m256 scale = _mm256_mul_ps(_mm256_loadu_ps(panel.scale + 8 * i), _mm256_set1_ps(vector_scale[r]));
      const __m256 before = accumulate ? _mm256_loadu_ps(to) : _mm256_setzero_ps();
      _mm256_storeu_ps(to, _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum[r][i]), scale, before));
    }
}

void int8_multiply_avx2(const Int8Panel &panel, int64_t depth, const int8_t *vectors, int64_t stride,
                        const float *vector_scale, int rows, float *result, bool accumulate) {
  switch (rows) {
    case 1: return multiply<1>(panel, depth, vectors, stride, vector_scale, result, accumulate);
    case 2: return multiply<2>(panel, depth, vectors, stride, vector_scale, result, accumulate);
    case 3: return multiply<3>(panel, depth, vectors, stride, vector_scale, result, accumulate);
    case 4: return multiply<4>(panel, depth, vectors, stride, vector_scale, result, accumulate);
  }
}

}  // namespace unrolled
