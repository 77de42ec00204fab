// Products of 8-bit whole numbers: a matrix with a scale for each row times vectors with a scale of their own.
// The sums are exact, so every instruction set gives the same ones.
#pragma once

#include <cstdint>

#include "kernels.h"

namespace unrolled {

// A panel of 16 rows: their scales, 128 times the sums of their weights, and the weights by fours of columns:
// weight[k / 4][row][k % 4]. The columns beyond the last are zero.
struct Int8Panel {
  float scale[block];
  int32_t offset[block];
  int8_t weight[];
};

constexpr int64_t int8_depth(int64_t columns) { return (columns + 3) / 4 * 4; }
constexpr int64_t int8_panel_bytes(int64_t columns) { return sizeof(Int8Panel) + int8_depth(columns) * block; }

constexpr int int8_rows = 4;  // vectors that a kernel takes together

// result[r * block + u] = (accumulate: itself +) panel row u times vector r, for r < rows <= int8_rows. The vectors
// have int8_depth(columns) numbers from -127 to 127 and stand `stride` bytes apart.
using Int8Multiply = void (*)(const Int8Panel &panel, int64_t depth, const int8_t *vectors, int64_t stride,
                              const float *vector_scale, int rows, float *result, bool accumulate);

Int8Multiply int8_multiply();  // of this machine

// Rounds `count` numbers to whole ones from -127 to 127, filled up with zeros to int8_depth; returns their scale.
float int8_round(const float *values, int64_t count, int8_t *rounded);

}  // namespace unrolled
