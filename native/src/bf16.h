// Products of bfloat16, the upper half of a float: factors are rounded to it, sums stay float32.
// Numbers lie in pairs, two neighbours along the depth of a product in the 32 bits of a float; a Product of pairs is
// one of floats whose depth counts pairs.
#pragma once

#include <cstdint>

#include "kernels.h"

namespace unrolled {

constexpr int pair_block = 2 * block;  // numbers in a row of a block of pairs

struct Bf16Kernels {
  void (*multiply)(const Product &);
  // Neighbouring units of an array's rows, the first of which is at `from`, as an array of pairs: those of blocks 2k and
  // 2k + 1 and row r at pairs[(k * rows + r) * 16]. Zeros follow the last of `width` units. Blocks of `from` are
  // block_stride apart. Only blocks [first, last) are read, and only theirs written.
  void (*pair_units)(const float *from, int64_t rows, int64_t width, int64_t block_stride, int64_t first, int64_t last,
                     float *pairs);
  // Neighbouring rows of a block of 16 units, row after row: those of rows 2k and 2k + 1 at pairs[k * 16]. A zero follows
  // the last row.
  void (*pair_rows)(const float *from, int64_t rows, float *pairs);
};

const Bf16Kernels *bf16_kernels();  // those of this machine, or null

inline int64_t pairs_of(int64_t numbers) { return (numbers + 1) / 2; }
// Floats of an array of pairs of units.
inline int64_t paired_size(int64_t rows, int64_t width) { return (width + pair_block - 1) / pair_block * rows * block; }

// Memory of this thread for pairs, at least so many floats; what lay there before a call is lost.
float *pairs_memory(int64_t floats);

}  // namespace unrolled
