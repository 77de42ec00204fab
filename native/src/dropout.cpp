// Dropout whose mask is nowhere in memory: it is made from a number, in the backward pass once more.
#include <algorithm>

#include "kernels.h"
#include "status.h"
#include "threads.h"

namespace unrolled {
namespace {

constexpr int64_t chunk = 4096;  // features that a thread takes at a time, a multiple of eight

}  // namespace
}  // namespace unrolled

int unrolled_dropout(const float *from, float *to, int64_t count, uint64_t seed, int32_t dropped, int32_t threads,
                     char *message) {
  using namespace unrolled;
  if (count < 0 || dropped < 0 || dropped > 255 || threads < 1 || (count > 0 && (!from || !to)))
    return invalid(message, "dropping %d of 256 of %lld features on %d threads", dropped, (long long)count, threads);
  const int64_t chunks = (count + chunk - 1) / chunk;
  const float scale = 256.0f / float(256 - dropped);
  parallel(count < 65536 ? 1 : threads, [&](int thread, int active) {
    for (int64_t c = chunks * thread / active; c < chunks * (thread + 1) / active; ++c)
      kernels().drop(from + c * chunk, to + c * chunk, std::min(chunk, count - c * chunk),
                     seed + uint64_t(c * chunk / 8) * random_step, dropped, scale);
  });
  return UNROLLED_OK;
}
