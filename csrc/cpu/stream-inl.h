// SPDX-License-Identifier: Apache-2.0
// Walking along arrays that come from memory, for one SIMD level: included inside each target region.

namespace ACCEL_TARGET {

// Elements. Loops over whole portions ask for what lies `kAhead` further on: the processor's own
// prefetching ends at every page and, with sums and roots to do, has fewer lines on the way than
// memory could deliver.
constexpr int64_t kPortion = 64, kAhead = 256;

template <class T>
static inline __attribute__((always_inline)) void ask_for(const T *portion) {
  constexpr int64_t kLine = 64 / sizeof(T);
  for (int64_t i = 0; i < kPortion; i += kLine) __builtin_prefetch(portion + i);
}

// Asks for the portion of each array that is used `kAhead` elements after the one at `i`, if the `n`
// elements reach that far.
template <class... T>
static inline __attribute__((always_inline)) void ask_ahead(int64_t i, int64_t n, const T *...arrays) {
  if (n - i >= kAhead + kPortion) (ask_for(arrays + i + kAhead), ...);
}

}  // namespace ACCEL_TARGET
