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
  Worker(const Run &run, int thread);

  // The stage at `step` for rows [first_row, last_row) and blocks of units [first_block, last_block).
  void stage(size_t number, int64_t step, int64_t first_row, int64_t last_row, int64_t first_block, int64_t last_block);

 private:
  float *register_at(int operand, int unit_block) const;
  Operand operand(int index, int64_t step, int64_t row, int64_t unit_block, int place) const;
  void find_vectors(const Stage &stage, int64_t step, int64_t first_row, int64_t rows);
  void look_ahead(const Stage &stage, int64_t step, int64_t row, int rows, int64_t first_block, int width);
  void multiply(const Sums &sums, int64_t row, int rows, int64_t first_block, int width);
  void gather(const Stage &stage, int64_t step, int64_t row, int rows, int64_t unit_block, int place);
  void resolve(const Stage &stage, int64_t step, int64_t row, int64_t unit_block, int place);

  const Run &run_;
  int thread_;
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
