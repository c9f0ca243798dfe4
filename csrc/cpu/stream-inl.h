// SPDX-License-Identifier: Apache-2.0
// Loops over arrays in memory with prefetching, for one SIMD level: included inside each target region.

// In the loop that follows, no iteration reads or writes an element that another one writes.
#ifdef __clang__
#define ACCEL_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define ACCEL_INDEPENDENT _Pragma("GCC ivdep")
#endif

namespace ACCEL_TARGET {

// Elements. Loops over whole portions prefetch `kAhead` further on: the processor's own prefetching
// ends at every page and, with sums and roots to do, has fewer lines in flight than memory could
// deliver. At the end of an array, the beginning of the next one is prefetched.
constexpr int64_t kPortion = 32, kAhead = 256;

template <class T>
static inline __attribute__((always_inline)) void ask_for_portion(const T *portion) {
  constexpr int64_t kLine = 64 / sizeof(T);
  for (int64_t i = 0; i < kPortion; i += kLine) __builtin_prefetch(portion + i);
}

// Prefetches the portion that begins at `at` in each array.
template <class... T>
static inline __attribute__((always_inline)) void ask_for(int64_t at, const T *...arrays) {
  (ask_for_portion(arrays + at), ...);
}

// Calls element(i) for every i below n, which must be independent, and prefetches the arrays ahead.
template <class Element, class... T>
static inline __attribute__((always_inline)) void for_elements(int64_t n, const Element &element,
                                                               [[maybe_unused]] const T *...arrays) {
  int64_t i = 0;
#ifndef ACCEL_LOWEST
  for (; i + kPortion <= n; i += kPortion) {
    ask_for(i + kAhead, arrays...);
    ACCEL_INDEPENDENT
#pragma GCC unroll 8
    for (int64_t j = i; j < i + kPortion; ++j) element(j);
  }
#endif
  ACCEL_INDEPENDENT
  for (; i < n; ++i) element(i);
}

// The portion of the next array to prefetch at portion `i` of one with `whole` elements in portions.
static inline int64_t beginning(int64_t i, int64_t whole) {
  return whole < kAhead ? i : i + kAhead - whole;
}

}  // namespace ACCEL_TARGET
