// What all threads of a run share: who does what, and where a stage has to wait.
#pragma once

#include <algorithm>
#include <deque>
#include <vector>

#include "plan.h"
#include "threads.h"

namespace unrolled {

inline int64_t blocks_of(int64_t units) { return (units + block - 1) / block; }

struct Range {
  int64_t first, last;
};

// One of `parts` nearly equal parts of an array's blocks of units.
inline Range part_of(int64_t units, int part, int parts) {
  const int64_t blocks = blocks_of(units);
  return {blocks * part / parts, blocks * (part + 1) / parts};
}

// Threads stand in a grid: a row group has its own sequences and waits for nobody outside it.
struct Grid {
  int row_groups, unit_groups;
  std::vector<int64_t> first_row;  // row_groups + 1
};

// What a stage owes to those before it.
struct Before {
  bool wait = false;          // until all threads of the row group have done them
  bool same_vectors = false;  // as the one right before it, and unchanged
};

struct Run {
  const unrolled_plan &plan;
  const unrolled_run_arguments &given;
  Grid grid{};
  std::deque<Barrier> barriers;
  std::vector<Before> before;  // by stage
  std::vector<bool> constant;  // by array: nobody writes its memory
  // Of bfloat16: where the rounded vectors of a stage lie in the memory of a row group, which holds two steps of these
  // many floats: a thread may begin the next step while others still read this one.
  std::vector<int64_t> rounded_at;
  int64_t rounded_floats = 0;
  float *rounded = nullptr;

  Run(const unrolled_plan &plan, const unrolled_run_arguments &given);

  int64_t offset(int array, int64_t step) const {
    const int32_t table = plan.arrays[array].table;
    return table < 0 ? 0 : given.offsets[table * given.steps + step];
  }
  // Row `row` of a step of an array that has rows, at a block of units, and the rows and blocks after it.
  Operand at(int array, int64_t step, int64_t row, int64_t unit_block) const {
    const bool outside = plan.arrays[array].addressing == UNROLLED_OUTSIDE;
    const ptrdiff_t stride = outside ? given.row_stride[array] : block;
    const ptrdiff_t block_stride = outside ? block : given.array_rows[array] * block;
    const int64_t first = outside ? offset(array, step) + row * stride : (offset(array, step) + row) * stride;
    return {given.array[array] + first + unit_block * block_stride, stride, block_stride};
  }

 private:
  bool shared(int a, int b) const { return given.array[a] == given.array[b]; }
  bool any_shared(const std::vector<int> &some, const std::vector<int> &others) const;
  bool overlap(int a, int b, int later) const;
  void find_waits();
  void place_rounded();
};

}  // namespace unrolled
