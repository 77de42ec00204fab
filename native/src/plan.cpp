// Making a plan: everything that a run relies on is checked here, once.
#include "plan.h"

#include <algorithm>
#include <memory>
#include <new>

#include "bf16.h"
#include "status.h"

namespace unrolled {
namespace {

constexpr int max_count = 1 << 16;       // of arrays, instructions, ...: far above any cell
constexpr int64_t max_width = 1 << 24;

int check_counts(const unrolled_plan_description &d, char *message) {
  const int32_t counts[] = {d.arrays, d.matrices, d.registers, d.products, d.instructions, d.stages, d.tables};
  for (int32_t count : counts)
    if (count < 0 || count > max_count) return invalid(message, "a count of the plan is %d", count);
  if ((d.arrays && !d.array) || (d.products && !d.product) || (d.instructions && !d.instruction) ||
      (d.stages && !d.stage) || (d.matrices && (!d.matrix_rows || !d.matrix_columns)))
    return invalid(message, "a list of the plan is missing");
  if (d.precision != UNROLLED_FP32 && (d.precision != UNROLLED_BF16 || bf16_kernels() == nullptr))
    return invalid(message, "this machine has no products of precision %d", d.precision);
  return UNROLLED_OK;
}

int check_arrays(const unrolled_plan_description &d, char *message) {
  for (int i = 0; i < d.arrays; ++i) {
    const unrolled_array &a = d.array[i];
    if (a.addressing < UNROLLED_ROWS || a.addressing > UNROLLED_OUTSIDE)
      return invalid(message, "array %d: unknown addressing %d", i, a.addressing);
    if (a.table < -1 || a.table >= d.tables) return invalid(message, "array %d: no table %d", i, a.table);
    if (a.width < 1 || a.width > max_width || a.stride < a.width || a.stride > max_width || a.stride % block)
      return invalid(message, "array %d: width %lld with stride %lld", i, (long long)a.width, (long long)a.stride);
    if (a.addressing == UNROLLED_OUTSIDE && a.width % block)
      return invalid(message, "array %d: %lld units in memory outside are no whole blocks", i, (long long)a.width);
  }
  for (int i = 0; i < d.matrices; ++i)
    if (d.matrix_rows[i] < 1 || d.matrix_rows[i] > max_width || d.matrix_columns[i] < 1 ||
        d.matrix_columns[i] > max_width)
      return invalid(message, "matrix %d is empty or too large", i);
  return UNROLLED_OK;
}

int check_product(const unrolled_plan_description &d, const unrolled_stage &stage, const unrolled_product &p,
                  std::vector<bool> &written, char *message) {
  if (p.matrix < 0 || p.matrix >= d.matrices || p.vector < 0 || p.vector >= d.arrays)
    return invalid(message, "a product takes matrix %d and array %d, which are not there", p.matrix, p.vector);
  if (p.destination < d.arrays || p.destination >= d.arrays + d.registers)
    return invalid(message, "a product writes operand %d, which is no register", p.destination);
  if (d.matrix_rows[p.matrix] != stage.units || d.matrix_columns[p.matrix] != d.array[p.vector].width)
    return invalid(message, "matrix %d (%lld x %lld) takes %lld units to %lld", p.matrix,
                   (long long)d.matrix_rows[p.matrix], (long long)d.matrix_columns[p.matrix],
                   (long long)d.array[p.vector].width, (long long)stage.units);
  if (d.array[p.vector].addressing != UNROLLED_ROWS && d.array[p.vector].addressing != UNROLLED_BROADCAST)
    return invalid(message, "a product reads array %d, which is per-thread, indexed or outside", p.vector);
  if (p.accumulate && !written[p.destination - d.arrays])
    return invalid(message, "a product adds to register %d before it is written", p.destination);
  written[p.destination - d.arrays] = true;
  return UNROLLED_OK;
}

int check_operand(const unrolled_plan_description &d, const unrolled_stage &stage, int32_t operand,
                  const std::vector<bool> &written, char *message) {
  if (operand < 0 || operand >= d.arrays + d.registers) return invalid(message, "there is no operand %d", operand);
  if (operand >= d.arrays)
    return written[operand - d.arrays] ? UNROLLED_OK
                                       : invalid(message, "register %d is read before it is written", operand);
  const unrolled_array &a = d.array[operand];
  if (a.width != stage.units)
    return invalid(message, "array %d of %lld units in a stage of %lld", operand, (long long)a.width,
                   (long long)stage.units);
  if (a.addressing == UNROLLED_PER_THREAD) return invalid(message, "per-thread array %d is read", operand);
  return UNROLLED_OK;
}

int check_instruction(const unrolled_plan_description &d, const unrolled_stage &stage,
                      const unrolled_instruction &i, std::vector<bool> &written, char *message) {
  if (i.opcode < UNROLLED_COPY || i.opcode > UNROLLED_ACCUMULATE)
    return invalid(message, "unknown opcode %d", i.opcode);
  if (int status = check_operand(d, stage, i.a, written, message)) return status;
  if (two_arguments(i.opcode))
    if (int status = check_operand(d, stage, i.b, written, message)) return status;
  const int32_t to = i.destination;
  if (to >= d.arrays && to < d.arrays + d.registers && i.opcode != UNROLLED_ACCUMULATE) {
    written[to - d.arrays] = true;
    return UNROLLED_OK;
  }
  if (to < 0 || to >= d.arrays) return invalid(message, "opcode %d cannot write operand %d", i.opcode, to);
  const bool right = i.opcode == UNROLLED_ACCUMULATE ? d.array[to].addressing == UNROLLED_PER_THREAD
                                                     : has_rows(d.array[to]);
  if (!right || d.array[to].width != stage.units)
    return invalid(message, "opcode %d cannot write array %d", i.opcode, to);
  return UNROLLED_OK;
}

int check_stage(const unrolled_plan_description &d, const unrolled_stage &s, char *message) {
  if (s.units < 1 || s.units > max_width) return invalid(message, "a stage of %lld units", (long long)s.units);
  if (s.first_product < 0 || s.products < 0 || s.first_product > d.products - s.products ||
      s.first_instruction < 0 || s.instructions < 0 || s.first_instruction > d.instructions - s.instructions)
    return invalid(message, "a stage names products or instructions that are not there");
  std::vector<bool> written(d.registers, false);
  for (int i = 0; i < s.products; ++i)
    if (int status = check_product(d, s, d.product[s.first_product + i], written, message)) return status;
  for (int i = 0; i < s.instructions; ++i)
    if (int status = check_instruction(d, s, d.instruction[s.first_instruction + i], written, message)) return status;
  return UNROLLED_OK;
}

// The products of a stage by register: each register's terms in order.
std::vector<std::vector<int>> terms_of(const unrolled_plan_description &d, const unrolled_stage &stage) {
  std::vector<std::vector<int>> registers;
  for (int i = stage.first_product; i < stage.first_product + stage.products; ++i) {
    auto same = registers.end();
    for (auto r = registers.begin(); r != registers.end(); ++r)
      if (d.product[r->front()].destination == d.product[i].destination) same = r;
    if (same == registers.end() || !d.product[i].accumulate)
      registers.push_back({i});
    else
      same->push_back(i);
  }
  return registers;
}

std::vector<Sums> make_sums(const unrolled_plan_description &d, const unrolled_stage &stage) {
  std::vector<Sums> all;
  std::vector<std::vector<std::vector<int>>> members;  // registers of each of `all`
  for (const std::vector<int> &terms : terms_of(d, stage)) {
    const auto joins = [&](const std::vector<int> &other) {
      const unrolled_product &a = d.product[terms[0]], &b = d.product[other[0]];
      if (other.size() != terms.size() || !a.accumulate != !b.accumulate || a.destination == b.destination) return false;
      for (size_t t = 0; t < terms.size(); ++t)
        if (d.product[terms[t]].vector != d.product[other[t]].vector) return false;
      return true;
    };
    if (!members.empty() && joins(members.back().front()))
      members.back().push_back(terms);
    else
      members.push_back({terms});
  }
  for (const auto &registers : members) {
    Sums sums{int(registers.size()), int(registers[0].size()), d.product[registers[0][0]].accumulate != 0, {}};
    for (int t = 0; t < sums.terms; ++t)
      for (const std::vector<int> &terms : registers) sums.product.push_back(terms[t]);
    all.push_back(sums);
  }
  return all;
}

std::vector<int> make_vectors(const unrolled_plan_description &d, const unrolled_stage &stage) {
  std::vector<int> vectors;
  for (int i = stage.first_product; i < stage.first_product + stage.products; ++i)
    if (std::find(vectors.begin(), vectors.end(), d.product[i].vector) == vectors.end())
      vectors.push_back(d.product[i].vector);
  return vectors;
}

// The arrays of which `chosen` that the stage's instructions read or write.
template <class Chosen>
std::vector<int> make_touched(const unrolled_plan_description &d, const unrolled_stage &stage, Chosen chosen) {
  std::vector<bool> used(d.arrays, false);
  for (int i = stage.first_instruction; i < stage.first_instruction + stage.instructions; ++i)
    for (int32_t operand : {d.instruction[i].destination, d.instruction[i].a, d.instruction[i].b})
      if (operand >= 0 && operand < d.arrays && chosen(d.array[operand])) used[operand] = true;
  std::vector<int> touched;
  for (int i = 0; i < d.arrays; ++i)
    if (used[i]) touched.push_back(i);
  return touched;
}

// The instructions of a stage, neighbours taken as one where the first writes a register for the second alone.
std::vector<Step> make_code(const unrolled_plan_description &d, const unrolled_stage &stage) {
  const unrolled_instruction *from = d.instruction + stage.first_instruction;
  const auto reads = [&](int i, int32_t operand) {
    return int(from[i].a == operand) + int(two_arguments(from[i].opcode) && from[i].b == operand);
  };
  const auto read_later = [&](int i, int32_t operand) {
    for (; i < stage.instructions; ++i) {
      if (reads(i, operand)) return true;
      if (from[i].destination == operand) return false;
    }
    return false;
  };
  std::vector<Step> code;
  for (int i = 0; i < stage.instructions; ++i) {
    const unrolled_instruction &one = from[i];
    code.push_back({one.opcode, one.destination, one.a, two_arguments(one.opcode) ? one.b : one.a, UNROLLED_COPY, one.a});
    if (i + 1 == stage.instructions || one.destination < d.arrays || reads(i + 1, one.destination) != 1) continue;
    const unrolled_instruction &next = from[i + 1];
    const bool second = two_arguments(next.opcode) && next.b == one.destination;
    const int32_t then = second && next.opcode == UNROLLED_SUB ? subtract_from : next.opcode;
    if (!pairs_with(one.opcode, then)) continue;
    if (next.destination != one.destination && read_later(i + 2, one.destination)) continue;
    code.back().destination = next.destination;
    code.back().then = then;
    if (two_arguments(next.opcode)) code.back().c = second ? next.a : next.b;
    ++i;
  }
  return code;
}

std::vector<int> make_written(const unrolled_plan_description &d, const unrolled_stage &stage) {
  std::vector<int> written;
  for (int i = stage.first_instruction; i < stage.first_instruction + stage.instructions; ++i) {
    const int32_t to = d.instruction[i].destination;
    if (to < d.arrays && has_rows(d.array[to])) written.push_back(to);
  }
  return written;
}

Stage make_stage(const unrolled_plan_description &d, const unrolled_stage &from) {
  constexpr int together = tile_panels;  // blocks of units: panels enough for a tile, whatever the number of gates
  Stage stage{from, make_code(d, from), make_sums(d, from), make_vectors(d, from), make_written(d, from),
              make_touched(d, from, has_rows), make_touched(d, from, is_indexed), {}, together};
  for (const Sums &sums : stage.sums)
    while (stage.unit_blocks > 1 && stage.unit_blocks * sums.registers > max_panels) --stage.unit_blocks;
  if (stage.sums.empty()) stage.unit_blocks = 1;
  return stage;
}

// What is fetched while the products of `stages[number]` are computed: what its own instructions touch, and those of the
// stages after it, up to itself in the next step, that have no products to wait behind; and the vectors of its next step.
std::vector<Fetched> make_fetched(const unrolled_plan_description &d, const std::vector<Stage> &stages, size_t number) {
  std::vector<Fetched> fetched;
  if (stages[number].sums.empty()) return fetched;
  const auto touched = [&](const Stage &stage, int later) {
    for (int array : stage.touched) {
      const bool written = std::find(stage.written.begin(), stage.written.end(), array) != stage.written.end();
      fetched.push_back({array, later, false, written});
    }
  };
  touched(stages[number], 0);
  for (int array : stages[number].vectors)
    if (d.array[array].addressing == UNROLLED_ROWS) fetched.push_back({array, 1, true, false});
  for (size_t i = number + 1; i < number + stages.size(); ++i) {
    const Stage &after = stages[i % stages.size()];
    if (after.units != stages[number].units) continue;
    if (!after.sums.empty()) break;
    touched(after, i < stages.size() ? 0 : 1);
  }
  return fetched;
}

}  // namespace
}  // namespace unrolled

