// result += a^T b over many rows: the sum of outer products that a weight's gradient is, for several a at once.
// Both factors are arrays of the engine, whose blocks of 16 units are panels as they stand, so nothing is packed. Rows are
// taken in passes, so that what a pass reads stays in cache.
#include <algorithm>

#include "kernels.h"
#include "status.h"
#include "threads.h"

namespace unrolled {
namespace {

// What a pass reads again and again stays in the second cache: some blocks of a (256 KiB) and of b (384 KiB).
constexpr int64_t pass_rows = 1024, pass_blocks = 4, group_panels = 6;

struct Outer {
  int count;
  const float *const *a;
  const int64_t *a_rows;
  const float *b;
  int64_t b_rows, m, n, k;
  float *const *result;
  const int64_t *ldr;
};

// The block of units from `first` of a[which] against up to four blocks of b from `column`, over one pass.
void blocks(const Outer &o, int which, int64_t first, int64_t column, int64_t row, int64_t rows) {
  const int64_t ldr = o.ldr[which];
  const int width = int(std::min<int64_t>(group_panels * block, o.n - column));
  const int whole = width / block, rest = width % block;
  float *to = o.result[which] + first * ldr + column;
  const float *right = o.b + (column / block * o.b_rows + row) * block;
  Product p{};
  p.rows = int(std::min<int64_t>(block, o.m - first));
  p.terms = 1;
  p.term[0] = {rows, o.a[which] + (first / block * o.a_rows[which] + row) * block, 1, block, block * block, {}};
  p.result_stride = ldr;
  p.accumulate = true;
  for (; p.panels < whole; ++p.panels) {
    p.term[0].panel[p.panels] = right + p.panels * o.b_rows * block;
    p.result[p.panels] = to + p.panels * block;
  }
  if (whole > 0) kernels().multiply(p);
  if (rest == 0) return;
  float buffer[block * block];  // a last panel that is not full must not write beyond the row
  p.panels = 1;
  p.term[0].panel[0] = right + whole * o.b_rows * block;
  p.result[0] = buffer;
  p.result_stride = block;
  p.accumulate = false;
  kernels().multiply(p);
  for (int r = 0; r < p.rows; ++r)
    for (int c = 0; c < rest; ++c) to[r * ldr + whole * block + c] += buffer[r * block + c];
}

// The blocks [first, last) of all a, counted through one after the other.
void share(const Outer &o, int64_t first, int64_t last) {
  const int64_t each = (o.m + block - 1) / block;
  for (int64_t row = 0; row < o.k; row += pass_rows)
    for (int64_t begin = first; begin < last; begin += pass_blocks)
      for (int64_t column = 0; column < o.n; column += group_panels * block)
        for (int64_t i = begin; i < std::min(begin + pass_blocks, last); ++i)
          blocks(o, int(i / each), i % each * block, column, row, std::min(pass_rows, o.k - row));
}

int check(const Outer &o, int threads, char *message) {
  if (o.count < 0 || o.m < 0 || o.n < 0 || o.k < 0 || o.b_rows < o.k || threads < 1)
    return invalid(message, "%d products of %lld x %lld over %lld rows", o.count, (long long)o.m, (long long)o.n,
                   (long long)o.k);
  const bool empty = o.count == 0 || o.m == 0 || o.n == 0 || o.k == 0;
  if (!empty && (!o.a || !o.a_rows || !o.b || !o.result || !o.ldr)) return invalid(message, "a list is missing");
  for (int i = 0; i < o.count && !empty; ++i)
    if (!o.a[i] || !o.result[i] || o.a_rows[i] < o.k || o.ldr[i] < o.n)
      return invalid(message, "product %d: a factor is missing or has too few rows", i);
  return UNROLLED_OK;
}

}  // namespace
}  // namespace unrolled

int unrolled_outer(int32_t count, const float *const *a, const int64_t *a_rows, const float *b, int64_t b_rows, int64_t m,
                   int64_t n, int64_t k, float *const *result, const int64_t *ldr, int32_t threads, char *message) {
  using namespace unrolled;
  const Outer o{count, a, a_rows, b, b_rows, m, n, k, result, ldr};
  if (int status = check(o, threads, message)) return status;
  if (count == 0 || m == 0 || n == 0 || k == 0) return UNROLLED_OK;
  const int64_t all = (m + block - 1) / block * count;
  parallel(threads, [&](int thread, int active) { share(o, all * thread / active, all * (thread + 1) / active); });
  return UNROLLED_OK;
}
