// AVX2: the sizes of the vector's numbers times the weights with their signs; no pair's sum leaves 16 bits.
#include <immintrin.h>

#include "int8_impl.h"

namespace unrolled {
namespace {

struct Tile {
  static constexpr int rows = 4, panels = 1;  // 8 sums in registers, beside the weights and what a product takes

  template <int Rows, int Panels>
  static void multiply(const Int8Product &p, int first_row, int first_panel) {
    static_assert(Panels == 1);
    const Int8Panel &panel = *p.panel[first_panel];
    const int8_t *vector = p.vectors + first_row * p.depth;
    __m256i sum[Rows][2];
    for (auto &row : sum) row[0] = row[1] = _mm256_setzero_si256();
    const __m256i ones = _mm256_set1_epi16(1);
    for (int64_t k = 0; k < p.depth; k += 4) {
      const auto *weight = reinterpret_cast<const __m256i *>(panel.weight + k * block);
      const __m256i w[2] = {_mm256_loadu_si256(weight), _mm256_loadu_si256(weight + 1)};
      for (int r = 0; r < Rows; ++r) {
        int32_t four;
        std::memcpy(&four, vector + r * p.depth + k, 4);
        const __m256i x = _mm256_set1_epi32(four), size = _mm256_abs_epi8(x);
        for (int i = 0; i < 2; ++i) {
          const __m256i pairs = _mm256_maddubs_epi16(size, _mm256_sign_epi8(w[i], x));
          sum[r][i] = _mm256_add_epi32(sum[r][i], _mm256_madd_epi16(pairs, ones));
        }
      }
    }
    for (int r = 0; r < Rows; ++r)
      for (int i = 0; i < 2; ++i) {
        float *to = p.result[first_panel] + (first_row + r) * p.result_stride + 8 * i;
        const __m256 own_scale = _mm256_set1_ps(p.vector_scale[first_row + r]);
        const __m256 factor = _mm256_mul_ps(_mm256_loadu_ps(panel.scale + 8 * i), own_scale);
        const __m256 product = _mm256_mul_ps(_mm256_cvtepi32_ps(sum[r][i]), factor);
        _mm256_storeu_ps(to, p.accumulate ? _mm256_add_ps(_mm256_loadu_ps(to), product) : product);
      }
  }
};

}  // namespace

extern const Int8Kernels int8_avx2;
const Int8Kernels int8_avx2 = {int8_multiply<Tile>, int8_round};

}  // namespace unrolled
