// Products by tiles, written once over the vector width; who includes this has said what a `multiply_add` is.
#pragma once

#include "kernels.h"
#include "lanes.h"

namespace unrolled::UNROLLED_NAMESPACE {

constexpr int vectors = block / lanes;  // vectors of a panel's row

inline void fetch(Ahead &ahead) {
  for (int i = 0; i < ahead.at_once && ahead.next != ahead.end; ++i) {
    const float *line = ahead.next->first + ahead.done * ahead.next->stride;
    ahead.next->write ? __builtin_prefetch(line, 1) : __builtin_prefetch(line);
    if (++ahead.done == ahead.next->count) ahead.done = 0, ++ahead.next;
  }
}

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
      if (p.ahead != nullptr) fetch(*p.ahead);
#pragma GCC unroll 2
      for (int k = 0; k < count; ++k) {
        Floats right[columns];
        for (int c = 0; c < columns; ++c) right[c] = load(panel[c / vectors] + c % vectors * lanes);
        for (int r = 0; r < Rows; ++r) {
          const Floats left = splat(left_block[r * row_stride]);
          for (int c = 0; c < columns; ++c) multiply_add(sum[r][c], left, right[c]);
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
  return fit < 1 ? 1 : at_most(fit, 4);
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

}  // namespace unrolled::UNROLLED_NAMESPACE
