/* SPDX-License-Identifier: Apache-2.0
 * Lion with a moment of 8 bits, a scale for each block of 256 elements.
 *
 * The arithmetic is that of accel/lion.h on m as it is decoded. Codes, scales, blocks and noise are
 * those of exp_avg in accel/adam8bit.h.
 */
#ifndef ACCEL_LION8BIT_H
#define ACCEL_LION8BIT_H

#include "accel/abi.h"

enum accel_lion8bit_flag {
  ACCEL_LION8BIT_MAXIMIZE = 1
};

/* Fields have the same meaning as in accel_adam8bit_args; `steps` are counted, and choose the noise. */
typedef struct accel_lion8bit_args {
  uint64_t struct_size;
  int64_t count;
  const int64_t *numels;
  const uint32_t *tensor_numbers;
  const int64_t *first_elements; /* must be null */
  void *const *params;
  const void *const *grads;
  uint8_t *const *exp_avgs;
  float *const *masters;
  float *const *steps;
  float *const *exp_avg_scales; /* one for each block */
  const float *grad_scale;
  const float *found_inf;
  const int32_t *noop_flag;
  const float *lr_tensor;
  double lr;
  double beta1;
  double beta2;
  double weight_decay;
  int64_t step;
  uint64_t seed;
  int32_t param_dtype;
  int32_t grad_dtype;
  int32_t state_dtype;
  int32_t rounding; /* of 16-bit parameters; the moment is always encoded stochastically */
  int32_t num_threads;
  uint32_t flags; /* enum accel_lion8bit_flag */
} accel_lion8bit_args;

ACCEL_EXPORT int32_t accel_lion8bit_step(const accel_lion8bit_args *args, void *stream);

#endif
