// A run: the steps in order; in each the stages; in each the blocks of units and rows that a thread owns.
#include <algorithm>
#include <cstring>
#include <deque>
#include <limits>
#include <memory>
#include <new>
#include <vector>

#include "bf16.h"
#include "plan.h"
#include "status.h"
#include "threads.h"

namespace unrolled {
namespace {

int64_t blocks_of(int64_t units) { return (units + block - 1) / block; }

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

  Run(const unrolled_plan &plan, const unrolled_run_arguments &given)
      : plan(plan), given(given), before(plan.stages.size()) {
    find_waits();
    for (size_t i = 1; i < plan.stages.size(); ++i) {
      const Stage &last = plan.stages[i - 1], &stage = plan.stages[i];
      before[i].same_vectors = stage.vectors == last.vectors && !any_shared(last.written, stage.vectors);
    }
  }

  int64_t offset(int array, int64_t step) const {
    const int32_t table = plan.arrays[array].table;
    return table < 0 ? 0 : given.offsets[table * given.steps + step];
  }

 private:
  bool shared(int a, int b) const { return given.array[a] == given.array[b]; }

  bool any_shared(const std::vector<int> &some, const std::vector<int> &others) const {
    for (int a : some)
      for (int b : others)
        if (shared(a, b)) return true;
    return false;
  }

  // Whether the rows of `a` in some step are among those of `b` in a step that comes `later` steps after it.
  bool overlap(int a, int b, int later) const {
    for (int64_t step = 0; step + later < given.steps; ++step) {
      const int64_t first = offset(a, step), other = offset(b, step + later);
      if (first < other + given.active[step + later] && other < first + given.active[step]) return true;
    }
    return false;
  }

  // Products read what all threads have written, so what they read must be complete, and must not be overwritten too early.
  // Whoever writes what products read is waited for by their next step, so no two stages further apart can meet.
  void find_waits() {
    struct Done {
      const Stage *stage;
      int64_t round;
    };
    std::vector<Done> since;  // the last time that all have waited
    const auto meets = [&](const Stage &stage, int64_t round) {
      for (const Done &done : since) {
        if (any_shared(done.stage->written, stage.vectors)) return true;
        for (int read : done.stage->vectors)
          for (int written : stage.written)
            if (shared(read, written) && overlap(read, written, int(round - done.round))) return true;
      }
      return false;
    };
    bool changed = true;
    for (int64_t round = 0; changed || round < 2; ++round) {
      changed = false;
      for (size_t i = 0; i < plan.stages.size(); ++i) {
        if (!before[i].wait && meets(plan.stages[i], round)) before[i].wait = changed = true;
        if (before[i].wait) since.clear();
        since.push_back({&plan.stages[i], round});
      }
    }
  }
};

// The vectors of a product, one for each row, as its left operand.
struct Left {
  const float *first;
  ptrdiff_t row_stride, block_stride;
  int64_t depth;
};

class Worker {
 public:
  Worker(const Run &run, int thread)
      : run_(run), thread_(thread), code_(run.plan.instructions.size()), left_(run.plan.arrays.size()),
        gathered_(run.plan.arrays.size()),
        multiply_(run.plan.bf16 ? bf16_kernels()->multiply : kernels().multiply) {
    int unit_blocks = 1;
    for (const Stage &stage : run.plan.stages) unit_blocks = std::max(unit_blocks, stage.unit_blocks);
    registers_.reset(new float[size_t(unit_blocks) * run.plan.all_registers * register_size + block]);
    const auto address = reinterpret_cast<uintptr_t>(registers_.get());
    register_base_ = registers_.get() + (64 - address % 64) % 64 / sizeof(float);
  }

