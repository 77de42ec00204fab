// result = or += a^T b over many rows: the sum of outer products that a weight's gradient is, for several a at once.
// Both factors are arrays of the engine, whose blocks of 16 units are panels as they stand, so in float32 nothing is packed.
// Rows are taken in passes, so that what a pass reads stays in cache.
#include <algorithm>
#include <new>

#include "bf16.h"
#include "status.h"
#include "threads.h"

namespace unrolled {
namespace {

// What a pass reads again and again stays in the second cache: some blocks of a (256 KiB) and of b (384 KiB); of pairs, a
// block of a (16 KiB) and many of b (512 KiB).
constexpr int64_t pass_rows = 1024, pass_blocks = 4, group_panels = 6;
constexpr int64_t pair_pass_rows = 512, pair_pass_panels = 32;

constexpr double worth_threads = 250e3;  // multiply-adds that take longer than a thread takes to wake

struct Outer {
  int count;
  const float *const *a;
  const int64_t *a_rows;
  const float *b;
  int64_t b_rows, m, n, k;
  float *const *result;
  const int64_t *ldr;
  bool accumulate;

  // The rows of a block of units from `row` on.
  const float *a_block(int which, int64_t number, int64_t row) const {
    return a[which] + (number * a_rows[which] + row) * block;
  }
  const float *b_block(int64_t number, int64_t row) const { return b + (number * b_rows + row) * block; }
};

// A block of rows, or of pairs of rows, of an a and the blocks of b from `right` on, which are `right_stride` apart.
struct Factors {
  int64_t depth;
  const float *left, *right;
  int64_t right_stride;
  bool accumulate;
  void (*multiply)(const Product &);
};

// Puts, or adds, their product to the result of a[which] from unit `first` on, in at most `panels` blocks of columns from `column`.
void add(const Outer &o, int which, int64_t first, int64_t column, int64_t panels, const Factors &factors) {
  const int64_t ldr = o.ldr[which];
  const int width = int(std::min<int64_t>(panels * block, o.n - column));
  const int whole = width / block, rest = width % block;
  float *to = o.result[which] + first * ldr + column;
  Product p{};
  p.rows = int(std::min<int64_t>(block, o.m - first));
  p.terms = 1;
  p.term[0] = {factors.depth, factors.left, 1, block, block * block, {}};
  p.result_stride = ldr;
  p.accumulate = factors.accumulate;
  for (; p.panels < whole; ++p.panels) {
    p.term[0].panel[p.panels] = factors.right + p.panels * factors.right_stride;
    p.result[p.panels] = to + p.panels * block;
  }
  if (whole > 0) factors.multiply(p);
  if (rest == 0) return;
  float buffer[block * block];  // a last panel that is not full must not write beyond the row
  p.panels = 1;
  p.term[0].panel[0] = factors.right + whole * factors.right_stride;
  p.result[0] = buffer;
  p.result_stride = block;
  p.accumulate = false;
  factors.multiply(p);
  for (int r = 0; r < p.rows; ++r)
    for (int c = 0; c < rest; ++c) {
      float &sum = to[r * ldr + whole * block + c];
      sum = (factors.accumulate ? sum : 0.0f) + buffer[r * block + c];
    }
}

// The blocks [first, last) of all a, counted block by block: who made a block of units in a run has it in its cache.
void share(const Outer &o, int64_t first, int64_t last) {
  for (int64_t row = 0; row < o.k; row += pass_rows)
    for (int64_t begin = first; begin < last; begin += pass_blocks)
      for (int64_t column = 0; column < o.n; column += group_panels * block)
        for (int64_t i = begin; i < std::min(begin + pass_blocks, last); ++i)
          add(o, int(i % o.count), i / o.count * block, column, group_panels,
              {std::min(pass_rows, o.k - row), o.a_block(int(i % o.count), i / o.count, row),
               o.b_block(column / block, row), o.b_rows * block, o.accumulate || row > 0, kernels().multiply});
}

// As `share`, of bfloat16: each pass rounds its blocks to pairs of rows first.
void share_of_pairs(const Outer &o, int64_t first, int64_t last) {
  const int64_t panels = (o.n + block - 1) / block;
  const Bf16Kernels &bf16 = *bf16_kernels();
  constexpr int64_t size = pair_pass_rows / 2 * block;
  float *left = pairs_memory(size * (1 + std::min(panels, pair_pass_panels))), *right = left + size;
  for (int64_t row = 0; row < o.k; row += pair_pass_rows) {
    const int64_t rows = std::min(pair_pass_rows, o.k - row);
    for (int64_t begin = 0; begin < panels; begin += pair_pass_panels) {
      const int64_t end = std::min(begin + pair_pass_panels, panels);
      for (int64_t j = begin; j < end; ++j) bf16.pair_rows(o.b_block(j, row), rows, right + (j - begin) * size);
      for (int64_t i = first; i < last; ++i) {
        bf16.pair_rows(o.a_block(int(i % o.count), i / o.count, row), rows, left);
        for (int64_t j = begin; j < end; j += group_panels)
          add(o, int(i % o.count), i / o.count * block, j * block, std::min(group_panels, end - j),
              {pairs_of(rows), left, right + (j - begin) * size, size, o.accumulate || row > 0, bf16.multiply});
      }
    }
  }
}

int check(const Outer &o, int threads, char *message) {
  if (o.count < 0 || o.m < 0 || o.n < 0 || o.k < 0 || o.b_rows < o.k || threads < 1)
    return invalid(message, "%d products of %lld x %lld over %lld rows", o.count, (long long)o.m, (long long)o.n,
                   (long long)o.k);
  const bool empty = o.count == 0 || o.m == 0 || o.n == 0;
  if (!empty && (!o.a || !o.a_rows || !o.b || !o.result || !o.ldr)) return invalid(message, "a list is missing");
  for (int i = 0; i < o.count && !empty; ++i)
    if (!o.a[i] || !o.result[i] || o.a_rows[i] < o.k || o.ldr[i] < o.n)
      return invalid(message, "product %d: a factor is missing or has too few rows", i);
  return UNROLLED_OK;
}

}  // namespace
}  // namespace unrolled

