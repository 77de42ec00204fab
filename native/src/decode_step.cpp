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

bool two_arguments(int opcode) {
  return opcode == UNROLLED_ADD || opcode == UNROLLED_SUB || opcode == UNROLLED_MUL || opcode == UNROLLED_DIV ||
         opcode == UNROLLED_MAXIMUM || opcode == UNROLLED_MINIMUM;
}

}  // namespace

WorkMemory::WorkMemory(const unrolled_decoder &decoder, int64_t rows, int threads)
    : array(decoder.fixed.size()),
      share_rounding(rows >= worth_sharing && threads > 1),
      rounded(share_rounding ? 1 : threads) {
  size_t total = 0;
  for (size_t i = 0; i < array.size(); ++i)
    if (decoder.fixed[i] == nullptr) total += rows * decoder.stride(int(i));
  float *next = aligned(floats, total);
  for (size_t i = 0; i < array.size(); ++i) {
    array[i] = decoder.fixed[i] ? const_cast<float *>(decoder.fixed[i]) : next;  // a plan never writes a fixed array
    if (decoder.fixed[i] == nullptr) next += rows * decoder.stride(int(i));
  }
  for (std::vector<Rounded> &each : rounded) {
    each.resize(array.size());
    for (const std::vector<int32_t> &arrays : decoder.rounded)
      for (int32_t a : arrays) {
        each[a].values.resize(rows * int8_depth(decoder.width(a)));
        each[a].scale.resize(rows);
      }
  }
}

Stepper::Stepper(const unrolled_decoder &decoder, WorkMemory &memory, int thread, int threads, Barrier &barrier)
    : decoder_(decoder),
      thread_(thread),
      threads_(threads),
      barrier_(barrier),
      array_(memory.array),
      code_(decoder.plan->instructions.size() + 1),
      share_rounding_(memory.share_rounding),
      rounded_(memory.rounded[memory.share_rounding ? 0 : thread]) {
  // Registers of one stage: max_panels blocks of block_rows rows, or block_rows blocks of one row, whichever it is.
  register_base_ = aligned(registers_, size_t(decoder.plan->registers) * max_panels * block_rows * block);
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
  const std::vector<Stage> &stages = decoder_.plan->stages;
  const size_t count = all ? stages.size() : size_t(decoder_.state_stages);
  for (size_t i = 0; i < count; ++i) {
    const int64_t blocks = (stages[i].units + block - 1) / block;
    const int64_t first = blocks * thread_ / threads_, last = blocks * (thread_ + 1) / threads_;
    if (decoder_.int8) round_vectors(decoder_.rounded[i], rows);
    if (first < last) rows == 1 ? one_row(stages[i], first, last) : many_rows(stages[i], rows, first, last);
    barrier_.wait(threads_);
  }
  for (size_t i = 0; i < decoder_.before.size(); ++i) std::swap(array_[decoder_.before[i]], array_[decoder_.after[i]]);
}

void Stepper::one_row(const Stage &stage, int64_t first_block, int64_t last_block) {
  const int64_t pieces = (last_block - first_block + block_rows - 1) / block_rows;
  for (int64_t i = 0; i < pieces; ++i) {
    const int64_t first = first_block + (last_block - first_block) * i / pieces;
    const int64_t last = first_block + (last_block - first_block) * (i + 1) / pieces;
    for (int64_t b = first; b < last; b += stage.unit_blocks)
      for (const ProductGroup &group : stage.groups)
        multiply(group, 0, 1, b, int(std::min<int64_t>(stage.unit_blocks, last - b)), b - first);
    execute(stage, 0, first, 0, int(last - first), true);
  }
}

void Stepper::many_rows(const Stage &stage, int64_t rows, int64_t first_block, int64_t last_block) {
  const int64_t chunks = (rows + block_rows - 1) / block_rows;
  for (int64_t b = first_block; b < last_block; b += stage.unit_blocks) {
    const int width = int(std::min<int64_t>(stage.unit_blocks, last_block - b));
    for (int64_t i = 0; i < chunks; ++i) {
      const int64_t row = rows * i / chunks;
      const int count = int(rows * (i + 1) / chunks - row);
      for (const ProductGroup &group : stage.groups) multiply(group, row, count, b, width, -1);
      for (int j = 0; j < width; ++j) execute(stage, row, b + j, j * block_rows, count, false);
    }
  }
}

// A register holds max_panels * block_rows rows of a block; `place` is the first of those in use.
float *Stepper::register_at(int operand, int64_t place) const {
  const int number = operand - int(decoder_.plan->arrays.size());
  return register_base_ + (int64_t(number) * max_panels * block_rows + place) * block;
}

