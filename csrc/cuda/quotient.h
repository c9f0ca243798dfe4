// SPDX-License-Identifier: Apache-2.0
// x / (sqrt(y) + eps) of several elements, every operation rounded as IEEE 754 says. The compiler's
// own division and root branch for every element; here one branch covers them all.
#pragma once

#include <cmath>

#include "elements.h"

namespace accel {

#if defined(ACCEL_HOST_BUILD) || (defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800)
#define ACCEL_QUICK_QUOTIENT 1
#endif

#if defined(ACCEL_QUICK_QUOTIENT)

#if defined(ACCEL_HOST_BUILD)

inline float flushed(float x) { return std::fabs(x) < 0x1p-126f ? std::copysign(0.0f, x) : x; }
inline float inverse_root(float x) { return static_cast<float>(1.0 / std::sqrt(double{flushed(x)})); }
inline float inverse(float x) { return flushed(static_cast<float>(1.0 / double{flushed(x)})); }
inline float smaller_or_nan(float x, float y) { return x < y || x != x ? x : y; }
inline float fused(float x, float y, float z) { return std::fma(x, y, z); }

#else

ACCEL_DEVICE float inverse_root(float x) {
  float r;
  asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
  return r;
}

ACCEL_DEVICE float inverse(float x) {
  float r;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
  return r;
}

ACCEL_DEVICE float smaller_or_nan(float x, float y) {
  float r;
  asm("min.NaN.f32 %0, %1, %2;" : "=f"(r) : "f"(x), "f"(y));
  return r;
}

ACCEL_DEVICE float fused(float x, float y, float z) { return __fmaf_rn(x, y, z); }

#endif

// The compiler's own steps for a root and a division of moderate size; right for 0 / d and sqrt(0)
// too. Returns whether every element was so: x is 0 or from 2^-100 on, y is 0 or from 2^-100 on, the
// divisor lies within 2^-60 and 2^24, and the quotient is finite. Then no step is subnormal.
template <int N>
ACCEL_DEVICE bool quick_over_root(const float (&x)[N], const float (&y)[N], float eps, float (&out)[N]) {
  constexpr uint32_t kLeast = 27u << 23, kLeastDivisor = 67u << 23;
  uint32_t least_x = 0xFFFFFFFFu, least_y = 0xFFFFFFFFu;
  uint32_t most_d = 0;
  float zero = 0.0f;
  ACCEL_UNROLL
  for (int k = 0; k < N; ++k) {
    // 0 becomes the largest.
    const uint32_t of_x = 2u * bits_of(x[k]) - 1u, of_y = bits_of(y[k]) - 1u;
    least_x = of_x < least_x ? of_x : least_x;
    least_y = of_y < least_y ? of_y : least_y;
    // Infinity, from 0, becomes a number that 0 can be multiplied by.
    const float r = smaller_or_nan(inverse_root(y[k]), 0x1p51f), s = y[k] * r;
    const float d = fused(fused(-s, s, y[k]), r * 0.5f, s) + eps;
    const uint32_t of_d = bits_of(d) - kLeastDivisor;
    most_d = of_d > most_d ? of_d : most_d;
    float i = inverse(d);
    i = fused(i, fused(-d, i, 1.0f), i);
    const float q = x[k] * i;
    // With the remainder negated, a quotient of -0 keeps its sign.
    out[k] = fused(-i, fused(d, q, -x[k]), q);
    zero = fused(out[k], 0.0f, zero);
  }
  return least_x >= 2u * kLeast - 1u && least_y >= kLeast - 1u && most_d <= (84u << 23) && zero == 0.0f;
}

#endif

template <int N>
ACCEL_DEVICE void over_root(const float (&x)[N], const float (&y)[N], float eps, float (&out)[N]) {
#if defined(ACCEL_QUICK_QUOTIENT)
  if constexpr (N > 1) {
    if (quick_over_root(x, y, eps, out)) return;
  }
#endif
  ACCEL_UNROLL
  for (int k = 0; k < N; ++k) out[k] = x[k] / (sqrtf(y[k]) + eps);
}

}  // namespace accel
