// Stages: products and the instructions that follow them, by blocks of units and chunks of rows.
#include "worker.h"

#include <algorithm>
#include <cstring>

#include "bf16.h"

namespace unrolled {
namespace {

constexpr int register_size = block_rows * block;
constexpr int at_least = 4;  // lines for every 16 of the depth: a tile gets the vectors of the next one
constexpr int executed_rows = 48;  // rows of all blocks that instructions take at once: registers stay in the first cache

}  // namespace

Worker::Worker(const Run &run, int thread, int part, int parts, float *rounded)
    : run_(run), thread_(thread), part_(part), parts_(parts), rounded_(rounded),
      code_(run.plan.instructions.size()), left_(run.plan.arrays.size()), gathered_(run.plan.arrays.size()),
      multiply_(run.plan.bf16 ? bf16_kernels()->multiply : kernels().multiply) {
  int unit_blocks = 1;
  for (const Stage &stage : run.plan.stages) unit_blocks = std::max(unit_blocks, stage.unit_blocks);
  registers_.reset(new float[size_t(unit_blocks) * run.plan.all_registers * register_size + block]);
  const auto address = reinterpret_cast<uintptr_t>(registers_.get());
  register_base_ = registers_.get() + (64 - address % 64) % 64 / sizeof(float);
}

void Worker::stage(size_t number, int64_t step, int64_t first_row, int64_t last_row) {
  const Stage &stage = run_.plan.stages[number];
  const int64_t rows = last_row - first_row, chunks = (rows + block_rows - 1) / block_rows;
  const int together = rows == 1 ? block_rows : stage.unit_blocks;
  between_blocks_ = rows == 1 ? block : run_.plan.all_registers * register_size;
  const Range own = part_of(stage.units, part_, parts_);
  const int64_t blocks = own.last - own.first, pieces = (blocks + together - 1) / together;
  for (int64_t piece = 0; piece < pieces; ++piece) {
    const int64_t b = own.first + blocks * piece / pieces;
    const int width = int(own.first + blocks * (piece + 1) / pieces - b);
    for (int64_t i = 0; i < chunks; ++i) {
      const int64_t row = first_row + rows * i / chunks;
      const int count = int(first_row + rows * (i + 1) / chunks - row);
      lines_.clear();
      if (piece == 0) fetch_vectors(number, row - first_row, count);
      look_ahead(stage, step, row, count, {b, b + width}, piece, pieces);
      for (const Sums &sums : stage.sums) multiply(sums, row - first_row, count, b, width);
      resolve(stage, step, row, b);
      const int at_once = std::max(1, executed_rows / count);
      for (int j = 0; j < width; j += at_once) {
        const int end = std::min(j + at_once, width);
        for (int k = j; k < end; ++k) gather(stage, step, row, count, b + k, k);
        kernels().execute(code_.data(), int(stage.code.size()), {count, j, end});
      }
    }
  }
}

float *Worker::register_at(int operand, int unit_block) const {
  const int arrays = int(run_.plan.arrays.size());
  return register_base_ + (operand - arrays) * register_size + unit_block * between_blocks_;
}

void Worker::find_vectors(size_t number, int64_t step, int64_t first_row, int64_t last_row) {
  if (run_.before[number].same_vectors) return;
  float *pairs = run_.plan.bf16 ? rounded_ + step % 2 * run_.rounded_floats + run_.rounded_at[number] : nullptr;
  for (int index : run_.plan.stages[number].vectors) {
    const unrolled_array &vector = run_.plan.arrays[index];
    const bool one_row = vector.addressing == UNROLLED_BROADCAST;
    const int64_t rows = one_row ? 1 : last_row - first_row;
    const ptrdiff_t row_stride = one_row ? 0 : block, block_stride = run_.given.array_rows[index] * block;
    const float *first = run_.given.array[index] + (run_.offset(index, step) + first_row) * row_stride;
    if (!run_.plan.bf16) {
      left_[index] = {first, row_stride, block_stride, vector.width};
      continue;
    }
    const Range own = part_of(vector.width, part_, parts_);
    bf16_kernels()->pair_units(first, rows, vector.width, block_stride, own.first, own.last, pairs);
    left_[index] = {pairs, row_stride, rows * block, pairs_of(vector.width)};
    pairs += paired_size(rows, vector.width);
  }
}

// What the other threads wrote of the vectors lies in their caches, which may be far away: it is asked for tile by tile,
// before the products get there. `row` counts from the first that find_vectors() was told.
void Worker::fetch_vectors(size_t number, int64_t row, int rows) {
  if (parts_ == 1 || run_.before[number].same_vectors) return;
  const int64_t units = run_.plan.bf16 ? pair_block : block;
  for (int first = 0; first < rows; first += kernels().tile_rows)
    for (int index : run_.plan.stages[number].vectors) {
      const Left &left = left_[index];
      if (left.row_stride == 0 || (run_.constant[index] && !run_.plan.bf16)) continue;
      const int64_t width = run_.plan.arrays[index].width;
      const Range own = part_of(width, part_, parts_);
      const float *at = left.first + (row + first) * left.row_stride;
      for (int64_t u = 0; u < width; u += units, at += left.block_stride)
        if (u < own.first * block || u + units > own.last * block)
          lines_.push_back({at, left.row_stride, std::min(kernels().tile_rows, rows - first), false});
    }
}

// What to fetch while products of some rows and blocks of units are computed. The processor does not find it by itself:
// each array has a few lines in one place and more of them far away. All at once they would be in the products' way.
void Worker::look_ahead(const Stage &stage, int64_t step, int64_t row, int rows, Range units, int64_t piece,
                        int64_t pieces) {
  const bool soon = !lines_.empty();
  for (const Fetched &fetched : stage.fetched) {
    const int64_t at = step + fetched.later;
    if (at >= run_.given.steps || run_.given.active[at] <= row) continue;
    if (fetched.all_units && !run_.constant[fetched.array]) continue;
    const int count = int(std::min<int64_t>(rows, run_.given.active[at] - row));
    Range blocks = units;
    if (fetched.all_units) {  // of which bfloat16 reads its own part
      const bool own = run_.plan.bf16;
      const Range read = part_of(run_.plan.arrays[fetched.array].width, own ? part_ : 0, own ? parts_ : 1);
      const int64_t many = read.last - read.first;
      blocks = {read.first + many * piece / pieces, read.first + many * (piece + 1) / pieces};
    }
    for (int64_t b = blocks.first; b < blocks.last; ++b) {
      const Operand rows_of = run_.at(fetched.array, at, row, b);
      lines_.push_back({rows_of.data, rows_of.stride, count, fetched.written});
    }
  }
  int64_t chances = 1;  // 16 of the depth in every tile
  const int64_t tiles = (rows + kernels().tile_rows - 1) / kernels().tile_rows;
  for (const Sums &sums : stage.sums)
    for (int t = 0; t < sums.terms; ++t)
      chances += tiles * ((sums.registers * (units.last - units.first) + tile_panels - 1) / tile_panels) *
                 blocks_of(left_[run_.plan.products[sums.product[t * sums.registers]].vector].depth);
  int64_t lines = 0;
  for (const Lines &some : lines_) lines += some.count;
  const int at_once = std::max(soon ? at_least : 0, int((lines + chances - 1) / chances));
  ahead_ = {lines_.data(), lines_.data() + lines_.size(), 0, at_once};
}

// `row` counts from the first that find_vectors() was told.
void Worker::multiply(const Sums &sums, int64_t row, int rows, int64_t first_block, int width) {
  Product p{};
  p.rows = rows;
  p.result_stride = block;
  if (!lines_.empty()) p.ahead = &ahead_;
  for (int t = 0; t < sums.terms; ++t) {
    const unrolled_product *q = run_.plan.products.data();
    const Left &left = left_[q[sums.product[t * sums.registers]].vector];
    p.term[p.terms++] = {left.depth, left.first + row * left.row_stride, left.row_stride, 1, left.block_stride, {}};
    if (p.terms < max_terms && t + 1 < sums.terms) continue;
    p.accumulate = sums.accumulate || t >= max_terms;
    const int first_term = t + 1 - p.terms;
    for (int i = 0; i < sums.registers * width; ++i) {
      const int number = i % sums.registers, unit_block = i / sums.registers;
      for (int k = 0; k < p.terms; ++k) {
        const unrolled_product &product = q[sums.product[(first_term + k) * sums.registers + number]];
        p.term[k].panel[p.panels] =
            run_.given.matrix[product.matrix] + (first_block + unit_block) * block * p.term[k].depth;
      }
      p.result[p.panels] = register_at(q[sums.product[number]].destination, unit_block);
      if (++p.panels == max_panels || i + 1 == sums.registers * width) {
        multiply_(p);
        p.panels = 0;
      }
    }
    p.terms = 0;
  }
}

// Copies the rows of indexed arrays at a block of units side by side, for instructions that take rows at equal distances.
void Worker::gather(const Stage &stage, int64_t step, int64_t row, int rows, int64_t unit_block, int place) {
  int next = int(run_.plan.arrays.size()) + run_.plan.registers;
  for (int index : stage.indexed) {
    const float *first = run_.given.array[index] + unit_block * run_.given.array_rows[index] * block;
    const int64_t *chosen = run_.given.index + run_.offset(index, step) + row;
    float *to = register_at(next++, place);
    for (int r = 0; r < rows; ++r) std::memcpy(to + r * block, first + chosen[r] * block, block * sizeof(float));
  }
}

// Its rows from `row` on, from a block of units on, which is the first in registers.
Operand Worker::operand(int index, int64_t step, int64_t row, int64_t unit_block) const {
  if (index >= int(run_.plan.arrays.size())) return {register_at(index, 0), block, between_blocks_};
  const unrolled_array &a = run_.plan.arrays[index];
  if (a.addressing == UNROLLED_INDEXED) return {gathered_[index], block, between_blocks_};
  if (has_rows(a)) return run_.at(index, step, row, unit_block);
  const int64_t block_stride = run_.given.array_rows[index] * block, own = a.addressing == UNROLLED_PER_THREAD ? thread_ : 0;
  return {run_.given.array[index] + unit_block * block_stride + own * block, 0, block_stride};
}

void Worker::resolve(const Stage &stage, int64_t step, int64_t row, int64_t unit_block) {
  int next = int(run_.plan.arrays.size()) + run_.plan.registers;
  for (int index : stage.indexed) gathered_[index] = register_at(next++, 0);
  const auto find = [&](int32_t index) { return operand(index, step, row, unit_block); };
  for (size_t i = 0; i < stage.code.size(); ++i) {
    const Step &from = stage.code[i];
    code_[i] = {from.opcode, find(from.destination), find(from.a), find(from.b), from.then, find(from.c)};
  }
}

}  // namespace unrolled
