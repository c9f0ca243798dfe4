// SPDX-License-Identifier: Apache-2.0
// What memory alone allows an optimizer: the same reads and writes with next to no arithmetic; and
// arithmetic without memory.
#include <cstdint>
#include <cstring>

#define WIDEST __attribute__((target_clones("avx512f", "avx2", "default")))

// Four streams read, three of them written: parameter, gradient and two moments in float32.
WIDEST static void seven(float *__restrict p, const float *__restrict g, float *__restrict m,
                         float *__restrict v, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const float x = g[i] * 1e-6f;
    p[i] += x;
    m[i] += x;
    v[i] += x;
  }
}

// A 16-bit gradient read and a 16-bit parameter written beside a master copy and two moments.
WIDEST static void mixed(uint16_t *__restrict p, const uint16_t *__restrict g, float *__restrict w,
                         float *__restrict m, float *__restrict v, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const float x = static_cast<float>(g[i]) * 1e-12f;
    const float next = w[i] + x;
    w[i] = next;
    m[i] += x;
    v[i] += x;
    uint32_t bits;
    std::memcpy(&bits, &next, 4);
    p[i] = static_cast<uint16_t>(bits >> 16);
  }
}

extern "C" __attribute__((visibility("default"))) void bench_pass(
    void *const *p, void *const *g, float *const *w, float *const *m, float *const *v,
    const int64_t *numels, int64_t count, int32_t threads) {
  constexpr int64_t kPiece = 1 << 16;
#pragma omp parallel for schedule(static) num_threads(threads) if (count > 1 || numels[0] > kPiece)
  for (int64_t part = 0; part < threads; ++part)
    for (int64_t i = 0; i < count; ++i) {
      // Many tensors are dealt out whole, a single one in equal shares.
      int64_t begin = 0, end = numels[i];
      if (count >= 8 * threads) {
        if (i * threads / count != part) continue;
      } else {
        begin = numels[i] / threads * part;
        end = part + 1 == threads ? numels[i] : numels[i] / threads * (part + 1);
      }
      const int64_t n = end - begin;
      if (w)
        mixed(static_cast<uint16_t *>(p[i]) + begin, static_cast<uint16_t *>(g[i]) + begin,
              w[i] + begin, m[i] + begin, v[i] + begin, n);
      else
        seven(static_cast<float *>(p[i]) + begin, static_cast<float *>(g[i]) + begin, m[i] + begin,
              v[i] + begin, n);
    }
}

typedef float Eight __attribute__((vector_size(32)));

// Keeps the units for arithmetic busy: ten chains that do not wait for each other.
WIDEST static float chains() {
  Eight x[10] = {};
  for (int64_t i = 0; i < 200'000; ++i)
#pragma GCC unroll 10
    for (int k = 0; k < 10; ++k) x[k] = x[k] * 0.5f + 1.0f;
  float sum = 0.0f;
  for (const Eight &one : x) sum += one[0];
  return sum;
}

extern "C" __attribute__((visibility("default"))) float bench_arithmetic(int32_t threads) {
  float sum = 0.0f;
#pragma omp parallel num_threads(threads) reduction(+ : sum)
  sum += chains();
  return sum;
}
