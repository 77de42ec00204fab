// Choosing the product of this machine, packing, rounding, and the portable product.
#include "int8.h"

#include <cmath>
#include <cstdlib>
#include <cstring>

#include "status.h"

namespace unrolled {

#if defined(__x86_64__)
void int8_multiply_avx2(const Int8Panel &, int64_t, const int8_t *, int64_t, const float *, int, float *, bool);
void int8_multiply_vnni(const Int8Panel &, int64_t, const int8_t *, int64_t, const float *, int, float *, bool);
#endif

namespace {

void int8_multiply_portable(const Int8Panel &panel, int64_t depth, const int8_t *vectors, int64_t stride,
                            const float *vector_scale, int rows, float *result, bool accumulate) {
  for (int r = 0; r < rows; ++r) {
    int32_t sum[block] = {};
    for (int64_t k = 0; k < depth; k += 4)
      for (int u = 0; u < block; ++u)
        for (int i = 0; i < 4; ++i) sum[u] += panel.weight[k * block + 4 * u + i] * vectors[r * stride + k + i];
    for (int u = 0; u < block; ++u) {
      const float product = float(sum[u]) * (panel.scale[u] * vector_scale[r]);
      result[r * block + u] = accumulate ? result[r * block + u] + product : product;
    }
  }
}

Int8Multiply choose() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const char *wanted = std::getenv("UNROLLED_INSTRUCTION_SET");
  const auto allowed = [&](const char *name) { return wanted == nullptr || std::strcmp(wanted, name) == 0; };
  const bool vnni = __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw") &&
                    __builtin_cpu_supports("avx512vl");
  if (vnni && allowed("avx512")) return int8_multiply_vnni;
  if (__builtin_cpu_supports("avx2") && (allowed("avx2") || allowed("avx512"))) return int8_multiply_avx2;
#endif
  return int8_multiply_portable;
}

}  // namespace

Int8Multiply int8_multiply() {
  static const Int8Multiply chosen = choose();
  return chosen;
}

float int8_round(const float *values, int64_t count, int8_t *rounded) {
  float largest = 0.0f;
  for (int64_t i = 0; i < count; ++i) {
    const float size = std::fabs(values[i]);
    largest = size > largest ? size : largest;
  }
  // A vector that is not finite stays so through its scale.
  if (!(largest <= 3.0e38f)) {
    std::memset(rounded, 1, int8_depth(count));
    return largest - largest;
  }
  const float inverse = largest > 1.0e-30f ? 127.0f / largest : 0.0f;
  const float shift = 12582912.0f;  // 1.5 * 2^23: adding it rounds to a whole number
  for (int64_t i = 0; i < count; ++i) rounded[i] = int8_t(int32_t((values[i] * inverse + shift) - shift));
  for (int64_t i = count; i < int8_depth(count); ++i) rounded[i] = 0;
  return largest / 127.0f;
}

}  // namespace unrolled

int64_t unrolled_int8_size(int64_t rows, int64_t columns) {
  if (rows < 0 || columns < 0 || rows > (1 << 24) || columns > (1 << 17)) return -1;
  return (rows + unrolled::block - 1) / unrolled::block * unrolled::int8_panel_bytes(columns);
}

int unrolled_int8_pack(const int8_t *matrix, const float *scale, int64_t rows, int64_t columns, int64_t row_stride,
                       void *packed, char *message) {
  using namespace unrolled;
  const int64_t size = unrolled_int8_size(rows, columns);
  if (size < 0 || (size > 0 && (!matrix || !scale || !packed)))
    return invalid(message, "nothing to pack in %lld x %lld", (long long)rows, (long long)columns);
  std::memset(packed, 0, size);
  for (int64_t row = 0; row < rows; ++row) {
    auto *panel = reinterpret_cast<Int8Panel *>(static_cast<char *>(packed) + row / block * int8_panel_bytes(columns));
    const int64_t u = row % block;
    panel->scale[u] = scale[row];
    for (int64_t k = 0; k < columns; ++k) {
      const int8_t weight = matrix[row * row_stride + k];
      panel->weight[k / 4 * 4 * block + 4 * u + k % 4] = weight;
      panel->offset[u] += 128 * weight;
    }
  }
  return UNROLLED_OK;
}
