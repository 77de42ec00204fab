// What an instruction set offers to the engine: a product on panels and a run of pointwise instructions on a block.
#pragma once

#include <cstddef>
#include <cstdint>

#include "unrolled.h"

namespace unrolled {

constexpr int block = UNROLLED_BLOCK;  // units of a block, columns of a panel
constexpr int block_rows = 32;         // rows of a block: what the pointwise code touches stays in the first cache
constexpr int tile_panels = 3;         // panels of a tile that has all its rows
constexpr int max_panels = 12;         // panels that share one pass over the left operand
constexpr int max_terms = 8;           // terms that are summed up in registers

// A term of a sum of products: `a` (rows x depth) times the panels (depth x 16).
// Element (r, k) of `a` is at r * row_stride + k / 16 * block_stride + k % 16 * depth_stride.
struct Term {
  int64_t depth;
  const float *a;
  ptrdiff_t row_stride, depth_stride, block_stride;
  const float *panel[max_panels];
};

// Rows of a block of units: lines of the cache, so many floats apart.
struct Lines {
  const float *first;
  ptrdiff_t stride;
  int count;
  bool write;  // to be written: no other core may keep them
};

// What will be touched soon, to be fetched while products are computed: so many lines `at_once` in 16 of the depth.
struct Ahead {
  const Lines *next, *end;
  int done, at_once;  // done: lines of `next`
};

// result[p] (rows x 16) = (accumulate: itself +) the sum of all terms with their panel p, for each panel p.
struct Product {
  int rows, panels, terms;
  Term term[max_terms];
  float *result[max_panels];
  ptrdiff_t result_stride;
  bool accumulate;
  Ahead *ahead;  // or null
};

struct Operand {
  float *data;
  ptrdiff_t stride;        // from row to row; 0: one row for all
  ptrdiff_t block_stride;  // from block of units to block of units
};

// destination = opcode(a, b), and then: the result is the first argument of `then` beside `c`; of subtract_from the second.
struct Pointwise {
  int32_t opcode;
  Operand destination, a, b;
  int32_t then = UNROLLED_COPY;
  Operand c = {};
};

// What steps work on: so many rows of the blocks first .. last - 1, counted from where their operands begin.
struct Extent {
  int rows, first, last;
};

constexpr int32_t subtract_from = -1;

// Whether the engine has the two operations as one.
inline bool pairs_with(int32_t opcode, int32_t then) {
  const bool first = opcode == UNROLLED_ADD || opcode == UNROLLED_SUB || opcode == UNROLLED_MUL;
  switch (then) {
    case UNROLLED_ADD: case UNROLLED_SUB: case UNROLLED_MUL: case subtract_from: return first;
    case UNROLLED_SIGMOID: case UNROLLED_TANH: return opcode == UNROLLED_ADD;
    default: return false;
  }
}

inline float *row_of(const unrolled_rows &rows, int64_t i) {
  return rows.data + (rows.index ? rows.index[i] : i) * rows.row_stride;
}

// From word to word of a sequence of random ones (SplitMix64, Steele et al. 2014).
constexpr uint64_t random_step = 0x9e3779b97f4a7c15u;

struct Kernels {
  const char *name;
  int tile_rows;
  void (*multiply)(const Product &);
  void (*execute)(const Pointwise *code, int count, Extent extent);
  double (*multiply_adds)(int64_t rounds);  // returns the floating-point operations of so many rounds on registers
  // Returns the cross-entropy of `count` logits; they become its gradient times `scale`.
  float (*cross_entropy)(float *logits, int64_t count, int64_t target, float scale);
  // A random byte for each of `count` numbers, eight from each word of the sequence of `seed`: below `dropped` it is 0,
  // else times `scale`.
  void (*drop)(const float *from, float *to, int64_t count, uint64_t seed, int dropped, float scale);
  void (*transpose)(const float *from, ptrdiff_t row_stride, float *to);  // 16 x 16 floats; the rows of `to` are neighbours
  void (*add_rows)(const unrolled_rows &to, const unrolled_rows &from, int64_t rows, int64_t unit_block);  // of 16 units each
  void (*widen)(const uint16_t *from, int64_t count, float *to);  // from bfloat16
  void (*round)(const float *from, int64_t count, uint16_t *to);  // to the nearest bfloat16, of two the even one
};

const Kernels &kernels();  // those of this machine

}  // namespace unrolled
