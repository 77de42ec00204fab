// What the tests share: the one assertion, which says where and what, and memory that can be made to run out.
#pragma once

#include <cstdio>
#include <cstdlib>

#include <atomic>
#include <new>

#define CHECK(condition)                                                       \
  do {                                                                         \
    if (!(condition)) {                                                        \
      std::fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
      std::exit(1);                                                            \
    }                                                                          \
  } while (0)

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
