// Packing: a matrix as panels of 16 of its rows side by side, each panel contiguous along the columns.
// packed[p][c][u] = matrix(16 p + u, c); the rows beyond the last are zero.
#include <cstring>

#include "kernels.h"
#include "status.h"

int64_t unrolled_packed_size(int64_t rows, int64_t columns) {
  if (rows < 0 || columns < 0 || rows > (1 << 24) || columns > (1 << 24)) return -1;
  return (rows + unrolled::block - 1) / unrolled::block * unrolled::block * columns;
}

int unrolled_pack(const float *matrix, int64_t rows, int64_t columns, int64_t row_stride, int64_t column_stride,
                  float *packed, char *message) {
  using namespace unrolled;
  const int64_t size = unrolled_packed_size(rows, columns);
  if (size < 0 || (size > 0 && (matrix == nullptr || packed == nullptr)))
    return invalid(message, "nothing to pack in %lld x %lld", (long long)rows, (long long)columns);
  for (int64_t first = 0; first < rows; first += block) {
    const int64_t units = rows - first < block ? rows - first : block;
    const float *from = matrix + first * row_stride;
    for (int64_t c = 0; c < columns; ++c, packed += block) {
      for (int64_t u = 0; u < units; ++u) packed[u] = from[u * row_stride + c * column_stride];
      for (int64_t u = units; u < block; ++u) packed[u] = 0.0f;
    }
  }
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
