// A run: the steps in order; in each the stages; in each the blocks of units and rows that a thread owns.
#include <algorithm>
#include <limits>
#include <new>
#include <vector>

#include "bf16.h"
#include "run.h"
#include "status.h"
#include "worker.h"

namespace unrolled {
namespace {

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
  Worker worker(run, thread, unit_group, grid.unit_groups, run.rounded + row_group * 2 * run.rounded_floats);
  for (int64_t step = 0; step < run.given.steps; ++step) {
    const int64_t active = run.given.active[step];
    const int64_t first = grid.first_row[row_group], last = std::min(grid.first_row[row_group + 1], active);
    for (size_t i = 0; i < run.plan.stages.size(); ++i) {
      if (first < last) worker.find_vectors(i, step, first, last);
      if (run.before[i].wait) run.barriers[row_group].wait(grid.unit_groups);
      if (first < last) worker.stage(i, step, first, last);
    }
  }
}

void independent(const Run &run, int thread, int threads) {
  Worker worker(run, thread, 0, 1, pairs_memory(2 * run.rounded_floats));
  for (int64_t step = thread; step < run.given.steps; step += threads)
    for (size_t i = 0; i < run.plan.stages.size(); ++i) {
      worker.find_vectors(i, step, 0, run.given.active[step]);
      worker.stage(i, step, 0, run.given.active[step]);
    }
}

// Whether all rows lie within the floats of memory outside.
int check_outside(const unrolled_plan &plan, const unrolled_run_arguments &r, int i, char *message) {
  const unrolled_array &a = plan.arrays[i];
  const int64_t floats = r.array_rows[i], stride = r.row_stride ? r.row_stride[i] : -1;
  for (int64_t s = 0; s < r.steps; ++s) {
    if (r.active[s] == 0) continue;
    const int64_t first = a.table < 0 ? 0 : r.offsets[a.table * r.steps + s], last = floats - a.width;
    if (stride < 0 || first < 0 || first > last || (stride > 0 && r.active[s] - 1 > (last - first) / stride))
      return invalid(message, "array %d: %lld rows, %lld floats apart from float %lld on, in %lld floats", i,
                     (long long)r.active[s], (long long)stride, (long long)first, (long long)floats);
  }
  return UNROLLED_OK;
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
    if (a.addressing == UNROLLED_OUTSIDE) {
      if (int status = check_outside(plan, r, int(i), message)) return status;
      needed = most > 0 ? 1 : 0;
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
      if (thread == 0) {
        run.grid = make_grid(*plan, *arguments, threads);
        run.rounded = pairs_memory(run.grid.row_groups * 2 * run.rounded_floats);
      }
      start.wait(threads);
      recurrent(run, thread);
    });
    return UNROLLED_OK;
  } catch (const std::bad_alloc &) {
    invalid(message, "no memory for the run");
    return UNROLLED_NO_MEMORY;
  }
}
