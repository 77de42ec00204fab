// What all instruction sets share: covering a product with tiles, and rounding, compiled for each of them.
#pragma once

#include <cstring>

#include "int8.h"

namespace unrolled {
namespace {  // each set has its own

// The tiles of `Rows` vectors: as many of Tile::panels panels as there are, then one of what is left.
template <class Tile, int Rows, int Panels>
void int8_panels(const Int8Product &p, int row, int panel) {
  if constexpr (Panels > 0) {
    for (; p.panels - panel >= Panels; panel += Panels) Tile::template multiply<Rows, Panels>(p, row, panel);
    if (panel < p.panels) int8_panels<Tile, Rows, Panels - 1>(p, row, panel);
  }
}

template <class Tile, int Rows>
void int8_rows(const Int8Product &p, int row, int rows) {
  if constexpr (Rows > 0) {
    if (rows == Rows) return int8_panels<Tile, Rows, Tile::panels>(p, row, 0);
    int8_rows<Tile, Rows - 1>(p, row, rows);
  }
}

// Tiles of nearly equal height, of Tile::rows at most.
template <class Tile>
void int8_multiply(const Int8Product &p) {
  const int count = (p.rows + Tile::rows - 1) / Tile::rows;
  for (int i = 0; i < count; ++i) {
    const int first = p.rows * i / count;
    int8_rows<Tile, Tile::rows>(p, first, p.rows * (i + 1) / count - first);
  }
}

// Written for the compiler to make vectors of.
float int8_round(const float *values, int64_t count, int8_t *rounded) {
  int32_t largest_bits = 0;  // of numbers without sign, larger is larger in bits too, and last comes what is no number
  for (int64_t i = 0; i < count; ++i) {
    int32_t bits;
    std::memcpy(&bits, values + i, sizeof bits);
    bits &= 0x7fffffff;
    largest_bits = bits > largest_bits ? bits : largest_bits;
  }
  float largest;
  std::memcpy(&largest, &largest_bits, sizeof largest);
  if (!(largest < __builtin_inff())) {
    std::memset(rounded, 1, int8_depth(count));
    return __builtin_nanf("");
  }
  const float inverse = largest > 1.0e-30f ? 127.0f / largest : 0.0f;
  const float shift = 12582912.0f;  // 1.5 * 2^23: adding it rounds to a whole number
  for (int64_t i = 0; i < count; ++i) rounded[i] = int8_t(int32_t((values[i] * inverse + shift) - shift));
  for (int64_t i = count; i < int8_depth(count); ++i) rounded[i] = 0;
  return largest / 127.0f;
}

}  // namespace
}  // namespace unrolled
