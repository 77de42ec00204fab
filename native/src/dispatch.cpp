// The kernels of this machine, chosen once when the library is loaded.
#include <cstdlib>
#include <cstring>

#include "kernels.h"
#include "threads.h"

namespace unrolled {

extern const Kernels kernels_baseline;
#if defined(__x86_64__)
extern const Kernels kernels_avx2;
extern const Kernels kernels_avx512;
#endif

static const Kernels &choose() {
  const char *wanted = std::getenv("UNROLLED_INSTRUCTION_SET");  // to test a lesser set on a better machine
  const auto allowed = [&](const Kernels &k) { return wanted == nullptr || std::strcmp(wanted, k.name) == 0; };
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
  if (avx512 && avx2 && allowed(kernels_avx512)) return kernels_avx512;
  if (avx2 && allowed(kernels_avx2)) return kernels_avx2;
#endif
  (void)allowed;
  return kernels_baseline;
}

const Kernels &kernels() {
  static const Kernels &chosen = choose();
  return chosen;
}

}  // namespace unrolled

extern "C" const char *unrolled_instruction_set(void) { return unrolled::kernels().name; }
extern "C" int unrolled_abi(void) { return UNROLLED_ABI; }

double unrolled_multiply_adds(int64_t rounds, int32_t threads) {
  using namespace unrolled;
  std::atomic<int> members{1};
  double operations = 0;
  parallel(threads, [&](int thread, int active) {
    const double own = kernels().multiply_adds(rounds);
    if (thread == 0) operations = own, members = active;
  });
  return operations * members;
}