  // The stage at `step` for rows [first_row, last_row) and blocks of units [first_block, last_block).
  void stage(size_t number, int64_t step, int64_t first_row, int64_t last_row, int64_t first_block, int64_t last_block) {
    const Stage &stage = run_.plan.stages[number];
    const int64_t rows = last_row - first_row, chunks = (rows + block_rows - 1) / block_rows;
    if (!run_.before[number].same_vectors) find_vectors(stage, step, first_row, rows);
    const int together = rows == 1 ? block_rows : stage.unit_blocks;
    between_blocks_ = rows == 1 ? block : run_.plan.all_registers * register_size;
    const int64_t blocks = last_block - first_block, pieces = (blocks + together - 1) / together;
    for (int64_t piece = 0; piece < pieces; ++piece) {
      const int64_t b = first_block + blocks * piece / pieces;
      const int width = int(first_block + blocks * (piece + 1) / pieces - b);
      for (int64_t i = 0; i < chunks; ++i) {
        const int64_t row = first_row + rows * i / chunks;
        const int count = int(first_row + rows * (i + 1) / chunks - row);
        for (const Sums &sums : stage.sums) multiply(sums, row - first_row, count, b, width);
        const int at_once = std::max(1, executed_rows / count);
        for (int j = 0; j < width; j += at_once) {
          const int executed = std::min(at_once, width - j);
          for (int k = j; k < j + executed; ++k) gather(stage, step, row, count, b + k, k);
          resolve(stage, step, row, b + j, j);
          kernels().execute(code_.data(), int(stage.code.size()), count, executed);
        }
      }
    }
  }

 private:
  static constexpr int register_size = block_rows * block;
  static constexpr int executed_rows = 48;  // rows of all blocks that instructions take at once: registers stay in the first cache

  float *register_at(int operand, int unit_block) const {
    const int arrays = int(run_.plan.arrays.size());
    return register_base_ + (operand - arrays) * register_size + unit_block * between_blocks_;
  }

  // Finds the vectors of the stage's products; those of bfloat16 are rounded here, once for all its units.
  void find_vectors(const Stage &stage, int64_t step, int64_t first_row, int64_t rows) {
    const auto own_rows = [&](int index) {
      return run_.plan.arrays[index].addressing == UNROLLED_BROADCAST ? int64_t(1) : rows;
    };
    float *pairs = nullptr;
    if (run_.plan.bf16) {
      int64_t floats = 0;
      for (int index : stage.vectors) floats += paired_size(own_rows(index), run_.plan.arrays[index].width);
      pairs = pairs_memory(floats);
    }
    for (int index : stage.vectors) {
      const unrolled_array &vector = run_.plan.arrays[index];
      const ptrdiff_t row_stride = vector.addressing == UNROLLED_BROADCAST ? 0 : block;
      const float *first = run_.given.array[index] + (run_.offset(index, step) + first_row) * row_stride;
      const ptrdiff_t block_stride = run_.given.array_rows[index] * block;
      if (!run_.plan.bf16) {
        left_[index] = {first, row_stride, block_stride, vector.width};
        continue;
      }
      bf16_kernels()->pair_units(first, own_rows(index), vector.width, block_stride, pairs);
      left_[index] = {pairs, row_stride, own_rows(index) * block, pairs_of(vector.width)};
      pairs += paired_size(own_rows(index), vector.width);
    }
  }