int unrolled_outer(int32_t count, const float *const *a, const int64_t *a_rows, const float *b, int64_t b_rows, int64_t m,
                   int64_t n, int64_t k, float *const *result, const int64_t *ldr, int32_t accumulate, int32_t precision, int32_t threads,
                   char *message) {
  using namespace unrolled;
  const Outer o{count, a, a_rows, b, b_rows, m, n, k, result, ldr, accumulate != 0};
  if (precision != UNROLLED_FP32 && (precision != UNROLLED_BF16 || bf16_kernels() == nullptr))
    return invalid(message, "this machine has no products of precision %d", precision);
  if (int status = check(o, threads, message)) return status;
  if (count == 0 || m == 0 || n == 0) return UNROLLED_OK;
  if (k == 0) {
    for (int i = 0; i < count && !accumulate; ++i)
      for (int64_t r = 0; r < m; ++r) std::fill_n(result[i] + r * ldr[i], n, 0.0f);
    return UNROLLED_OK;
  }
  const int64_t all = (m + block - 1) / block * count;
  const auto work = precision == UNROLLED_BF16 ? share_of_pairs : share;
  try {
    const bool worth_it = double(count) * double(m) * double(n) * double(k) >= worth_threads;
    parallel(worth_it ? threads : 1,
             [&](int thread, int active) { work(o, all * thread / active, all * (thread + 1) / active); });
    return UNROLLED_OK;
  } catch (const std::bad_alloc &) {
    invalid(message, "no memory for the pairs of a product");
    return UNROLLED_NO_MEMORY;
  }
}
