// A decoder: a plan of a model's whole step, its weights, and which arrays are what.
#pragma once

#include <memory>
#include <vector>

#include "plan.h"
#include "threads.h"

struct unrolled_decoder {
  const unrolled_plan *plan;
  std::vector<const void *> matrix;
  bool int8;  // what the matrices hold
  std::vector<const float *> fixed, table;
  std::vector<int32_t> before, after, input;
  std::vector<std::vector<int32_t>> rounded;  // of the int8 form, by stage: the arrays that its products read
  int logits, state_stages;
  int64_t vocabulary, state_size;

  int64_t stride(int array) const { return plan->arrays[array].stride; }
  int64_t width(int array) const { return plan->arrays[array].width; }
};

namespace unrolled {

// Rows of an array as whole numbers of 8 bits.
struct Rounded {
  std::vector<int8_t> values;
  std::vector<float> scale;  // of each row
};

// Rows of all arrays that a call makes; row r belongs to stream r. Each thread has pointers to them of its own.
struct WorkMemory {
  std::vector<float> floats;
  std::vector<float *> array;  // by the plan's numbers; of the fixed ones their row
  // Of the int8 form, by array: what products read. Many rows are shared out among the threads; a few each thread
  // rounds for itself, which is sooner done than waiting for another.
  bool share_rounding;
  std::vector<std::vector<Rounded>> rounded;  // by thread, or one for all

  WorkMemory(const unrolled_decoder &decoder, int64_t rows, int threads);
};

// One thread's part of every step: its share of the units of each stage.
class Stepper {
 public:
  Stepper(const unrolled_decoder &decoder, WorkMemory &memory, int thread, int threads, Barrier &barrier);

  // Puts a token's rows of the tables where the step reads them.
  void enter(int64_t row, int32_t token);
  // The step for rows 0 .. rows-1, which all threads run together, after waiting for each other; `all` stages, or
  // those that make the new states.
  void step(int64_t rows, bool all);
  // The states as they are after the last step.
  void get_state(int64_t row, float *state) const;
  void set_state(int64_t row, const float *state);
  float *logits(int64_t row) const { return array_[decoder_.logits] + row * decoder_.stride(decoder_.logits); }

 private:
  void one_row(const Stage &stage, int64_t first_block, int64_t last_block);
  void many_rows(const Stage &stage, int64_t rows, int64_t first_block, int64_t last_block);
  void multiply(const ProductGroup &group, int64_t row, int rows, int64_t first_block, int width, int64_t first_place);
  void multiply_int8(const ProductGroup &group, int64_t row, int rows, int64_t first_block, int width,
                     int64_t first_place);
  void round_vectors(const std::vector<int32_t> &arrays, int64_t rows);
  void execute(const Stage &stage, int64_t row, int64_t first_block, int place, int count, bool blocks_as_rows);
  float *register_at(int operand, int64_t place) const;

  const unrolled_decoder &decoder_;
  const int thread_, threads_;
  Barrier &barrier_;
  std::vector<float *> array_;
  std::vector<float> registers_;
  float *register_base_;
  std::vector<Pointwise> code_;
  const bool share_rounding_;
  std::vector<Rounded> &rounded_;  // by array
};

}  // namespace unrolled
