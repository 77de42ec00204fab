// Vectors of floats in the compiler's own vector types: UNROLLED_LANES of them, set per translation unit.
// Everything here lives in a namespace of the instruction set, so that no two sets share a symbol.
#pragma once

#include <cstdint>
#include <cstring>

namespace unrolled::UNROLLED_NAMESPACE {

constexpr int lanes = UNROLLED_LANES;
typedef float Floats __attribute__((vector_size(lanes * 4)));
typedef int32_t Ints __attribute__((vector_size(lanes * 4)));
typedef float UnalignedFloats __attribute__((vector_size(lanes * 4), aligned(4), may_alias));

inline Floats load(const float *from) { return *reinterpret_cast<const UnalignedFloats *>(from); }
inline void store(float *to, Floats value) { *reinterpret_cast<UnalignedFloats *>(to) = value; }
inline Floats splat(float value) { return value - Floats{}; }

}  // namespace unrolled::UNROLLED_NAMESPACE