// Results of block j go to place j * block_rows, or if `first_place` is given (one row) to first_place + j.
void Stepper::multiply(const ProductGroup &group, int64_t row, int rows, int64_t first_block, int width,
                       int64_t first_place) {
  if (decoder_.int8) return multiply_int8(group, row, rows, first_block, width, first_place);
  const unrolled_plan &plan = *decoder_.plan;
  const unrolled_product *product = plan.products.data() + group.first;
  const unrolled_array &vector = plan.arrays[product->vector];
  Product p{};
  p.rows = rows;
  p.terms = 1;
  const ptrdiff_t row_stride = vector.addressing == UNROLLED_BROADCAST ? 0 : vector.stride;
  p.term[0] = {vector.width, array_[product->vector] + row * row_stride, row_stride, 1, block, {}};
  p.result_stride = block;
  p.accumulate = product->accumulate;
  for (int i = 0; i < group.count * width; ++i) {
    const unrolled_product &q = product[i % group.count];
    const int unit_block = i / group.count;
    p.term[0].panel[p.panels] =
        static_cast<const float *>(decoder_.matrix[q.matrix]) + (first_block + unit_block) * block * vector.width;
    p.result[p.panels] = register_at(q.destination, first_place < 0 ? unit_block * block_rows : first_place + unit_block);
    if (++p.panels == max_panels || i + 1 == group.count * width) {
      kernels().multiply(p);
      p.panels = 0;
    }
  }
}

void Stepper::round_vectors(const std::vector<int32_t> &arrays, int64_t rows) {
  const int64_t first = share_rounding_ ? rows * thread_ / threads_ : 0;
  const int64_t last = share_rounding_ ? rows * (thread_ + 1) / threads_ : rows;
  for (int32_t a : arrays) {
    const int64_t columns = decoder_.width(a);
    const int64_t stride = decoder_.plan->arrays[a].addressing == UNROLLED_BROADCAST ? 0 : decoder_.stride(a);
    for (int64_t r = first; r < last; ++r)
      rounded_[a].scale[r] = int8_kernels().round(array_[a] + r * stride, columns,
                                                  rounded_[a].values.data() + r * int8_depth(columns));
  }
  if (share_rounding_ && !arrays.empty()) barrier_.wait(threads_);
}

void Stepper::multiply_int8(const ProductGroup &group, int64_t row, int rows, int64_t first_block, int width,
                            int64_t first_place) {
  const unrolled_product *product = decoder_.plan->products.data() + group.first;
  const int64_t columns = decoder_.width(product->vector);
  const Rounded &from = rounded_[product->vector];
  Int8Product p{};
  p.rows = rows;
  p.depth = int8_depth(columns);
  p.vectors = from.values.data() + row * p.depth;
  p.vector_scale = from.scale.data() + row;
  p.accumulate = product->accumulate;
  for (int i = 0; i < group.count * width; ++i) {
    const unrolled_product &q = product[i % group.count];
    const int unit_block = i / group.count;
    p.panel[p.panels] = reinterpret_cast<const Int8Panel *>(static_cast<const char *>(decoder_.matrix[q.matrix]) +
                                                            (first_block + unit_block) * int8_panel_bytes(columns));
    p.result[p.panels] = register_at(q.destination, first_place < 0 ? unit_block * block_rows : first_place + unit_block);
    if (++p.panels == max_panels || i + 1 == group.count * width) {
      int8_kernels().multiply(p);
      p.panels = 0;
    }
  }
}

void Stepper::execute(const Stage &stage, int64_t row, int64_t first_block, int place, int count, bool blocks_as_rows) {
  const unrolled_plan &plan = *decoder_.plan;
  const auto operand = [&](int index) -> Operand {
    if (index >= int(plan.arrays.size())) return {register_at(index, place), block};
    float *first = array_[index] + first_block * block;
    if (blocks_as_rows) return {first, block};
    if (plan.arrays[index].addressing == UNROLLED_BROADCAST) return {first, 0};
    return {first + row * plan.arrays[index].stride, plan.arrays[index].stride};
  };
  const unrolled_instruction *from = plan.instructions.data() + stage.first_instruction;
  for (int i = 0; i < stage.instructions; ++i) {
    const Operand a = operand(from[i].a);
    code_[i] = {from[i].opcode, operand(from[i].destination), a, two_arguments(from[i].opcode) ? operand(from[i].b) : a};
  }
  kernels().execute(code_.data(), stage.instructions, count);
}

}  // namespace unrolled
