// Copying rows between the engine's arrays, which lie block by block, and the caller's, which lie row by row.
#include <algorithm>
#include <cstring>

#include "kernels.h"
#include "status.h"
#include "threads.h"

namespace unrolled {
namespace {

constexpr int64_t worth_threads = 65536;  // floats that take longer to copy than a thread takes to wake
constexpr int64_t chunk = 64;             // rows taken together, block by block: their lines are still in the first cache

void copy(const unrolled_rows &to, const unrolled_rows &from, int64_t first, int64_t last, int64_t width, bool pad) {
  const int64_t whole = width / block;
  const size_t rest = size_t(width % block);
  for (int64_t r = first; r < last; ++r) {
    const float *source = row_of(from, r);
    float *target = row_of(to, r);
    for (int64_t b = 0; b < whole; ++b)
      std::memcpy(target + b * to.block_stride, source + b * from.block_stride, block * sizeof(float));
    if (rest == 0) continue;
    float *end = target + whole * to.block_stride;
    std::memcpy(end, source + whole * from.block_stride, rest * sizeof(float));
    if (pad) std::fill(end + rest, end + block, 0.0f);
  }
}

// The blocks of units [first, last) of all rows.
void add(const unrolled_rows &to, const unrolled_rows &from, int64_t rows, int64_t width, int64_t first, int64_t last) {
  const int64_t whole = std::min(last, width / block);
  for (int64_t b = first; b < whole; ++b) kernels().add_rows(to, from, rows, b);
  if (whole == last) return;
  for (int64_t r = 0; r < rows; ++r)  // a last block that is not full
    for (int64_t u = 0; u < width % block; ++u)
      row_of(to, r)[whole * to.block_stride + u] += row_of(from, r)[whole * from.block_stride + u];
}

}  // namespace
}  // namespace unrolled

int unrolled_copy_rows(const unrolled_rows *to, const unrolled_rows *from, int64_t rows, int64_t width, int32_t pad,
                       int32_t threads, char *message) {
  using namespace unrolled;
  if (rows < 0 || width < 0 || threads < 1 || to == nullptr || from == nullptr)
    return invalid(message, "copying %lld rows of %lld on %d threads", (long long)rows, (long long)width, threads);
  if (rows == 0 || width == 0) return UNROLLED_OK;
  if (to->data == nullptr || from->data == nullptr) return invalid(message, "rows to copy without memory");
  const int64_t chunks = (rows + chunk - 1) / chunk;
  parallel(rows * width < worth_threads ? 1 : threads, [&](int thread, int active) {
    copy(*to, *from, std::min(rows, chunks * thread / active * chunk),
         std::min(rows, chunks * (thread + 1) / active * chunk), width, pad != 0);
  });
  return UNROLLED_OK;
}

int unrolled_add_rows(const unrolled_rows *to, const unrolled_rows *from, int64_t rows, int64_t width, int32_t threads,
                      char *message) {
  using namespace unrolled;
  if (rows < 0 || width < 0 || threads < 1 || to == nullptr || from == nullptr)
    return invalid(message, "adding %lld rows of %lld on %d threads", (long long)rows, (long long)width, threads);
  if (rows == 0 || width == 0) return UNROLLED_OK;
  if (to->data == nullptr || from->data == nullptr) return invalid(message, "rows to add without memory");
  const int64_t blocks = (width + block - 1) / block;
  // Rows of `to` may be the same, so threads share the units.
  parallel(rows * width < worth_threads ? 1 : threads, [&](int thread, int active) {
    add(*to, *from, rows, width, blocks * thread / active, blocks * (thread + 1) / active);
  });
  return UNROLLED_OK;
}
