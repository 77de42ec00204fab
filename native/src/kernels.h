// What an instruction set offers to the engine: a product on panels and a run of pointwise instructions on a block.
#pragma once

#include <cstddef>
#include <cstdint>

#include "unrolled.h"

namespace unrolled {

constexpr int block = UNROLLED_BLOCK;  // units of a block, columns of a panel
constexpr int block_rows = 24;         // rows of a block: what the pointwise code touches stays in the first cache
constexpr int max_panels = 4;          // panels that share one pass over the left operand

// results[p] (rows x 16) = (accumulate: itself +) a (rows x depth) times panels[p] (depth x 16), for each panel p.
struct Product {
  int rows, panels;
  int64_t depth;
  const float *a;
  ptrdiff_t row_stride, depth_stride;  // of `a`
  const float *panel[max_panels];
  ptrdiff_t panel_stride;
  float *result[max_panels];
  ptrdiff_t result_stride;
  bool accumulate;
};

struct Operand {
  float *data;
  ptrdiff_t stride;  // 0: one row for all
};

struct Pointwise {
  int32_t opcode;
  Operand destination, a, b;
};

struct Kernels {
  const char *name;
  int tile_rows;
  void (*multiply)(const Product &);
  void (*execute)(const Pointwise *code, int count, int rows);
  double (*multiply_adds)(int64_t rounds);  // returns the floating-point operations of so many rounds on registers
};

const Kernels &kernels();  // those of this machine

}  // namespace unrolled
