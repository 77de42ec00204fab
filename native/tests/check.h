// What the tests share: the one assertion, which says where and what, numbers and arrays for the engine, and memory that
// can be made to run out.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include <atomic>
#include <new>
#include <vector>

#include "unrolled.h"

#define CHECK(condition)                                                       \
  do {                                                                         \
    if (!(condition)) {                                                        \
      std::fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
      std::exit(1);                                                            \
    }                                                                          \
  } while (0)

inline char message[UNROLLED_MESSAGE];

inline float value(int64_t seed) { return float((seed * 37 % 101) - 50) / 100.0f; }

// An array of the engine: block by block, at an address that it can read.
struct Memory {
  int64_t rows, stride;
  std::vector<float> floats;

  Memory(int64_t rows, int64_t width) : rows(rows), stride((width + 15) / 16 * 16), floats(rows * stride + 16) {}
  explicit Memory(int64_t width) : Memory(1, width) {}
  float *data() { return floats.data() + (64 - reinterpret_cast<uintptr_t>(floats.data()) % 64) % 64 / 4; }
  float &at(int64_t row, int64_t column) { return data()[(column / 16 * rows + row) * 16 + column % 16]; }
};

// So many more allocations succeed, the library's among them, which finds these functions before the standard ones.
inline std::atomic<long> allocations_left{-1};  // below 0: all of them

inline void *allocate(std::size_t size) {
  long left = allocations_left.load();
  while (left > 0 && !allocations_left.compare_exchange_weak(left, left - 1)) {
  }
  return left == 0 ? nullptr : std::malloc(size ? size : 1);
}

void *operator new(std::size_t size) {
  if (void *memory = allocate(size)) return memory;
  throw std::bad_alloc();
}
void *operator new[](std::size_t size) { return operator new(size); }
void *operator new(std::size_t size, const std::nothrow_t &) noexcept { return allocate(size); }
void operator delete(void *memory) noexcept { std::free(memory); }
void operator delete[](void *memory) noexcept { std::free(memory); }
void operator delete(void *memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void *memory, std::size_t) noexcept { std::free(memory); }

// Calls `run`, which returns a status, with no memory from the first allocation on, then from the second on, and so on
// until it has enough; returns how often it had not.
template <class Run>
int starve(Run run) {
  for (int enough = 0;; ++enough) {
    allocations_left = enough;
    const int status = run();
    allocations_left = -1;
    if (status == UNROLLED_OK) return enough;
    CHECK(status == UNROLLED_NO_MEMORY);
  }
}
