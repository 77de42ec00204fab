// One step of a decoder. With a single row the blocks of units take the place of rows, so that an instruction is looked
// at once for many blocks; with more rows a block is worked on row by row, as in training.
#include "decode.h"

#include <algorithm>
#include <cstring>

#include "int8.h"

namespace unrolled {
namespace {

constexpr int line = 64 / sizeof(float);
constexpr int64_t worth_sharing = 8;  // rows that take longer to round than threads to wait for each other

float *aligned(std::vector<float> &floats, size_t count) {
  floats.assign(count + line, 0.0f);
  const auto address = reinterpret_cast<uintptr_t>(floats.data());
  return floats.data() + (64 - address % 64) % 64 / sizeof(float);
}

}  // namespace

WorkMemory::WorkMemory(const unrolled_decoder &decoder, int64_t rows, int threads, bool steps)
    : array(decoder.fixed.size()),
      rows(rows),
      steps(steps),
      share_rounding(!steps && rows >= worth_sharing && threads > 1),
      rounded(share_rounding ? 1 : threads) {
  const int64_t most = rows + steps;
  size_t total = 0;
  for (size_t i = 0; i < array.size(); ++i)
    if (decoder.fixed[i] == nullptr) total += most * decoder.stride(int(i));
  float *next = aligned(floats, total);
  for (size_t i = 0; i < array.size(); ++i) {
    array[i] = decoder.fixed[i] ? const_cast<float *>(decoder.fixed[i]) : next;  // a plan never writes a fixed array
    if (decoder.fixed[i] == nullptr) next += most * decoder.stride(int(i));
  }
  for (size_t i = 0; steps && i < decoder.before.size(); ++i)
    array[decoder.after[i]] = array[decoder.before[i]] + decoder.stride(decoder.before[i]);
  for (std::vector<Rounded> &each : rounded) {
    each.resize(array.size());
    for (const unrolled_product &product : decoder.plan->products) {
      Rounded &to = each[product.vector];
      to.values.resize(decoder.int8 ? most * int8_depth(decoder.width(product.vector)) : 0);
      to.scale.resize(most);
    }
  }
}

Stepper::Stepper(const unrolled_decoder &decoder, WorkMemory &memory, int thread, int threads, Barrier &barrier)
    : decoder_(decoder),
      thread_(thread),
      threads_(threads),
      barrier_(barrier),
      array_(memory.array),
      rows_(memory.rows),
      code_(decoder.plan->instructions.size() + 1),
      share_rounding_(memory.share_rounding),
      rounded_(memory.rounded[memory.share_rounding ? 0 : thread]) {
  // Registers of one stage: max_panels blocks of block_rows rows, or block_rows blocks of one row, whichever it is.
  register_base_ = aligned(registers_, size_t(decoder.plan->registers) * max_panels * block_rows * block);
  given_ = aligned(given_floats_, memory.steps ? rows_ * decoder.given_floats : 0);
}

void Stepper::enter(int64_t row, int32_t token) {
  for (size_t i = 0; i < decoder_.input.size(); ++i) {
    const int to = decoder_.input[i];
    const int64_t stride = decoder_.stride(to);
    std::memcpy(array_[to] + row * stride, decoder_.table[i] + token * stride, stride * sizeof(float));
  }
}

void Stepper::get_state(int64_t row, float *state) const {
  for (int a : decoder_.before) {
    std::memcpy(state, array_[a] + row * decoder_.stride(a), decoder_.width(a) * sizeof(float));
    state += decoder_.width(a);
  }
}

void Stepper::set_state(int64_t row, const float *state) {
  for (int a : decoder_.before) {
    std::memcpy(array_[a] + row * decoder_.stride(a), state, decoder_.width(a) * sizeof(float));
    state += decoder_.width(a);
  }
}

void Stepper::step(int64_t rows, bool all) {
  barrier_.wait(threads_);
  const size_t count = all ? decoder_.stages.size() : size_t(decoder_.state_stages);
  for (size_t i = 0; i < count; ++i) run(decoder_.stages[i], 0, rows);
  for (size_t i = 0; i < decoder_.before.size(); ++i) std::swap(array_[decoder_.before[i]], array_[decoder_.after[i]]);
}

void Stepper::steps(int64_t rows, int64_t first_wanted) {
  barrier_.wait(threads_);
  for (const Segment &segment : decoder_.segments) {
    if (!segment.recurrent) {
      const int64_t first = segment.first >= decoder_.state_stages ? first_wanted : 0;
      if (first < rows) run(decoder_.stages[segment.first], first, rows - first);
      continue;
    }
    for (int s = segment.first; s <= segment.last; ++s) prepare(decoder_.stages[s], rows);
    for (int64_t row = 0; row < rows; ++row)
      for (int s = segment.first; s <= segment.last; ++s) {
        const StepStage &stage = decoder_.stages[s];
        round_vectors(stage.own_vectors, row, 1);
        one_row(stage, row, true);
        barrier_.wait(threads_);
      }
  }
}

void Stepper::run(const StepStage &stage, int64_t row, int64_t rows) {
  round_vectors(stage.given_vectors, row, rows);
  round_vectors(stage.own_vectors, row, rows);
  if (decoder_.int8 && share_rounding_) barrier_.wait(threads_);
  rows == 1 ? one_row(stage, row, false) : many_rows(stage, row, rows);
  barrier_.wait(threads_);
}

void Stepper::my_blocks(const StepStage &stage, int64_t &first, int64_t &last) const {
  const int64_t blocks = (stage.plan->units + block - 1) / block;
  first = blocks * thread_ / threads_;
  last = blocks * (thread_ + 1) / threads_;
}

// The sums of the given terms of all rows.
void Stepper::prepare(const StepStage &stage, int64_t rows) {
  int64_t first, last;
  my_blocks(stage, first, last);
  round_vectors(stage.given_vectors, 0, rows);
  const int64_t stride = (stage.plan->units + block - 1) / block * block;
  for (const StepSums &sums : stage.sums)
    for (int64_t b = first; sums.given > 0 && b < last; b += stage.plan->unit_blocks)
      multiply(sums, 0, sums.given, 0, rows, b, int(std::min<int64_t>(stage.plan->unit_blocks, last - b)), stride,
               [&](int number, int unit_block) { return given_at(sums, number, 0, stride) + (b + unit_block) * block; });
}

void Stepper::one_row(const StepStage &stage, int64_t row, bool prepared) {
  int64_t from, to;
  my_blocks(stage, from, to);
  const int64_t pieces = (to - from + block_rows - 1) / block_rows;
  const int64_t stride = (stage.plan->units + block - 1) / block * block;
  const auto destination = [&](const StepSums &sums, int number) {
    return decoder_.plan->products[sums.product[number]].destination;
  };
  for (int64_t i = 0; i < pieces; ++i) {
    const int64_t first = from + (to - from) * i / pieces, last = from + (to - from) * (i + 1) / pieces;
    for (const StepSums &sums : stage.sums)
      for (int number = 0; prepared && sums.given > 0 && number < sums.registers; ++number)
        std::copy_n(given_at(sums, number, row, stride) + first * block, (last - first) * block,
                    register_at(destination(sums, number), 0));
    for (int64_t b = first; b < last; b += stage.plan->unit_blocks)
      for (const StepSums &sums : stage.sums)
        multiply(sums, prepared ? sums.given : 0, sums.terms, row, 1, b,
                 int(std::min<int64_t>(stage.plan->unit_blocks, last - b)), block, [&](int number, int unit_block) {
                   return register_at(destination(sums, number), b - first + unit_block);
                 });
    execute(*stage.plan, row, 1, first, int(last - first), block);
  }
}

void Stepper::many_rows(const StepStage &stage, int64_t row, int64_t rows) {
  int64_t first, last;
  my_blocks(stage, first, last);
  const int64_t chunks = (rows + block_rows - 1) / block_rows;
  for (int64_t b = first; b < last; b += stage.plan->unit_blocks) {
    const int width = int(std::min<int64_t>(stage.plan->unit_blocks, last - b));
    for (int64_t i = 0; i < chunks; ++i) {
      const int64_t start = row + rows * i / chunks;
      const int count = int(row + rows * (i + 1) / chunks - start);
      for (const StepSums &sums : stage.sums)
        multiply(sums, 0, sums.terms, start, count, b, width, block, [&](int number, int unit_block) {
          return register_at(decoder_.plan->products[sums.product[number]].destination, unit_block * block_rows);
        });
      execute(*stage.plan, start, count, b, width, block_rows * block);
    }
  }
}

float *Stepper::given_at(const StepSums &sums, int number, int64_t row, int64_t stride) const {
  return given_ + (sums.place + number * stride) * rows_ + row * stride;
}

// A register holds max_panels * block_rows rows of a block; `place` is the first of those in use.
float *Stepper::register_at(int operand, int64_t place) const {
  const int number = operand - int(decoder_.plan->arrays.size());
  return register_base_ + (int64_t(number) * max_panels * block_rows + place) * block;
}

// The terms from `first_term` on of all registers of the sums, for `width` blocks of units; the result of a register and
// block goes to `to(number of the register, number of the block)`.
template <class To>
void Stepper::multiply(const StepSums &sums, int first_term, int last_term, int64_t row, int64_t rows,
                       int64_t first_block, int width, int64_t result_stride, To to) {
  if (decoder_.int8) {
    for (int t = first_term; t < last_term; ++t)
      multiply_int8(sums, t, row, rows, first_block, width, result_stride, to);
    return;
  }
  const unrolled_product *products = decoder_.plan->products.data();
  Product p{};
  p.rows = int(rows);
  p.result_stride = result_stride;
  for (int t = first_term; t < last_term; t += p.terms) {
    p.terms = std::min(max_terms, last_term - t);
    p.accumulate = sums.accumulate || t > 0;
    for (int k = 0; k < p.terms; ++k) {
      const int index = products[sums.product[(t + k) * sums.registers]].vector;
      const unrolled_array &vector = decoder_.plan->arrays[index];
      const ptrdiff_t row_stride = vector.addressing == UNROLLED_BROADCAST ? 0 : vector.stride;
      p.term[k] = {vector.width, array_[index] + row * row_stride, row_stride, 1, block, {}};
    }
    for (int i = 0; i < sums.registers * width; ++i) {
      const int number = i % sums.registers, unit_block = i / sums.registers;
      for (int k = 0; k < p.terms; ++k)
        p.term[k].panel[p.panels] =
            static_cast<const float *>(decoder_.matrix[products[sums.product[(t + k) * sums.registers + number]].matrix]) +
            (first_block + unit_block) * block * p.term[k].depth;
      p.result[p.panels] = to(number, unit_block);
      if (++p.panels == max_panels || i + 1 == sums.registers * width) {
        kernels().multiply(p);
        p.panels = 0;
      }
    }
  }
}

template <class To>
void Stepper::multiply_int8(const StepSums &sums, int term, int64_t row, int64_t rows, int64_t first_block, int width,
                            int64_t result_stride, To to) {
  const unrolled_product *products = decoder_.plan->products.data();
  const int vector = products[sums.product[term * sums.registers]].vector;
  const int64_t columns = decoder_.width(vector);
  Int8Product p{};
  p.rows = int(rows);
  p.depth = int8_depth(columns);
  p.vectors = rounded_[vector].values.data() + row * p.depth;
  p.vector_scale = rounded_[vector].scale.data() + row;
  p.result_stride = result_stride;
  p.accumulate = sums.accumulate || term > 0;
  for (int i = 0; i < sums.registers * width; ++i) {
    const int number = i % sums.registers, unit_block = i / sums.registers;
    const auto *matrix =
        static_cast<const char *>(decoder_.matrix[products[sums.product[term * sums.registers + number]].matrix]);
    p.panel[p.panels] =
        reinterpret_cast<const Int8Panel *>(matrix + (first_block + unit_block) * int8_panel_bytes(columns));
    p.result[p.panels] = to(number, unit_block);
    if (++p.panels == max_panels || i + 1 == sums.registers * width) {
      int8_kernels().multiply(p);
      p.panels = 0;
    }
  }
}

void Stepper::round_vectors(const std::vector<int32_t> &arrays, int64_t row, int64_t rows) {
  if (!decoder_.int8) return;
  const int64_t first = row + (share_rounding_ ? rows * thread_ / threads_ : 0);
  const int64_t last = row + (share_rounding_ ? rows * (thread_ + 1) / threads_ : rows);
  for (int32_t a : arrays) {
    const int64_t columns = decoder_.width(a);
    const int64_t stride = decoder_.plan->arrays[a].addressing == UNROLLED_BROADCAST ? 0 : decoder_.stride(a);
    for (int64_t r = first; r < last; ++r)
      rounded_[a].scale[r] = int8_kernels().round(array_[a] + r * stride, columns,
                                                  rounded_[a].values.data() + r * int8_depth(columns));
  }
}

void Stepper::execute(const Stage &stage, int64_t row, int rows, int64_t first_block, int blocks,
                      ptrdiff_t between_blocks) {
  const unrolled_plan &plan = *decoder_.plan;
  const auto operand = [&](int index) -> Operand {
    if (index >= int(plan.arrays.size())) return {register_at(index, 0), block, between_blocks};
    const bool broadcast = plan.arrays[index].addressing == UNROLLED_BROADCAST;
    const int64_t stride = broadcast ? 0 : plan.arrays[index].stride;
    return {array_[index] + row * stride + first_block * block, stride, block};
  };
  for (size_t i = 0; i < stage.code.size(); ++i) {
    const Step &from = stage.code[i];
    code_[i] = {from.opcode, operand(from.destination), operand(from.a), operand(from.b), from.then, operand(from.c)};
  }
  kernels().execute(code_.data(), int(stage.code.size()), {rows, 0, blocks});
}

}  // namespace unrolled
