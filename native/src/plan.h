// A plan: a checked copy of its description, with what every run would work out again.
#pragma once

#include <vector>

#include "kernels.h"

namespace unrolled {

// Registers of a stage that are sums over the same vectors: one pass over the vectors' rows serves them all. `product` has
// the products, term by term: that of register i and term t at t * registers + i.
struct Sums {
  int registers, terms;
  bool accumulate;  // the first term is added to what the registers hold
  std::vector<int> product;
};

inline bool two_arguments(int opcode) {
  switch (opcode) {
    case UNROLLED_ADD: case UNROLLED_SUB: case UNROLLED_MUL: case UNROLLED_DIV:
    case UNROLLED_MAXIMUM: case UNROLLED_MINIMUM: return true;
    default: return false;
  }
}

// Whether a step has a row of the array for each of its rows.
inline bool has_rows(const unrolled_array &array) {
  return array.addressing == UNROLLED_ROWS || array.addressing == UNROLLED_OUTSIDE;
}

inline bool is_indexed(const unrolled_array &array) { return array.addressing == UNROLLED_INDEXED; }

// An instruction and, unless `then` is a copy, another on its result, which nobody else reads: see Pointwise.
struct Step {
  int32_t opcode, destination, a, b, then, c;
};

// An array of which so many steps `later` instructions touch the same units, or products read all of them.
struct Fetched {
  int array, later;
  bool all_units, written;
};

struct Stage : unrolled_stage {
  std::vector<Step> code;
  std::vector<Sums> sums;
  std::vector<int> vectors;  // arrays that its products read
  std::vector<int> written;  // arrays that its instructions write for others to read
  std::vector<int> touched;  // arrays with a row for each row that its instructions read or write
  std::vector<int> indexed;  // arrays whose rows are gathered in registers of their own before its instructions
  std::vector<Fetched> fetched;  // while its products are computed
  int unit_blocks;  // taken together, so that a pass has panels enough also with a single product
};

}  // namespace unrolled

struct unrolled_plan {
  std::vector<unrolled_array> arrays;
  std::vector<unrolled_product> products;
  std::vector<unrolled_instruction> instructions;
  std::vector<unrolled::Stage> stages;
  std::vector<int64_t> matrix_rows, matrix_columns;
  int registers, tables;
  int all_registers;  // with those for the rows of indexed arrays
  bool independent, bf16;
};
