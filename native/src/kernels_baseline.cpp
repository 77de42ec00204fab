#define UNROLLED_NAMESPACE baseline
#define UNROLLED_LANES 4

namespace unrolled::UNROLLED_NAMESPACE {
constexpr int tile_rows = 3;
constexpr int tile_sums = 12;  // accumulators of a tile, in registers
}  // namespace unrolled::UNROLLED_NAMESPACE

#include "kernels_impl.h"

namespace unrolled {
extern const Kernels kernels_baseline;
const Kernels kernels_baseline = {"baseline", baseline::tile_rows, baseline::multiply, baseline::execute, baseline::multiply_adds, baseline::cross_entropy,
                                  baseline::drop, baseline::transpose, baseline::add_rows, baseline::widen, baseline::round};
}  // namespace unrolled
