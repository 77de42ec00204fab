// Whether this machine multiplies bfloat16, and memory for what is rounded on the way.
#include "bf16.h"

#include <cstring>
#include <memory>
#include <new>

#include "status.h"

namespace unrolled {

#if defined(__x86_64__)
extern const Bf16Kernels bf16_avx512;
#endif

const Bf16Kernels *bf16_kernels() {
#if defined(__x86_64__)
  static const bool has = std::strcmp(kernels().name, "avx512") == 0 && __builtin_cpu_supports("avx512bf16");
  if (has) return &bf16_avx512;
#endif
  return nullptr;
}

float *pairs_memory(int64_t floats) {
  struct Free {
    void operator()(float *memory) const { ::operator delete(memory, std::align_val_t(64)); }
  };
  thread_local std::unique_ptr<float, Free> memory;
  thread_local int64_t size = 0;
  if (floats > size) {
    size = 0;
    memory.reset();
    memory.reset(static_cast<float *>(::operator new(size_t(floats) * sizeof(float), std::align_val_t(64))));
    size = floats;
  }
  return memory.get();
}

}  // namespace unrolled

int unrolled_bf16(void) { return unrolled::bf16_kernels() != nullptr; }
