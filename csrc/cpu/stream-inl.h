// SPDX-License-Identifier: Apache-2.0
// Walking along arrays that come from memory, for one SIMD level: included inside each target region.

namespace ACCEL_TARGET {

// Elements. Loops over whole portions ask for what lies `kAhead` further on: the processor's own
// prefetching ends at every page and, with sums and roots to do, has fewer lines on the way than
// memory could deliver. Where an array ends, the next one's beginning is asked for.
constexpr int64_t kPortion = 32, kAhead = 256;

template <class T>
static inline __attribute__((always_inline)) void ask_for_portion(const T *portion) {
  constexpr int64_t kLine = 64 / sizeof(T);
  for (int64_t i = 0; i < kPortion; i += kLine) __builtin_prefetch(portion + i);
}

// Asks for the portion that begins at `at` in each array.
template <class... T>
static inline __attribute__((always_inline)) void ask_for(int64_t at, const T *...arrays) {
  (ask_for_portion(arrays + at), ...);
}

// Which portion of the next array to ask for at portion `i` of one that has `whole` elements in portions.
static inline int64_t beginning(int64_t i, int64_t whole) {
  return whole < kAhead ? i : i + kAhead - whole;
}

}  // namespace ACCEL_TARGET
