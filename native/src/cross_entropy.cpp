// The loss of a readout: of each row of logits its cross-entropy, and in the place of the logits its gradient.
#include <atomic>
#include <memory>
#include <new>

#include "kernels.h"
#include "status.h"
#include "threads.h"

namespace unrolled {
namespace {

struct Logits {
  void *data;
  bool bf16;
  const int64_t *target;
  int64_t rows, classes;
  float scale, *loss;
};

void share(const Logits &l, int64_t first, int64_t last) {
  const std::unique_ptr<float[]> wide(l.bf16 ? new float[size_t(l.classes)] : nullptr);
  for (int64_t r = first; r < last; ++r) {
    if (l.bf16) {
      uint16_t *row = static_cast<uint16_t *>(l.data) + r * l.classes;
      kernels().widen(row, l.classes, wide.get());
      l.loss[r] = kernels().cross_entropy(wide.get(), l.classes, l.target[r], l.scale);
      kernels().round(wide.get(), l.classes, row);
    } else {
      float *row = static_cast<float *>(l.data) + r * l.classes;
      l.loss[r] = kernels().cross_entropy(row, l.classes, l.target[r], l.scale);
    }
  }
}

}  // namespace
}  // namespace unrolled

int unrolled_cross_entropy(void *logits, int32_t precision, const int64_t *targets, int64_t rows, int64_t classes,
                           float scale, float *losses, int32_t threads, char *message) {
  using namespace unrolled;
  if (rows < 0 || classes < 1 || threads < 1 || (precision != UNROLLED_FP32 && precision != UNROLLED_BF16) ||
      (rows > 0 && (!logits || !targets || !losses)))
    return invalid(message, "%lld rows of %lld logits of precision %d on %d threads", (long long)rows, (long long)classes,
                   precision, threads);
  for (int64_t r = 0; r < rows; ++r)
    if (targets[r] < 0 || targets[r] >= classes)
      return invalid(message, "target %lld of row %lld; there are %lld classes", (long long)targets[r], (long long)r,
                     (long long)classes);
  const Logits all{logits, precision == UNROLLED_BF16, targets, rows, classes, scale, losses};
  std::atomic<bool> failed{false};
  try {
    parallel(rows * classes < 65536 ? 1 : threads, failed, [&](int thread, int active) {
      share(all, rows * thread / active, rows * (thread + 1) / active);
    });
    return UNROLLED_OK;
  } catch (const std::bad_alloc &) {
    invalid(message, "no memory for a row of logits");
    return UNROLLED_NO_MEMORY;
  }
}
