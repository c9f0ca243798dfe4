/* SPDX-License-Identifier: Apache-2.0
 * What every CPU library exports beside its op: the SIMD level in use, and loops over thousands of
 * tensors that an interpreter is too slow for. */
#ifndef ACCEL_CPU_H
#define ACCEL_CPU_H

#include <stdbool.h>

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
/* 1 where some handle's tensor is not at `expected`, else 0. Every handle points to a pointer to the
 * tensor's own record, which is fetched ahead of its use. */
ACCEL_EXPORT int32_t accel_any_moved(void *const *handles, const int64_t *expected, int64_t count,
                                     accel_address_of address_of, int32_t num_threads);
/* The index of the first block [begins, begins + sizes) that shares a byte with one of `known`
 * blocks [starts, stops), or -1. The known blocks are rising and share none with each other. */
ACCEL_EXPORT int64_t accel_first_overlap(const int64_t *starts, const int64_t *stops, int64_t known,
                                         const int64_t *begins, const int64_t *sizes, int64_t count);

/* What the tensors' library answers through handles, each function returning 0 where it does. Every
 * handle points to a pointer to the tensor's own record; `grad_of` takes a record and returns the
 * handle of its gradient, whether there is one or not. The types are those of torch's functions. */
typedef struct accel_tensor_api {
  uint64_t struct_size;
  const void *(*grad_of)(const void *record);
  bool (*requires_grad)(const void *record);
  bool (*is_negated)(const void *handle);
  bool (*is_interpreted)(const void *handle); /* whether an interpreter answers for the tensor */
  int32_t (*is_defined)(void *handle, bool *answer);
  int32_t (*is_contiguous)(void *handle, bool *answer);
  int32_t (*layout_of)(void *handle, int32_t *layout);
  int32_t (*dtype_of)(void *handle, int32_t *dtype);
  int32_t (*numel_of)(void *handle, int64_t *numel);
  accel_address_of address_of;
  int32_t (*keep)(void *handle, void **kept); /* another handle, which keeps the tensor alive */
  int32_t (*let_go)(void *kept);
  int64_t strided; /* the layout of dense tensors */
} accel_tensor_api;
/* Keeps the gradient of every handle's tensor and writes its address into arrays that are all 0.
 * ACCEL_UNSUPPORTED, with nothing kept, where one is not dense, plain, of `numels` elements and of
 * type `dtypes`. Where numels[i] is negative no gradient is expected, and both stay 0. */
ACCEL_EXPORT int32_t accel_take_grads(const accel_tensor_api *api, void *const *handles,
                                      const int64_t *numels, const int32_t *dtypes, int64_t count,
                                      int64_t *addresses, void **kept, int32_t num_threads);
/* Lets go of what was kept and sets it to 0. */
ACCEL_EXPORT void accel_let_go(const accel_tensor_api *api, void **kept, int64_t count);

#endif
