/* SPDX-License-Identifier: Apache-2.0
 * What every CPU library exports beside its op: the SIMD level in use, and two loops over thousands
 * of tensors that an interpreter is too slow for. */
#ifndef ACCEL_CPU_H
#define ACCEL_CPU_H

#include "accel/abi.h"

/* In rising order on each architecture; the processor's best is chosen on first use. */
enum accel_simd {
  ACCEL_SIMD_BASELINE = 0, /* what every processor of the architecture has */
  ACCEL_SIMD_AVX2 = 1,     /* x86-64 with AVX2, FMA and F16C */
  ACCEL_SIMD_AVX512 = 2,   /* x86-64 with AVX-512 F, BW, DQ and VL */
  ACCEL_SIMD_NEON = 3      /* aarch64 */
};

/* Bit i is set where level i was compiled in and this processor has it. */
ACCEL_EXPORT uint32_t accel_simd_available(void);
/* The level in use, an accel_simd. */
ACCEL_EXPORT int32_t accel_simd_level(void);
/* Use this level from the next call on; ACCEL_UNSUPPORTED where it is not available. */
ACCEL_EXPORT int32_t accel_simd_force(int32_t level);

/* Writes a tensor's address; 0 where it has one. torch's aoti_torch_get_data_ptr is of this type. */
typedef int32_t (*accel_address_of)(void *handle, void **address);
/* The index of the first handle whose tensor is not at `expected`, or -1. Every handle points to a
 * pointer to the tensor's own record, which is fetched ahead of its use. */
ACCEL_EXPORT int64_t accel_first_moved(void *const *handles, const int64_t *expected, int64_t count,
                                       accel_address_of address_of);
/* The index of the first block [begins, begins + sizes) that shares a byte with one of `known`
 * blocks [starts, stops), or -1. The known blocks are rising and share none with each other. */
ACCEL_EXPORT int64_t accel_first_overlap(const int64_t *starts, const int64_t *stops, int64_t known,
                                         const int64_t *begins, const int64_t *sizes, int64_t count);

#endif