  // `row` counts from the first that find_vectors() was told.
  void multiply(const Sums &sums, int64_t row, int rows, int64_t first_block, int width) {
    Product p{};
    p.rows = rows;
    p.result_stride = block;
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
  void gather(const Stage &stage, int64_t step, int64_t row, int rows, int64_t unit_block, int place) {
    int next = int(run_.plan.arrays.size()) + run_.plan.registers;
    for (int index : stage.indexed) {
      const float *first = run_.given.array[index] + unit_block * run_.given.array_rows[index] * block;
      const int64_t *chosen = run_.given.index + run_.offset(index, step) + row;
      gathered_[index] = register_at(next, 0);
      float *to = register_at(next++, place);
      for (int r = 0; r < rows; ++r) std::memcpy(to + r * block, first + chosen[r] * block, block * sizeof(float));
    }
  }

  // Its rows from `row` on at a block of units, whose place in registers is `place`.
  Operand operand(int index, int64_t step, int64_t row, int64_t unit_block, int place) const {
    if (index >= int(run_.plan.arrays.size())) return {register_at(index, place), block, between_blocks_};
    const unrolled_array &a = run_.plan.arrays[index];
    if (a.addressing == UNROLLED_INDEXED)
      return {gathered_[index] + place * between_blocks_, block, between_blocks_};
    const int64_t block_stride = run_.given.array_rows[index] * block;
    float *first = run_.given.array[index] + unit_block * block_stride;
    switch (a.addressing) {
      case UNROLLED_BROADCAST: return {first, 0, block_stride};
      case UNROLLED_PER_THREAD: return {first + thread_ * block, 0, block_stride};
      default: return {first + (run_.offset(index, step) + row) * block, block, block_stride};
    }
  }

  void resolve(const Stage &stage, int64_t step, int64_t row, int64_t unit_block, int place) {
    const auto find = [&](int32_t index) { return operand(index, step, row, unit_block, place); };
    for (size_t i = 0; i < stage.code.size(); ++i) {
      const Step &from = stage.code[i];
      code_[i] = {from.opcode, find(from.destination), find(from.a), find(from.b), from.then, find(from.c)};
    }
  }

  const Run &run_;
  int thread_;
  std::vector<Pointwise> code_;
  std::vector<Left> left_;  // by array; those of the stage's vectors are right
  std::vector<float *> gathered_;  // by array; those of the stage's indexed ones are right
  void (*multiply_)(const Product &);
  std::unique_ptr<float[]> registers_;  // nothing is read before it is written
  float *register_base_;
  ptrdiff_t between_blocks_ = 0;  // floats between a register's blocks of units
};

int64_t most_blocks(const unrolled_plan &plan) {
  int64_t most = 1;
  for (const Stage &stage : plan.stages) most = std::max(most, blocks_of(stage.units));
  return most;
}

Grid make_grid(const unrolled_plan &plan, const unrolled_run_arguments &given, int threads) {
  const int64_t batch = *std::max_element(given.active, given.active + given.steps);
  // Threads share the units first, for then each reads its own part of the weights alone, which stays in its second cache;
  // but tiles need blocks of units enough, and rows enough.
  const int64_t least_blocks = 4, least_rows = 12, blocks = most_blocks(plan);
  Grid grid;
  grid.unit_groups = int(std::clamp<int64_t>(blocks / least_blocks, 1, threads));
  grid.row_groups = int(std::clamp<int64_t>(batch / least_rows, 1, threads / grid.unit_groups));
  grid.unit_groups = int(std::clamp<int64_t>(threads / grid.row_groups, 1, blocks));
  // Row r runs for as many steps as have more than r rows; each group gets an equal share of the sum.
  std::vector<int64_t> steps_of(batch + 1, 0);
  int64_t total = 0;
  for (int64_t s = 0; s < given.steps; ++s) {
    total += given.active[s];
    ++steps_of[given.active[s]];
  }
  for (int64_t r = batch - 1; r >= 0; --r) steps_of[r] += steps_of[r + 1];  // now: steps with at least r rows
  int64_t row = 0, done = 0;
  for (int g = 0; g < grid.row_groups; ++g) {
    grid.first_row.push_back(row);
    while (row < batch && done * grid.row_groups < total * (g + 1)) done += steps_of[++row];
  }
  grid.first_row.push_back(batch);
  return grid;
}

void recurrent(Run &run, int thread) {
  const Grid &grid = run.grid;
  const int row_group = thread / grid.unit_groups, unit_group = thread % grid.unit_groups;
  if (row_group >= grid.row_groups) return;
  Worker worker(run, thread);
  for (int64_t step = 0; step < run.given.steps; ++step) {
    const int64_t active = run.given.active[step];
    const int64_t first = grid.first_row[row_group], last = std::min(grid.first_row[row_group + 1], active);
    for (size_t i = 0; i < run.plan.stages.size(); ++i) {
      if (run.before[i].wait) run.barriers[row_group].wait(grid.unit_groups);
      const int64_t blocks = blocks_of(run.plan.stages[i].units);
      if (first < last)
        worker.stage(i, step, first, last, blocks * unit_group / grid.unit_groups,
                     blocks * (unit_group + 1) / grid.unit_groups);
    }
  }
}

void independent(const Run &run, int thread, int threads) {
  Worker worker(run, thread);
  for (int64_t step = thread; step < run.given.steps; step += threads)
    for (size_t i = 0; i < run.plan.stages.size(); ++i)
      worker.stage(i, step, 0, run.given.active[step], 0, blocks_of(run.plan.stages[i].units));
}

int check_run(const unrolled_plan &plan, const unrolled_run_arguments &r, char *message) {
  if (r.steps < 0 || r.threads < 1 || (r.steps > 0 && r.active == nullptr) ||
      (r.steps > 0 && plan.tables > 0 && r.offsets == nullptr))
    return invalid(message, "a run of %lld steps on %d threads", (long long)r.steps, r.threads);
  if ((!plan.arrays.empty() && (!r.array || !r.array_rows)) || (!plan.matrix_rows.empty() && !r.matrix))
    return invalid(message, "a list of the run is missing");
  constexpr int64_t no_rows = std::numeric_limits<int64_t>::max();
  int64_t most = 0, indexed_rows = no_rows;
  for (int64_t s = 0; s < r.steps; ++s) {
    if (r.active[s] < 0) return invalid(message, "step %lld has %lld rows", (long long)s, (long long)r.active[s]);
    most = std::max(most, r.active[s]);
  }
  for (size_t i = 0; i < plan.arrays.size(); ++i) {
    const unrolled_array &a = plan.arrays[i];
    if (r.array_rows[i] < 0) return invalid(message, "array %zu has %lld rows", i, (long long)r.array_rows[i]);
    int64_t needed = a.addressing == UNROLLED_PER_THREAD ? r.threads : most > 0 ? 1 : 0;
    if (a.addressing == UNROLLED_INDEXED) indexed_rows = std::min(indexed_rows, r.array_rows[i]);
    if (a.addressing == UNROLLED_ROWS || a.addressing == UNROLLED_INDEXED) {
      needed = a.table < 0 ? most : 0;
      const int64_t available = a.addressing == UNROLLED_INDEXED ? r.index_rows : r.array_rows[i];
      for (int64_t s = 0; a.table >= 0 && s < r.steps; ++s) {
        const int64_t first = r.offsets[a.table * r.steps + s];
        if (first < 0 || first > available)
          return invalid(message, "table %d starts step %lld at row %lld", a.table, (long long)s, (long long)first);
        needed = std::max(needed, first + r.active[s]);
      }
    }
    if (a.addressing == UNROLLED_INDEXED) {
      if (needed > r.index_rows || (needed > 0 && r.index == nullptr))
        return invalid(message, "the index has %lld rows, array %zu needs %lld", (long long)r.index_rows, i,
                       (long long)needed);
      needed = needed > 0 ? 1 : 0;
    }
    if (needed > r.array_rows[i] || (needed > 0 && r.array[i] == nullptr))
      return invalid(message, "array %zu has %lld rows, the run needs %lld", i, (long long)r.array_rows[i],
                     (long long)needed);
  }
  for (int64_t i = 0; indexed_rows < no_rows && most > 0 && i < r.index_rows; ++i)
    if (r.index[i] < 0 || r.index[i] >= indexed_rows)
      return invalid(message, "the index names row %lld; the smallest indexed array has %lld", (long long)r.index[i],
                     (long long)indexed_rows);
  for (size_t i = 0; i < plan.matrix_rows.size(); ++i)
    if (r.matrix[i] == nullptr && most > 0) return invalid(message, "matrix %zu is missing", i);
  return UNROLLED_OK;
}

}  // namespace
}  // namespace unrolled

int unrolled_plan_run(const unrolled_plan *plan, const unrolled_run_arguments *arguments, char *message) {
  using namespace unrolled;
  if (plan == nullptr || arguments == nullptr) return invalid(message, "no plan or no arguments");
  if (int status = check_run(*plan, *arguments, message)) return status;
  if (arguments->steps == 0) return UNROLLED_OK;
  try {
    Run run(*plan, *arguments);
    std::atomic<bool> failed{false};
    for (int i = 0; i < arguments->threads; ++i) run.barriers.emplace_back(failed);
    Barrier start(failed);
    parallel(arguments->threads, failed, [&](int thread, int threads) {
      if (plan->independent) return independent(run, thread, threads);
      if (thread == 0) run.grid = make_grid(*plan, *arguments, threads);
      start.wait(threads);
      recurrent(run, thread);
    });
    return UNROLLED_OK;
  } catch (const std::bad_alloc &) {
    invalid(message, "no memory for the run");
    return UNROLLED_NO_MEMORY;
  }
}
