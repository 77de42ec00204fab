// A decoder: a plan of a model's whole step, its weights, and which arrays are what.
#pragma once

#include <memory>
#include <vector>

#include "plan.h"
#include "threads.h"

namespace unrolled {

// Sums of products of which the first `given` terms do not wait for the step before: they read tokens, or what earlier
// segments made.
struct StepSums : Sums {
  int given;
  int64_t place;  // where the sums of the given terms are kept, in floats of a row
};

struct StepStage {
  const Stage *plan;
  std::vector<StepSums> sums;
  std::vector<int32_t> given_vectors, own_vectors;  // arrays that the given and the other terms read
};

// Consecutive stages that may run for many steps before the next segment runs for any. A recurrent one reads what it
// made in the step before.
struct Segment {
  int first, last;  // stages first .. last
  bool recurrent;
};

}  // namespace unrolled

struct unrolled_decoder {
  const unrolled_plan *plan;
  std::vector<const void *> matrix;
  bool int8;  // what the matrices hold
  std::vector<const float *> fixed, table;
  std::vector<int32_t> before, after, input;
  int logits, state_stages;
  int64_t vocabulary, state_size;
  std::vector<unrolled::StepStage> stages;
  std::vector<unrolled::Segment> segments;
  int64_t given_floats;  // of a row, for the given terms of a segment
  bool by_segments;      // arrays are such that many steps may be made segment by segment

  int64_t stride(int array) const { return plan->arrays[array].stride; }
  int64_t width(int array) const { return plan->arrays[array].width; }
};

namespace unrolled {

void find_segments(unrolled_decoder &decoder);

// Rows of an array as whole numbers of 8 bits.
struct Rounded {
  std::vector<int8_t> values;
  std::vector<float> scale;  // of each row
};

// Rows of all arrays that a call makes. Each thread has pointers to them of its own.
struct WorkMemory {
  std::vector<float> floats;
  std::vector<float *> array;  // by the plan's numbers; of the fixed ones their row
  // Of the int8 form, by array: what products read. Many rows are shared out among the threads; a few each thread
  // rounds for itself, which is sooner done than waiting for another.
  int64_t rows;
  bool steps, share_rounding;
  std::vector<std::vector<Rounded>> rounded;  // by thread, or one for all

  // Row r belongs to stream r; or if `steps`, to step r of one stream, whose states each go on from the row before.
  WorkMemory(const unrolled_decoder &decoder, int64_t rows, int threads, bool steps);
};

// One thread's part of every step: its share of the units of each stage.
class Stepper {
 public:
  Stepper(const unrolled_decoder &decoder, WorkMemory &memory, int thread, int threads, Barrier &barrier);

  // Puts a token's rows of the tables where the step reads them.
  void enter(int64_t row, int32_t token);
  // The step for rows 0 .. rows-1, each of a stream of its own, which all threads run together, after waiting for each
  // other; `all` stages, or those that make the new states.
  void step(int64_t rows, bool all);
  // Of one stream the steps of rows 0 .. rows-1, segment by segment; logits of the rows from `first_wanted` on.
  void steps(int64_t rows, int64_t first_wanted);
  // The states that the step of a row starts from. After `step` the new ones have taken their place, after `steps` they
  // are those of the row after.
  void get_state(int64_t row, float *state) const;
  void set_state(int64_t row, const float *state);
  float *logits(int64_t row) const { return array_[decoder_.logits] + row * decoder_.stride(decoder_.logits); }

 private:
  void run(const StepStage &stage, int64_t row, int64_t rows);
  void prepare(const StepStage &stage, int64_t rows);
  void one_row(const StepStage &stage, int64_t row, bool prepared);
  void many_rows(const StepStage &stage, int64_t row, int64_t rows);
  void my_blocks(const StepStage &stage, int64_t &first, int64_t &last) const;
  template <class To>
  void multiply(const StepSums &sums, int first_term, int last_term, int64_t row, int64_t rows, int64_t first_block,
                int width, int64_t result_stride, To to);
  template <class To>
  void multiply_int8(const StepSums &sums, int term, int64_t row, int64_t rows, int64_t first_block, int width,
                     int64_t result_stride, To to);
  void round_vectors(const std::vector<int32_t> &arrays, int64_t row, int64_t rows);
  void execute(const Stage &stage, int64_t row, int rows, int64_t first_block, int blocks, ptrdiff_t between_blocks);
  float *register_at(int operand, int64_t place) const;
  float *given_at(const StepSums &sums, int number, int64_t row, int64_t stride) const;

  const unrolled_decoder &decoder_;
  const int thread_, threads_;
  Barrier &barrier_;
  std::vector<float *> array_;
  std::vector<float> registers_, given_floats_;
  float *register_base_, *given_;
  const int64_t rows_;
  std::vector<Pointwise> code_;
  const bool share_rounding_;
  std::vector<Rounded> &rounded_;  // by array
};

}  // namespace unrolled
