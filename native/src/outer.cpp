// result += a^T b over many rows: the sum of outer products that a weight's gradient is, for several a at once.
// Blocked so that a packed block of each factor stays in cache; both factors are packed along the rows.
#include <algorithm>
#include <cstring>
#include <new>
#include <vector>

#include "kernels.h"
#include "status.h"
#include "threads.h"

namespace unrolled {
namespace {

constexpr int64_t depth_block = 384;  // rows of a and b per pass: four panels of b (96 KiB) stay in the second cache
constexpr int64_t left_block = 96;    // columns of a per pass: its block (144 KiB) stays there too

struct Outer {
  int count;
  const float *const *a;
  const int64_t *lda;
  const float *b;
  int64_t ldb, m, n, k;
  float *const *result;
  const int64_t *ldr;
};

// packed[panel][row][column of the panel], panels of Width columns, zero beyond the last column. Row by row, because a
// row is contiguous; a few panels at a time, because each is written to memory of its own.
template <int Width>
void pack_columns(const float *from, int64_t ld, int64_t rows, int64_t columns, float *packed) {
  constexpr int64_t together = 96 / Width;
  const int64_t whole = columns / Width, rest = columns % Width;
  for (int64_t first = 0; first < whole; first += together) {
    const int64_t last = std::min(first + together, whole);
    for (int64_t r = 0; r < rows; ++r) {
      const float *ahead = from + std::min(r + 8, rows - 1) * ld;  // rows lie too far apart to be fetched unasked
      for (int64_t c = first * Width; c < last * Width; c += block) __builtin_prefetch(ahead + c);
      for (int64_t p = first; p < last; ++p)
        std::memcpy(packed + (p * rows + r) * Width, from + r * ld + p * Width, Width * sizeof(float));
    }
  }
  if (rest == 0) return;
  float *to = packed + whole * rows * Width;
  for (int64_t r = 0; r < rows; ++r, to += Width) {
    const float *row = from + r * ld + whole * Width;
    std::fill(std::copy(row, row + rest, to), to + Width, 0.0f);
  }
}

void pack_left(const float *from, int64_t ld, int64_t rows, int64_t columns, float *packed) {
  if (kernels().tile_rows == 6) return pack_columns<6>(from, ld, rows, columns, packed);
  pack_columns<3>(from, ld, rows, columns, packed);
}

// Up to four panels of b against the packed rows [first, first + rows) of one result.
void panels(const Outer &o, int which, const float *left, const float *right, int64_t depth, int64_t first,
            int64_t rows, int64_t column) {
  const int tile = kernels().tile_rows;
  const int64_t ldr = o.ldr[which];
  const int width = int(std::min<int64_t>(max_panels * block, o.n - column));
  const int whole = width / block, rest = width % block;
  for (int64_t i = 0; i < rows; i += tile) {
    float *to = o.result[which] + (first + i) * ldr + column;
    Product p{};
    p.rows = int(std::min<int64_t>(tile, rows - i));
    p.depth = depth;
    p.a = left + i * depth;
    p.row_stride = 1;
    p.depth_stride = tile;
    p.panel_stride = block;
    p.result_stride = ldr;
    p.accumulate = true;
    for (; p.panels < whole; ++p.panels) {
      p.panel[p.panels] = right + p.panels * block * depth;
      p.result[p.panels] = to + p.panels * block;
    }
    if (whole > 0) kernels().multiply(p);
    if (rest == 0) continue;
    float buffer[8 * block];  // a last panel that is not full must not write beyond the row
    p.panels = 1;
    p.panel[0] = right + whole * block * depth;
    p.result[0] = buffer;
    p.result_stride = block;
    p.accumulate = false;
    kernels().multiply(p);
    for (int r = 0; r < p.rows; ++r)
      for (int c = 0; c < rest; ++c) to[r * ldr + whole * block + c] += buffer[r * block + c];
  }
}

// The tiles [first, last) of all results, counted through one after the other.
void share(const Outer &o, int64_t first, int64_t last, std::vector<float> &right, std::vector<float> &left) {
  const int tile = kernels().tile_rows;
  const int64_t tiles = (o.m + tile - 1) / tile;
  for (int64_t k = 0; k < o.k && first < last; k += depth_block) {
    const int64_t depth = std::min(depth_block, o.k - k);
    pack_columns<block>(o.b + k * o.ldb, o.ldb, depth, o.n, right.data());
    for (int i = int(first / tiles); i * tiles < last; ++i) {
      const int64_t begin = std::max<int64_t>(first - i * tiles, 0) * tile;
      const int64_t end = std::min(std::min(last - i * tiles, tiles) * tile, o.m);
      for (int64_t m = begin; m < end; m += left_block) {
        const int64_t rows = std::min(left_block, end - m);
        pack_left(o.a[i] + k * o.lda[i] + m, o.lda[i], depth, rows, left.data());
        for (int64_t column = 0; column < o.n; column += max_panels * block)
          panels(o, i, left.data(), right.data() + column * depth, depth, m, rows, column);
      }
    }
  }
}

int check(const Outer &o, int threads, char *message) {
  if (o.count < 0 || o.m < 0 || o.n < 0 || o.k < 0 || o.ldb < o.n || threads < 1)
    return invalid(message, "%d products of %lld x %lld over %lld rows", o.count, (long long)o.m, (long long)o.n,
                   (long long)o.k);
  const bool empty = o.count == 0 || o.m == 0 || o.n == 0 || o.k == 0;
  if (!empty && (!o.a || !o.lda || !o.b || !o.result || !o.ldr)) return invalid(message, "a list is missing");
  for (int i = 0; i < o.count && !empty; ++i)
    if (!o.a[i] || !o.result[i] || o.lda[i] < o.m || o.ldr[i] < o.n)
      return invalid(message, "product %d: a factor is missing or does not fit its stride", i);
  return UNROLLED_OK;
}

}  // namespace
}  // namespace unrolled

int unrolled_outer(int32_t count, const float *const *a, const int64_t *lda, const float *b, int64_t ldb, int64_t m,
                   int64_t n, int64_t k, float *const *result, const int64_t *ldr, int32_t threads, char *message) {
  using namespace unrolled;
  const Outer o{count, a, lda, b, ldb, m, n, k, result, ldr};
  if (int status = check(o, threads, message)) return status;
  if (count == 0 || m == 0 || n == 0 || k == 0) return UNROLLED_OK;
  const int tile = kernels().tile_rows;
  const int64_t tiles = (m + tile - 1) / tile * count;
  try {
    const int64_t depth = std::min(depth_block, k);
    std::vector<std::vector<float>> left(threads), right(threads);
    for (auto &memory : left) memory.resize(size_t((left_block + tile) * depth));
    for (auto &memory : right) memory.resize(size_t((n + block - 1) / block * block * depth));
    parallel(threads, [&](int thread, int active) {
      share(o, tiles * thread / active, tiles * (thread + 1) / active, right[thread], left[thread]);
    });
    return UNROLLED_OK;
  } catch (const std::bad_alloc &) {
    invalid(message, "no memory for the product");
    return UNROLLED_NO_MEMORY;
  }
}
