// SPDX-License-Identifier: Apache-2.0
// What memory alone allows clipping: every element read once, then read and written once.
#include <cstdint>

#define WIDEST __attribute__((target_clones("avx512f", "avx2", "default")))

WIDEST static float total(const float *x, int64_t n) {
  float sums[64] = {};
  for (int64_t i = 0; i + 64 <= n; i += 64)
    for (int64_t k = 0; k < 64; ++k) sums[k] += x[i + k];
  float sum = 0.0f;
  for (int64_t k = 0; k < 64; ++k) sum += sums[k];
  return sum;
}

WIDEST static void scale(float *x, int64_t n, float by) {
  for (int64_t i = 0; i < n; ++i) x[i] *= by;
}

// Calls body(begin, n) for one thread's share of a tensor: many tensors are dealt out whole.
template <class Body>
static void each(float *const *at, const int64_t *numels, int64_t count, int32_t threads, const Body &body) {
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t part = 0; part < threads; ++part)
    for (int64_t i = 0; i < count; ++i) {
      int64_t begin = 0, end = numels[i];
      if (count >= 8 * threads && numels[i] < 1 << 20) {
        if (i * threads / count != part) continue;
      } else {
        begin = numels[i] / threads * part;
        end = part + 1 == threads ? numels[i] : numels[i] / threads * (part + 1);
      }
      body(at[i] + begin, end - begin);
    }
}

extern "C" __attribute__((visibility("default"))) float bench_clip_pass(
    float *const *at, const int64_t *numels, int64_t count, float by, int32_t threads) {
  float found = 0.0f;
  each(at, numels, count, threads, [&](float *x, int64_t n) {
    const float sum = total(x, n);
    if (sum == 1e30f) found = sum;  // so that the sum is needed
  });
  each(at, numels, count, threads, [&](float *x, int64_t n) { scale(x, n, by); });
  return found;
}
