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
  int32_t (*address_of)(void *handle, void **address); /* of its memory */
  int32_t (*keep)(void *handle, void **kept); /* another handle, which keeps the tensor alive */
  int32_t (*let_go)(void *kept);
  int64_t strided; /* the layout of dense tensors */
} accel_tensor_api;

/* What a step was prepared for. The next one may take its gradients where all of it still holds. */
typedef struct accel_snapshot {
  uint64_t struct_size;
  const accel_tensor_api *api;
  /* The interpreter's: steps through a dictionary, 0 at its end; an item of a list. */
  int32_t (*next_entry)(void *dictionary, int64_t *position, void **key, void **value);
  void *(*item_of)(void *list, int64_t index);
  int64_t num_dictionaries;
  int64_t num_values;
  int64_t num_fixed;
  int64_t num_params;
  int64_t num_written;
  void *const *dictionaries;
  void *const *values;           /* objects, those of all dictionaries in a row */
  void *const *fixed;            /* handles of tensors that stay where they are, */
  const int64_t *fixed_at;       /* which is there */
  void *const *params;           /* objects */
  void *const *handles;          /* of the parameters */
  const int64_t *numels;         /* of their gradients; negative where none is expected */
  const int64_t *sizes;          /* of their gradients in bytes */
  const int32_t *dtypes;         /* of their gradients */
  int64_t *const *slots;         /* where the addresses of their gradients belong */
  void **kept;                   /* handles of the gradients that are kept, else 0 */
  const int64_t *written_from;   /* blocks of memory that no gradient may share a byte with, rising */
  const int64_t *written_to;     /* and apart from each other */
} accel_snapshot;
/* Keeps the gradient of every parameter of a list and writes its address into its slot; what was kept
 * before is let go. ACCEL_UNSUPPORTED, with nothing kept, where an object is not the one that it was, a
 * tensor has moved, or a gradient is not dense, plain, of the expected size and type, and apart from
 * what is written: a slot then holds what it held or such a gradient's address. */
ACCEL_EXPORT int32_t accel_take_grads(const accel_snapshot *snapshot, void *list, int32_t num_threads);
/* Lets go of what is kept. */
ACCEL_EXPORT void accel_let_go(const accel_tensor_api *api, void **kept, int64_t count);

#endif
