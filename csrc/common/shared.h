// SPDX-License-Identifier: Apache-2.0
// The means by which one text serves every device, and their form on a host.
//
// ACCEL_ON_BOTH(name, ...) is its text as code, everywhere. Libraries whose kernels are compiled at run
// time (csrc/xpu/kernels.h) also have it as the string `name`, for their kernels' source; so such a text
// holds neither macros nor directives but these:
//   ACCEL_DEVICE   marks functions that kernels call
//   ACCEL_BOTH     marks functions that kernels and hosts call
//   ACCEL_COPY     memcpy
// A device defines them before its first common header, with what follows them here.
#pragma once

#include <cstdint>

#ifndef ACCEL_ON_BOTH
#define ACCEL_ON_BOTH(name, ...) __VA_ARGS__
#endif

#ifndef ACCEL_DEVICE
#define ACCEL_DEVICE inline __attribute__((always_inline))
#define ACCEL_BOTH ACCEL_DEVICE
#define ACCEL_COPY __builtin_memcpy

namespace accel {

// The bits of a NaN that its float16 keeps, as processors' instructions do.
constexpr uint32_t kPayload16 = 0x3FFu;

// By the compiler's own names: <cmath> takes longer to read than an op takes to compile.
ACCEL_DEVICE float root(float x) { return __builtin_sqrtf(x); }
ACCEL_DEVICE double root(double x) { return __builtin_sqrt(x); }
ACCEL_DEVICE double power(double base, double exponent) { return __builtin_pow(base, exponent); }

// The first value if `mask` is all ones, the second if it is 0: by bits, so that a choice that is the
// same for all elements needs no loop of its own.
ACCEL_DEVICE float choose(uint32_t mask, float first, float second) {
  uint32_t one, other;
  ACCEL_COPY(&one, &first, 4);
  ACCEL_COPY(&other, &second, 4);
  const uint32_t chosen = (one & mask) | (other & ~mask);
  float value;
  ACCEL_COPY(&value, &chosen, 4);
  return value;
}

}  // namespace accel
#endif
