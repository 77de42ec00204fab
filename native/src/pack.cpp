// Packing: a matrix as panels of 16 of its rows side by side, each panel contiguous along the columns.
// packed[p][c][u] = matrix(16 p + u, c); the rows beyond the last are zero.
#include <algorithm>
#include <cstring>

#include "kernels.h"
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
    for (int64_t u = 0; u < units; ++u)
      for (int64_t c = first; c < last; ++c) packed[c * block + u] = from[u * row_stride + c * column_stride];
  }
}

}  // namespace
}  // namespace unrolled

int64_t unrolled_packed_size(int64_t rows, int64_t columns) {
  if (rows < 0 || columns < 0 || rows > (1 << 24) || columns > (1 << 24)) return -1;
  return (rows + unrolled::block - 1) / unrolled::block * unrolled::block * columns;
}

int unrolled_pack(const float *matrix, int64_t rows, int64_t columns, int64_t row_stride, int64_t column_stride,
                  float *packed, int32_t threads, char *message) {
  using namespace unrolled;
  const int64_t size = unrolled_packed_size(rows, columns);
  if (size < 0 || threads < 1 || (size > 0 && (matrix == nullptr || packed == nullptr)))
    return invalid(message, "nothing to pack in %lld x %lld", (long long)rows, (long long)columns);
  const int64_t panels = (rows + block - 1) / block;
  parallel(size < worth_threads ? 1 : threads, [&](int thread, int active) {
    for (int64_t p = panels * thread / active; p < panels * (thread + 1) / active; ++p)
      pack_panel(matrix + p * block * row_stride, std::min<int64_t>(block, rows - p * block), columns, row_stride,
                 column_stride, packed + p * block * columns);
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
