// Choosing the kernels of this machine, packing, and the portable product.
#include <cstdlib>

#include "int8_impl.h"
#include "status.h"

namespace unrolled {

#if defined(__x86_64__)
extern const Int8Kernels int8_avx2;
extern const Int8Kernels int8_vnni;
#endif

namespace {

struct Tile {
  static constexpr int rows = 1, panels = 1;

  template <int Rows, int Panels>
  static void multiply(const Int8Product &p, int r, int first_panel) {
    static_assert(Rows == 1 && Panels == 1);
    const Int8Panel &panel = *p.panel[first_panel];
    const int8_t *vector = p.vectors + r * p.depth;
    int32_t sum[block] = {};
    for (int64_t k = 0; k < p.depth; k += 4)
      for (int u = 0; u < block; ++u)
        for (int i = 0; i < 4; ++i) sum[u] += panel.weight[k * block + 4 * u + i] * vector[k + i];
    for (int u = 0; u < block; ++u) {
      float &to = p.result[first_panel][r * p.result_stride + u];
      const float product = float(sum[u]) * (panel.scale[u] * p.vector_scale[r]);
      to = p.accumulate ? to + product : product;
    }
  }
};

const Int8Kernels portable = {int8_multiply<Tile>, int8_round};

const Int8Kernels &choose() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const char *wanted = std::getenv("UNROLLED_INSTRUCTION_SET");
  const auto allowed = [&](const char *name) { return wanted == nullptr || std::strcmp(wanted, name) == 0; };
  const bool vnni = __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw") &&
                    __builtin_cpu_supports("avx512vl");
  if (vnni && allowed("avx512")) return int8_vnni;
  if (__builtin_cpu_supports("avx2") && (allowed("avx2") || allowed("avx512"))) return int8_avx2;
#endif
  return portable;
}

}  // namespace

const Int8Kernels &int8_kernels() {
  static const Int8Kernels &chosen = choose();
  return chosen;
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
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t k = 0; k < columns; ++k)
      if (matrix[row * row_stride + k] == -128)
        return invalid(message, "row %lld holds -128; the numbers are -127 to 127", (long long)row);
  if (size > 0) std::memset(packed, 0, size);
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
