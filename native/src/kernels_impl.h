// The kernels, written once over the vector width; each kernels_<set>.cpp compiles them for one instruction set.
#pragma once

#include "functions.h"
#include "kernels.h"

// The value counts as read and changed here, in its register: nothing before or after may be left out.
#if defined(__x86_64__)
#define UNROLLED_KEEP(value) asm volatile("" : "+x"(value))
#else
#define UNROLLED_KEEP(value) asm volatile("" : "+w"(value))
#endif

namespace unrolled::UNROLLED_NAMESPACE {

constexpr int vectors = block / lanes;  // vectors of a panel's row

// A tile's sums stay in registers over the whole depth: tile_sums of them beside a row of the panel and a broadcast.
template <int Rows, int Panels>
void tile(const Product &p, int first_row, int first_panel) {
  constexpr int columns = Panels * vectors;
  Floats sum[Rows][columns];
  for (int r = 0; r < Rows; ++r)
    for (int c = 0; c < columns; ++c)
      sum[r][c] = p.accumulate ? load(p.result[first_panel + c / vectors] + (first_row + r) * p.result_stride +
                                      c % vectors * lanes)
                               : Floats{};
  for (int t = 0; t < p.terms; ++t) {
    const Term &term = p.term[t];
    const float *a = term.a + first_row * term.row_stride;
    const float *panel[Panels];
    for (int i = 0; i < Panels; ++i) panel[i] = term.panel[first_panel + i];
    const ptrdiff_t row_stride = term.row_stride, depth_stride = term.depth_stride, block_stride = term.block_stride;
    for (int64_t depth = term.depth; depth > 0; depth -= block) {
      const float *left_block = a;
      const int count = int(depth < block ? depth : block);
#pragma GCC unroll 2
      for (int k = 0; k < count; ++k) {
        Floats right[columns];
        for (int c = 0; c < columns; ++c) right[c] = load(panel[c / vectors] + c % vectors * lanes);
        for (int r = 0; r < Rows; ++r) {
          const Floats left = splat(left_block[r * row_stride]);
          for (int c = 0; c < columns; ++c) sum[r][c] += left * right[c];
        }
        left_block += depth_stride;
        for (int i = 0; i < Panels; ++i) panel[i] += block;
      }
      a += block_stride;
    }
  }
  for (int r = 0; r < Rows; ++r)
    for (int c = 0; c < columns; ++c)
      store(p.result[first_panel + c / vectors] + (first_row + r) * p.result_stride + c % vectors * lanes, sum[r][c]);
}

constexpr int at_most(int a, int b) { return a < b ? a : b; }

// Panels that a tile of so many rows covers: few rows take more of them, so that enough sums are under way at once.
constexpr int panels_of(int rows) {
  const int fit = tile_sums / (rows * vectors);
  return fit < 1 ? 1 : at_most(fit, max_panels);
}

template <int Rows, int Panels>
void tiles(const Product &p, int first_row, int first_panel) {
  if constexpr (Panels > 0) {
    const int left = p.panels - first_panel;
    if (left >= Panels) {
      tile<Rows, Panels>(p, first_row, first_panel);
      if (left > Panels) tiles<Rows, Panels>(p, first_row, first_panel + Panels);
    } else if (left > 0) {
      tiles<Rows, Panels - 1>(p, first_row, first_panel);
    }
  }
}

template <int Rows>
void rows_of_tiles(const Product &p, int rows, int first_row) {
  if constexpr (Rows > 0) {
    if (rows == Rows) return tiles<Rows, panels_of(Rows)>(p, first_row, 0);
    rows_of_tiles<Rows - 1>(p, rows, first_row);
  }
}

inline void multiply(const Product &p) {
  // Tiles of nearly equal height: a last tile of one or two rows would wait for its sums.
  const int count = (p.rows + tile_rows - 1) / tile_rows;
  for (int i = 0; i < count; ++i) {
    const int first = p.rows * i / count;
    rows_of_tiles<tile_rows>(p, p.rows * (i + 1) / count - first, first);
  }
}

// Sums enough to hide the latency of all units, few enough to stay in registers; the factor is opaque to the compiler.
inline double multiply_adds(int64_t rounds) {
  constexpr int sums = 12;
  Floats sum[sums]{}, factor = splat(0.5f);
  asm volatile("" : "+m"(factor));
  for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 12
    for (int s = 0; s < sums; ++s) sum[s] = sum[s] * factor + factor;
#pragma GCC unroll 12
    for (int s = 0; s < sums; ++s) UNROLLED_KEEP(sum[s]);
  }
  return 2.0 * sums * lanes * double(rounds);
}

