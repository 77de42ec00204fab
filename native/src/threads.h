// Threads: OpenMP's, because torch's come from the same runtime, and two pools on the same cores wait for each other.
#pragma once

#include <sched.h>

#include <atomic>
#include <cstdint>
#include <exception>
#include <new>
#include <thread>
#include <vector>

#if defined(_OPENMP)
#include <omp.h>
#endif
#if defined(__SSE__)
#include <xmmintrin.h>
#endif

namespace unrolled {

// Denormal numbers count as zero while this lives: they cost a hundred cycles each and carry nothing.
class FlushDenormals {
 public:
#if defined(__SSE__)
  FlushDenormals() : before_(_mm_getcsr()) { _mm_setcsr(before_ | 0x8040); }
  ~FlushDenormals() { _mm_setcsr(before_); }

 private:
  unsigned before_;
#endif
};

// All `members` threads wait here for the last. Spins, then gives the core away: the last may need it. Throws if a thread
// of the run has failed, for then the last may never come.
class Barrier {
 public:
  explicit Barrier(const std::atomic<bool> &failed) : failed_(failed) {}

  void wait(int members) {
    if (members == 1) return;
    const uint32_t round = round_.load(std::memory_order_relaxed);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == members) {
      arrived_.store(0, std::memory_order_relaxed);
      round_.store(round + 1, std::memory_order_release);
      return;
    }
    for (int spins = 0; round_.load(std::memory_order_acquire) == round; ++spins) {
      if (failed_.load(std::memory_order_relaxed)) throw std::bad_alloc();
      if (spins > 2000) sched_yield();
#if defined(__SSE__)
      else _mm_pause();
#endif
    }
  }

 private:
  const std::atomic<bool> &failed_;
  alignas(64) std::atomic<int> arrived_{0};
  alignas(64) std::atomic<uint32_t> round_{0};
};

// Calls work(thread, threads) on at most `threads` threads; OpenMP may give fewer. What a thread can fail for is memory:
// then `failed`, which its barriers were made with, is set, and std::bad_alloc thrown when all threads have ended.
// With UNROLLED_STANDARD_THREADS the threads are the standard library's, made for each call: the thread sanitizer does not
// see OpenMP's barriers.
template <class Work>
void parallel(int threads, std::atomic<bool> &failed, Work work) {
  const auto run = [&](int thread, int all) {
    FlushDenormals flush;
    try {
      work(thread, all);
    } catch (const std::exception &) {
      failed = true;
    }
  };
#if defined(UNROLLED_STANDARD_THREADS)
  std::vector<std::thread> others;
  try {
    others.reserve(threads);
    for (int thread = 1; thread < threads; ++thread) others.emplace_back(run, thread, threads);
  } catch (const std::exception &) {
    failed = true;
  }
  run(0, threads < 1 ? 1 : threads);
  for (std::thread &other : others) other.join();
#elif defined(_OPENMP)
  if (threads > 1 && !omp_in_parallel()) {
#pragma omp parallel num_threads(threads)
    run(omp_get_thread_num(), omp_get_num_threads());
  } else {
    run(0, 1);
  }
#else
  (void)threads;
  run(0, 1);
#endif
  if (failed) throw std::bad_alloc();
}

// The same for work that can't fail.
template <class Work>
void parallel(int threads, Work work) {
  std::atomic<bool> failed{false};
  parallel(threads, failed, work);
}

}  // namespace unrolled
