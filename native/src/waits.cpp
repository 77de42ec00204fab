// Where a stage of a run has to wait for all threads.
#include "bf16.h"
#include "run.h"

namespace unrolled {

Run::Run(const unrolled_plan &plan, const unrolled_run_arguments &given)
    : plan(plan), given(given), before(plan.stages.size()) {
  for (int i = 0; i < int(plan.arrays.size()); ++i)
    constant.push_back(std::none_of(plan.stages.begin(), plan.stages.end(),
                                    [&](const Stage &stage) { return any_shared(stage.written, {i}); }));
  for (size_t i = 1; i < plan.stages.size(); ++i) {
    const Stage &last = plan.stages[i - 1], &stage = plan.stages[i];
    before[i].same_vectors = stage.vectors == last.vectors && !any_shared(last.written, stage.vectors);
  }
  plan.bf16 ? place_rounded() : find_waits();
}

// Each thread rounds the units that it wrote itself, and then waits for what the others round.
void Run::place_rounded() {
  const int64_t most = given.steps > 0 ? *std::max_element(given.active, given.active + given.steps) : 0;
  for (size_t i = 0; i < plan.stages.size(); ++i) {
    before[i].wait = !plan.stages[i].vectors.empty() && !before[i].same_vectors;
    rounded_at.push_back(rounded_floats);
    if (before[i].wait)
      for (int index : plan.stages[i].vectors) rounded_floats += paired_size(most, plan.arrays[index].width);
  }
}

bool Run::any_shared(const std::vector<int> &some, const std::vector<int> &others) const {
  for (int a : some)
    for (int b : others)
      if (shared(a, b)) return true;
  return false;
}

// Whether the rows of `a` in some step are among those of `b` in a step that comes `later` steps after it.
bool Run::overlap(int a, int b, int later) const {
  for (int64_t step = 0; step + later < given.steps; ++step) {
    const int64_t first = offset(a, step), other = offset(b, step + later);
    if (first < other + given.active[step + later] && other < first + given.active[step]) return true;
  }
  return false;
}

// Products read what all threads have written, so what they read must be complete, and must not be overwritten too early.
// Whoever writes what products read is waited for by their next step, so no two stages further apart can meet.
void Run::find_waits() {
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

}  // namespace unrolled
