// AVX-512 VNNI: four products and their sum in one instruction, of numbers without sign (the vector's, plus 128) and
// with; what the 128 adds is known beforehand.
#include <immintrin.h>

#include "int8_impl.h"

namespace unrolled {
namespace {

typedef int32_t Ints __attribute__((vector_size(64)));  // not __m512i, of which GCC keeps two copies

struct Tile {
  static constexpr int rows = 6, panels = max_panels;  // 24 sums in registers, beside the weights and a vector's four

  template <int Rows, int Panels>
  static void multiply(const Int8Product &p, int first_row, int first_panel) {
    constexpr int parts = Rows * Panels < 8 ? 2 : 1;  // sums under way at once, for an instruction takes some cycles
    static_assert(int8_columns % (4 * parts) == 0);
    Ints sum[parts][Rows][Panels];
#pragma GCC unroll 6
    for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 4
      for (int i = 0; i < Panels; ++i) {
        sum[0][r][i] = -(Ints)_mm512_loadu_si512(p.panel[first_panel + i]->offset);
        for (int part = 1; part < parts; ++part) sum[part][r][i] = Ints{};
      }
    const __m512i without_sign = _mm512_set1_epi8(int8_t(0x80));
    const int64_t depth = p.depth;
    const int8_t *vector = p.vectors + first_row * depth, *weight[Panels];
    for (int i = 0; i < Panels; ++i) weight[i] = p.panel[first_panel + i]->weight;
    for (int64_t k = 0; k < depth; k += 4 * parts) {
      for (int part = 0; part < parts; ++part) {
        __m512i right[Panels];
        for (int i = 0; i < Panels; ++i) right[i] = _mm512_loadu_si512(weight[i] + (k + 4 * part) * block);
        for (int r = 0; r < Rows; ++r) {
          int32_t four;
          std::memcpy(&four, vector + r * depth + k + 4 * part, 4);
          const __m512i left = _mm512_xor_si512(_mm512_set1_epi32(four), without_sign);
          for (int i = 0; i < Panels; ++i) sum[part][r][i] = (Ints)_mm512_dpbusd_epi32((__m512i)sum[part][r][i], left, right[i]);
        }
      }
    }
    for (int part = 1; part < parts; ++part)
      for (int r = 0; r < Rows; ++r)
        for (int i = 0; i < Panels; ++i) sum[0][r][i] += sum[part][r][i];
    const __mmask16 accumulate = p.accumulate ? 0xffff : 0;
#pragma GCC unroll 6
    for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 4
      for (int i = 0; i < Panels; ++i) {
        float *to = p.result[first_panel + i] + (first_row + r) * p.result_stride;
        const __m512 vector_scale = _mm512_set1_ps(p.vector_scale[first_row + r]);
        const __m512 scale = _mm512_mul_ps(_mm512_loadu_ps(p.panel[first_panel + i]->scale), vector_scale);
        const __m512 product = _mm512_mul_ps(_mm512_cvtepi32_ps((__m512i)sum[0][r][i]), scale);
        const __m512 before = _mm512_maskz_loadu_ps(accumulate, to);
        _mm512_storeu_ps(to, _mm512_mask_add_ps(product, accumulate, product, before));
      }
  }
};

}  // namespace

extern const Int8Kernels int8_vnni;
const Int8Kernels int8_vnni = {int8_multiply<Tile>, int8_round};

}  // namespace unrolled
