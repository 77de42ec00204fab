// What one thread of a run does.
#pragma once

#include <memory>
#include <vector>

#include "run.h"

namespace unrolled {

// The vectors of a product, one for each row, as its left operand.
struct Left {
  const float *first;
  ptrdiff_t row_stride, block_stride;
  int64_t depth;
};

class Worker {
 public:
  // It owns a part of the units in every stage. `rounded`: of bfloat16, the memory that all parts share for vectors.
  Worker(const Run &run, int thread, int part, int parts, float *rounded);

  // Finds the vectors of the stage's products for rows [first_row, last_row); those of bfloat16 are rounded, of which all
  // parts must have done theirs before the stage.
  void find_vectors(size_t number, int64_t step, int64_t first_row, int64_t last_row);
  // The stage at `step` for the rows of its vectors.
  void stage(size_t number, int64_t step, int64_t first_row, int64_t last_row);

 private:
  float *register_at(int operand, int unit_block) const;
  Operand operand(int index, int64_t step, int64_t row, int64_t unit_block) const;
  void fetch_vectors(size_t number, int64_t row, int rows);
  void look_ahead(const Stage &stage, int64_t step, int64_t row, int rows, Range units, int64_t piece, int64_t pieces);
  void multiply(const Sums &sums, int64_t row, int rows, int64_t first_block, int width);
  void gather(const Stage &stage, int64_t step, int64_t row, int rows, int64_t unit_block, int place);
  void resolve(const Stage &stage, int64_t step, int64_t row, int64_t unit_block);

  const Run &run_;
  int thread_, part_, parts_;
  float *rounded_;
  std::vector<Pointwise> code_;
  std::vector<Left> left_;  // by array; those of the stage's vectors are right
  std::vector<float *> gathered_;  // by array; those of the stage's indexed ones are right
  std::vector<Lines> lines_;
  Ahead ahead_{};  // of lines_
  void (*multiply_)(const Product &);
  std::unique_ptr<float[]> registers_;  // nothing is read before it is written
  float *register_base_;
  ptrdiff_t between_blocks_ = 0;  // floats between a register's blocks of units
};

}  // namespace unrolled
