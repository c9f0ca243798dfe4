// SPDX-License-Identifier: Apache-2.0
// Work over many tensors, split by elements: one OpenMP team a call, one thread after a fork.
#pragma once

#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#ifdef _OPENMP
#include <omp.h>
#endif

#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace accel {

// Instead of <algorithm> and <atomic>, which take longer to read than this file to compile.
inline int64_t lesser(int64_t a, int64_t b) { return a < b ? a : b; }
template <class T>
T load(const T &shared) {
  return __atomic_load_n(&shared, __ATOMIC_RELAXED);
}
template <class T>
void store(T &shared, T value) {
  __atomic_store_n(&shared, value, __ATOMIC_RELAXED);
}

// A forked child inherits its parent's OpenMP pool without the threads and would wait for them for
// ever, so it uses one thread.
inline bool in_forked_child = false;

// True if the process was forked and has not called exec since: flag 0x40, PF_FORKNOEXEC, of the
// ninth field of /proc/self/stat. A library that is loaded in a child learns of the fork by it.
inline bool forked_without_exec() {
  const int file = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
  if (file < 0) return false;
  char text[1024];
  const ssize_t length = read(file, text, sizeof text - 1);
  close(file);
  if (length <= 0) return false;
  text[length] = 0;
  // The second field is the program's name in brackets, which may hold anything.
  const char *at = std::strrchr(text, ')');
  for (int field = 2; at && field < 9; ++field) at = std::strchr(at + 1, ' ');
  return at && (std::strtoul(at + 1, nullptr, 10) & 0x40u);
}

__attribute__((constructor)) inline void watch_forks() {
  store(in_forked_child, forked_without_exec());
  pthread_atfork(nullptr, nullptr, [] { store(in_forked_child, true); });
}

constexpr int64_t kGrain = 16;             // elements: a float32 cache line, so no two threads share one
constexpr int64_t kWorthAThread = 1 << 14;  // elements: below it a second thread costs more than it saves

// Calls body(tensor, begin, end) for pieces that cover every element of every tensor once; pieces
// begin at multiples of kUnit in their tensor.
template <int64_t kUnit = kGrain, class Body>
void for_pieces(const int64_t *numels, int64_t count, int32_t max_threads, const Body &body) {
  int64_t total = 0;
  for (int64_t i = 0; i < count; ++i) total += numels[i];
  if (total == 0) return;
  [[maybe_unused]] int64_t wanted = lesser(max_threads, (total + kWorthAThread - 1) / kWorthAThread);
  if (load(in_forked_child)) wanted = 1;

  const auto share = [&](int64_t part, int64_t parts) {
    // Both ends in double width: total * parts may pass 2^63.
    const int64_t first = static_cast<int64_t>(static_cast<__int128>(total) * part / parts);
    const int64_t last = static_cast<int64_t>(static_cast<__int128>(total) * (part + 1) / parts);
    int64_t offset = 0;
    for (int64_t i = 0; i < count && offset < last; offset += numels[i], ++i) {
      if (offset + numels[i] <= first) continue;
      const auto cut = [&](int64_t at) {
        const int64_t inside = at < offset ? 0 : lesser(at - offset, numels[i]);
        return inside == numels[i] ? inside : inside / kUnit * kUnit;
      };
      const int64_t begin = cut(first), end = cut(last);
      if (begin < end) body(i, begin, end);
    }
  };
#ifdef _OPENMP
  if (wanted > 1) {
#pragma omp parallel num_threads(static_cast<int>(wanted))
    share(omp_get_thread_num(), omp_get_num_threads());
    return;
  }
#endif
  share(0, 1);
}

// Calls body(begin, end) for ranges that cover [0, count) once, of at least kLeast items each.
template <int64_t kLeast, class Body>
void for_ranges(int64_t count, int32_t max_threads, const Body &body) {
  [[maybe_unused]] int64_t wanted = lesser(max_threads, count / kLeast);
  if (load(in_forked_child)) wanted = 1;
#ifdef _OPENMP
  if (wanted > 1) {
#pragma omp parallel num_threads(static_cast<int>(wanted))
    {
      const int64_t part = omp_get_thread_num(), parts = omp_get_num_threads();
      body(count * part / parts, count * (part + 1) / parts);
    }
    return;
  }
#endif
  body(0, count);
}

// Calls body(item) for every item once, each thread taking the next one when it is done.
template <class Body>
void for_items(int64_t count, int32_t max_threads, const Body &body) {
  int64_t next = 0;
  const auto take = [&] {
    for (int64_t item; (item = __atomic_fetch_add(&next, 1, __ATOMIC_RELAXED)) < count;) body(item);
  };
  [[maybe_unused]] int64_t wanted = lesser(max_threads, count);
  if (load(in_forked_child)) wanted = 1;
#ifdef _OPENMP
  if (wanted > 1) {
#pragma omp parallel num_threads(static_cast<int>(wanted))
    take();
    return;
  }
#endif
  take();
}

}  // namespace accel