int unrolled_plan_create(const unrolled_plan_description *d, unrolled_plan **plan, char *message) {
  using namespace unrolled;
  if (d == nullptr || plan == nullptr) return invalid(message, "no description or no place for the plan");
  if (int status = check_counts(*d, message)) return status;
  if (int status = check_arrays(*d, message)) return status;
  try {
    for (int i = 0; i < d->stages; ++i)
      if (int status = check_stage(*d, d->stage[i], message)) return status;
    auto made = std::make_unique<unrolled_plan>();
    made->arrays.assign(d->array, d->array + d->arrays);
    made->products.assign(d->product, d->product + d->products);
    made->instructions.assign(d->instruction, d->instruction + d->instructions);
    made->matrix_rows.assign(d->matrix_rows, d->matrix_rows + d->matrices);
    made->matrix_columns.assign(d->matrix_columns, d->matrix_columns + d->matrices);
    made->registers = d->registers;
    made->tables = d->tables;
    made->independent = d->independent != 0;
    made->bf16 = d->precision == UNROLLED_BF16;
    made->all_registers = d->registers;
    for (int i = 0; i < d->stages; ++i) {
      made->stages.push_back(make_stage(*d, d->stage[i]));
      made->all_registers = std::max(made->all_registers, d->registers + int(made->stages.back().indexed.size()));
    }
    for (int i = 0; i < d->stages; ++i) made->stages[i].fetched = make_fetched(*d, made->stages, i);
    *plan = made.release();
    return UNROLLED_OK;
  } catch (const std::bad_alloc &) {
    invalid(message, "no memory for the plan");
    return UNROLLED_NO_MEMORY;
  }
}

void unrolled_plan_destroy(unrolled_plan *plan) { delete plan; }
