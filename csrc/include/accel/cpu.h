/* SPDX-License-Identifier: Apache-2.0
 * Exports of every CPU library beside its op: the SIMD level in use. It also exports the functions
 * of accel/tensors.h. */
#ifndef ACCEL_CPU_H
#define ACCEL_CPU_H

#include "accel/abi.h"

/* In rising order on each architecture; the processor's best is chosen on first use. */
enum accel_simd {
  ACCEL_SIMD_BASELINE = 0, /* every processor of the architecture */
  ACCEL_SIMD_AVX2 = 1,     /* x86-64 with AVX2, FMA and F16C */
  ACCEL_SIMD_AVX512 = 2,   /* x86-64 with AVX-512 F, BW, DQ and VL */
  ACCEL_SIMD_NEON = 3      /* aarch64 */
};

/* Bit i is set if level i was compiled in and this processor has it. */
ACCEL_EXPORT uint32_t accel_simd_available(void);
/* The level in use, an accel_simd. */
ACCEL_EXPORT int32_t accel_simd_level(void);
/* Use this level from the next call on; ACCEL_UNSUPPORTED if it is not available. */
ACCEL_EXPORT int32_t accel_simd_force(int32_t level);

#endif
