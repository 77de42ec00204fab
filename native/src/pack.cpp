// Packing: a matrix as panels of 16 of its rows side by side, each panel contiguous along the columns.
// packed[p][c][u] = matrix(16 p + u, c); the rows beyond the last are zero. In bfloat16 two columns lie together:
// packed[p][c / 2][u][c % 2].
#include <algorithm>
#include <cstring>

#include "bf16.h"
#include "status.h"
#include "threads.h"

namespace unrolled {
namespace {

constexpr int64_t worth_threads = 65536;  // floats that take longer to pack than a thread takes to wake

void pack_panel(const float *from, int64_t units, int64_t columns, int64_t row_stride, int64_t column_stride,
                float *packed) {
  if (units < block) std::fill(packed, packed + columns * block, 0.0f);
  if (row_stride == 1 && units == block) {
    for (int64_t c = 0; c < columns; ++c, packed += block, from += column_stride)
      std::memcpy(packed, from, block * sizeof(float));
    return;
  }
  // Square pieces, so that what is written stays in the first cache while each row of the matrix is read in turn.
  for (int64_t first = 0; first < columns; first += block) {
    const int64_t last = std::min<int64_t>(first + block, columns);
    if (column_stride == 1 && units == block && last - first == block) {
      kernels().transpose(from + first, row_stride, packed + first * block);
      continue;
    }
    for (int64_t u = 0; u < units; ++u)
      for (int64_t c = first; c < last; ++c) packed[c * block + u] = from[u * row_stride + c * column_stride];
  }
}

}  // namespace
}  // namespace unrolled

int64_t unrolled_packed_size(int64_t rows, int64_t columns, int32_t precision) {
  using namespace unrolled;
  if (rows < 0 || columns < 0 || rows > (1 << 24) || columns > (1 << 24)) return -1;
  if (precision != UNROLLED_FP32 && precision != UNROLLED_BF16) return -1;
  return (rows + block - 1) / block * block * (precision == UNROLLED_BF16 ? pairs_of(columns) : columns);
}

int unrolled_pack(const float *matrix, int64_t rows, int64_t columns, int64_t row_stride, int64_t column_stride,
                  float *packed, int32_t threads, char *message) {
  const unrolled_matrix one{matrix, rows, columns, row_stride, column_stride, packed};
  return unrolled_pack_all(&one, 1, UNROLLED_FP32, threads, message);
}

int unrolled_pack_all(const unrolled_matrix *matrices, int64_t count, int32_t precision, int32_t threads, char *message) {
  using namespace unrolled;
  const Bf16Kernels *bf16 = precision == UNROLLED_BF16 ? bf16_kernels() : nullptr;
  if (count < 0 || threads < 1 || (count > 0 && matrices == nullptr) || (precision != UNROLLED_FP32 && !bf16))
    return invalid(message, "packing %lld matrices on %d threads in precision %d", (long long)count, threads, precision);
  int64_t floats = 0;
  for (int64_t i = 0; i < count; ++i) {
    const unrolled_matrix &m = matrices[i];
    const int64_t size = unrolled_packed_size(m.rows, m.columns, precision);
    if (size < 0 || (size > 0 && (m.matrix == nullptr || m.packed == nullptr)))
      return invalid(message, "nothing to pack in %lld x %lld", (long long)m.rows, (long long)m.columns);
    floats += size;
  }
  parallel(floats < worth_threads ? 1 : threads, [&](int thread, int active) {
    for (int64_t i = 0; i < count; ++i) {
      const unrolled_matrix &m = matrices[i];
      const int64_t panels = (m.rows + block - 1) / block;
      for (int64_t p = panels * thread / active; p < panels * (thread + 1) / active; ++p) {
        float *packed = m.packed + p * block * (bf16 ? pairs_of(m.columns) : m.columns);
        float *panel = bf16 ? pairs_memory(block * m.columns) : packed;
        pack_panel(m.matrix + p * block * m.row_stride, std::min<int64_t>(block, m.rows - p * block), m.columns,
                   m.row_stride, m.column_stride, panel);
        if (bf16) bf16->pair_rows(panel, m.columns, packed);  // its columns are the rows of a block
      }
    }
  });
  return UNROLLED_OK;
}

uint64_t unrolled_fingerprint(const float *values, int64_t count) {
  uint64_t hash = 14695981039346656037u;  // FNV-1a
  if (values == nullptr) return hash;
  const int64_t samples = count < 64 ? count : 64;
  for (int64_t i = 0; i < samples; ++i) {
    uint32_t bits;
    std::memcpy(&bits, values + (samples < 2 ? 0 : i * (count - 1) / (samples - 1)), sizeof bits);
    hash = (hash ^ bits) * 1099511628211u;
  }
  return hash;
}
