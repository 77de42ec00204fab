// Products of 8-bit whole numbers: a matrix with a scale for each row times vectors with a scale of their own.
// The sums are exact and what follows is never fused, so every instruction set gives the same bits.
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

constexpr int64_t int8_columns = 8;  // taken together: vectors and panels are filled up to a multiple of it

constexpr int64_t int8_depth(int64_t columns) { return (columns + int8_columns - 1) / int8_columns * int8_columns; }
constexpr int64_t int8_panel_bytes(int64_t columns) { return sizeof(Int8Panel) + int8_depth(columns) * block; }

// result[p][r * result_stride + u] = (accumulate: itself +) row u of panel p times vector r, for all rows and panels.
struct Int8Product {
  int rows, panels;
  int64_t depth;          // int8_depth(columns)
  const int8_t *vectors;  // numbers from -127 to 127, `depth` of each vector, one vector after the other
  const float *vector_scale;
  const Int8Panel *panel[max_panels];
  float *result[max_panels];
  int64_t result_stride;
  bool accumulate;
};

struct Int8Kernels {
  void (*multiply)(const Int8Product &);
  // Rounds `count` numbers to whole ones from -127 to 127, filled up with zeros to int8_depth; returns their scale,
  // which is not a number if one of them is not finite.
  float (*round)(const float *values, int64_t count, int8_t *rounded);
};

const Int8Kernels &int8_kernels();  // those of this machine

}  // namespace unrolled