// Four rows at a time: what they compute does not wait for each other.
template <class Function>
void each(const Pointwise &step, int rows, Function function) {
  const float *a = step.a.data, *b = step.b.data;
  float *y = step.destination.data;
  const ptrdiff_t da = step.a.stride, db = step.b.stride, dy = step.destination.stride;
  int r = 0;
  for (; r + 4 <= rows; r += 4, a += 4 * da, b += 4 * db, y += 4 * dy) {
    for (int c = 0; c < block; c += lanes) {
      Floats result[4];
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) result[i] = function(load(a + i * da + c), load(b + i * db + c));
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) store(y + i * dy + c, result[i]);
    }
  }
  for (; r < rows; ++r, a += da, b += db, y += dy)
    for (int c = 0; c < block; c += lanes) store(y + c, function(load(a + c), load(b + c)));
}

inline void accumulate(const Pointwise &step, int rows) {
  for (int c = 0; c < block; c += lanes) {
    Floats sum{};
    for (int r = 0; r < rows; ++r) sum += load(step.a.data + r * step.a.stride + c);
    store(step.destination.data + c, load(step.destination.data + c) + sum);
  }
}

inline void execute_one(const Pointwise &step, int rows) {
  const Floats zero{}, one = splat(1.0f);
  switch (step.opcode) {
    case UNROLLED_COPY: return each(step, rows, [](Floats a, Floats) { return a; });
    case UNROLLED_ADD: return each(step, rows, [](Floats a, Floats b) { return a + b; });
    case UNROLLED_SUB: return each(step, rows, [](Floats a, Floats b) { return a - b; });
    case UNROLLED_MUL: return each(step, rows, [](Floats a, Floats b) { return a * b; });
    case UNROLLED_DIV: return each(step, rows, [](Floats a, Floats b) { return a / b; });
    case UNROLLED_NEG: return each(step, rows, [](Floats a, Floats) { return -a; });
    case UNROLLED_SIGMOID: return each(step, rows, [](Floats a, Floats) { return logistic(a); });
    case UNROLLED_TANH: return each(step, rows, [](Floats a, Floats) { return hyperbolic_tangent(a); });
    case UNROLLED_RELU: return each(step, rows, [=](Floats a, Floats) { return a < zero ? zero : a; });
    case UNROLLED_SOFTPLUS: return each(step, rows, [](Floats a, Floats) { return soft_plus(a); });
    case UNROLLED_EXP: return each(step, rows, [](Floats a, Floats) { return exponential(a); });
    case UNROLLED_LOG: return each(step, rows, [](Floats a, Floats) { return logarithm(a); });
    case UNROLLED_SQRT: return each(step, rows, [](Floats a, Floats) { return square_root(a); });
    case UNROLLED_ABS: return each(step, rows, [](Floats a, Floats) { return (Floats)((Ints)a & 0x7fffffff); });
    case UNROLLED_MAXIMUM:
      return each(step, rows, [](Floats a, Floats b) { return (a > b) | (a != a) ? a : b; });
    case UNROLLED_MINIMUM:
      return each(step, rows, [](Floats a, Floats b) { return (a < b) | (a != a) ? a : b; });
    case UNROLLED_SIGN:
      return each(step, rows, [=](Floats a, Floats) { return (a > zero ? one : zero) - (a < zero ? one : zero); });
    case UNROLLED_ACCUMULATE: return accumulate(step, rows);
  }
}

inline void execute(const Pointwise *code, int count, int rows) {
  for (int i = 0; i < count; ++i) execute_one(code[i], rows);
}

}  // namespace unrolled::UNROLLED_NAMESPACE
