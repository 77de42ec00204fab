#define UNROLLED_NAMESPACE avx2
#define UNROLLED_LANES 8

namespace unrolled::UNROLLED_NAMESPACE {
constexpr int tile_rows = 6;
constexpr int tile_sums = 12;  // accumulators of a tile, in registers
}  // namespace unrolled::UNROLLED_NAMESPACE

#include "kernels_impl.h"

namespace unrolled {
extern const Kernels kernels_avx2;
const Kernels kernels_avx2 = {"avx2", avx2::tile_rows, avx2::multiply, avx2::execute, avx2::multiply_adds, avx2::cross_entropy,
                              avx2::drop, avx2::transpose, avx2::add_rows, avx2::widen, avx2::round};
}  // namespace unrolled
