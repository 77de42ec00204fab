// One operation on plain arrays, for tests of its accuracy.
#include <algorithm>

#include "kernels.h"
#include "status.h"

int unrolled_pointwise(int32_t opcode, const float *a, const float *b, float *y, int64_t count, char *message) {
  using namespace unrolled;
  if (opcode < UNROLLED_COPY || opcode > UNROLLED_SIGN || count < 0 || (count > 0 && (!a || !b || !y)))
    return invalid(message, "opcode %d on %lld numbers", opcode, (long long)count);
  alignas(64) float left[block], right[block], result[block];
  for (int64_t i = 0; i < count; i += block) {
    const int64_t n = std::min<int64_t>(block, count - i);
    std::fill(std::copy(a + i, a + i + n, left), left + block, 0.0f);
    std::fill(std::copy(b + i, b + i + n, right), right + block, 0.0f);
    const Pointwise step{opcode, {result, 0, 0}, {left, 0, 0}, {right, 0, 0}};
    kernels().execute(&step, 1, {1, 0, 1});
    std::copy(result, result + n, y + i);
  }
  return UNROLLED_OK;
}
