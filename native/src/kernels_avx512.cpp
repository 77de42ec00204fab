#define UNROLLED_NAMESPACE avx512
#define UNROLLED_LANES 16

namespace unrolled::UNROLLED_NAMESPACE {
constexpr int tile_rows = 8;
constexpr int tile_sums = 24;  // accumulators of a tile, in registers
}  // namespace unrolled::UNROLLED_NAMESPACE

#include "kernels_impl.h"

namespace unrolled {
extern const Kernels kernels_avx512;
const Kernels kernels_avx512 = {"avx512", avx512::tile_rows, avx512::multiply, avx512::execute, avx512::multiply_adds, avx512::cross_entropy,
                                avx512::drop, avx512::transpose, avx512::add_rows, avx512::widen, avx512::round};
}  // namespace unrolled
