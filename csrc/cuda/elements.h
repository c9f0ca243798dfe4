// SPDX-License-Identifier: Apache-2.0
// Elements in registers as float32, loaded and stored 16 bytes or one element at a time, in every
// element type, rounded as common/rounding.h does.
#pragma once

#include <cstring>

// The device runtime first: common headers use its keywords.
#include "runtime.h"

#include "../common/random.h"
#include "../common/rounding.h"

namespace accel {

// An element type that is known when compiling, or Any: given by its code at run time.
struct Float32 { static constexpr int kBytes = 4; };
struct BFloat16 { static constexpr int kBytes = 2; };
struct Float16 { static constexpr int kBytes = 2; };
struct Any {};

struct Rounding {
  bool stochastic;
  uint64_t key;
};

// `Bytes` adjacent bytes, at an address that is a multiple of as many (of 16 at most).
template <int BYTES>
ACCEL_DEVICE void move(void *to, const void *from) {
#if defined(__CUDA_ARCH__) || defined(__HIP_DEVICE_COMPILE__)
  if constexpr (BYTES % 16 == 0) {
    ACCEL_UNROLL
    for (int i = 0; i < BYTES / 16; ++i) static_cast<uint4 *>(to)[i] = static_cast<const uint4 *>(from)[i];
  } else if constexpr (BYTES == 8) {
    *static_cast<uint2 *>(to) = *static_cast<const uint2 *>(from);
  } else if constexpr (BYTES == 4) {
    *static_cast<uint32_t *>(to) = *static_cast<const uint32_t *>(from);
  } else {
    static_assert(BYTES == 2, "one of the sizes above");
    *static_cast<uint16_t *>(to) = *static_cast<const uint16_t *>(from);
  }
#else
  // The host allows unaligned accesses, a GPU does not.
  constexpr uintptr_t kAlignment = BYTES % 16 == 0 ? 16 : BYTES;
  const uintptr_t both = reinterpret_cast<uintptr_t>(to) | reinterpret_cast<uintptr_t>(from);
  if (both % kAlignment) __builtin_trap();
  memcpy(to, from, BYTES);
#endif
}

ACCEL_DEVICE uint32_t narrow(BFloat16, float x) { return narrow_bfloat16(x); }
ACCEL_DEVICE uint32_t narrow(BFloat16, float x, uint32_t noise) { return narrow_bfloat16(x, noise); }
ACCEL_DEVICE float widen(BFloat16, uint32_t bits) { return widen_bfloat16(bits); }

ACCEL_DEVICE uint32_t narrow(Float16, float x) {
#if defined(__CUDA_ARCH__)
  uint16_t half;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(half) : "f"(x));
  return half;
#else
  return narrow_float16(x);
#endif
}

ACCEL_DEVICE uint32_t narrow(Float16, float x, uint32_t noise) { return narrow_float16(x, noise); }

ACCEL_DEVICE float widen(Float16, uint32_t bits) {
#if defined(__CUDA_ARCH__)
  float x;
  asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(static_cast<uint16_t>(bits)));
  return x;
#else
  return widen_float16(bits);
#endif
}

ACCEL_DEVICE char *element_at(void *base, int64_t i, int bytes) { return static_cast<char *>(base) + i * bytes; }

template <int N>
ACCEL_DEVICE void load(Float32, int32_t, void *base, int64_t i, float (&x)[N]) {
  alignas(16) float raw[N];
  move<4 * N>(raw, element_at(base, i, 4));
  ACCEL_UNROLL
  for (int k = 0; k < N; ++k) x[k] = raw[k];
}

template <class T, int N>
ACCEL_DEVICE void load(T type, int32_t, void *base, int64_t i, float (&x)[N]) {
  alignas(16) uint16_t raw[N];
  move<2 * N>(raw, element_at(base, i, 2));
  ACCEL_UNROLL
  for (int k = 0; k < N; ++k) x[k] = widen(type, raw[k]);
}

template <int N>
ACCEL_DEVICE void load(Any, int32_t dtype, void *base, int64_t i, float (&x)[N]) {
  if (dtype == ACCEL_FLOAT32) load(Float32(), dtype, base, i, x);
  else if (dtype == ACCEL_BFLOAT16) load(BFloat16(), dtype, base, i, x);
  else load(Float16(), dtype, base, i, x);
}

template <int N>
ACCEL_DEVICE void store(Float32, int32_t, void *base, int64_t i, const float (&x)[N], Rounding) {
  alignas(16) float raw[N];
  ACCEL_UNROLL
  for (int k = 0; k < N; ++k) raw[k] = x[k];
  move<4 * N>(element_at(base, i, 4), raw);
}

template <class T, int N>
ACCEL_DEVICE void store(T type, int32_t, void *base, int64_t i, const float (&x)[N], Rounding how) {
  alignas(16) uint16_t raw[N];
  if (how.stochastic) {
    ACCEL_UNROLL
    for (int k = 0; k < N; ++k) {
      const uint32_t noise = accel_random_bits(how.key, static_cast<uint64_t>(i + k));
      raw[k] = static_cast<uint16_t>(narrow(type, x[k], noise));
    }
  } else {
    ACCEL_UNROLL
    for (int k = 0; k < N; ++k) raw[k] = static_cast<uint16_t>(narrow(type, x[k]));
  }
  move<2 * N>(element_at(base, i, 2), raw);
}

template <int N>
ACCEL_DEVICE void store(Any, int32_t dtype, void *base, int64_t i, const float (&x)[N], Rounding how) {
  if (dtype == ACCEL_FLOAT32) store(Float32(), dtype, base, i, x, how);
  else if (dtype == ACCEL_BFLOAT16) store(BFloat16(), dtype, base, i, x, how);
  else store(Float16(), dtype, base, i, x, how);
}

// Calls body.at<width>(i) for the share of one thread in [begin, end): whole vectors of N adjacent
// elements if `aligned`, and single elements for the rest.
template <int N, class Body>
ACCEL_DEVICE void for_share(int64_t begin, int64_t end, bool aligned, Body &body) {
  const int64_t thread = thread_index();
  int64_t rest = begin;
  if (aligned) {
    const int64_t whole = begin + (end - begin) / N * N;
    for (int64_t i = begin + thread * N; i < whole; i += kThreads * N) body.template at<N>(i);
    rest = whole;
  }
  for (int64_t i = rest + thread; i < end; i += kThreads) body.template at<1>(i);
}

}  // namespace accel
