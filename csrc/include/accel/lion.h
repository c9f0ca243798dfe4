/* SPDX-License-Identifier: Apache-2.0
 * Lion (Chen et al. 2023) over a list of tensors.
 *
 * For every tensor, in float32:
 *   g = grad * (1 / *grad_scale), negated with MAXIMIZE
 *   p = p * (1 - lr * weight_decay) - lr * sign(beta1 * m + (1 - beta1) * g)
 *   m = beta2 * m + (1 - beta2) * g
 * sign(0) is 0 and the sign of NaN is NaN. p is the master copy if there is one.
 */
#ifndef ACCEL_LION_H
#define ACCEL_LION_H

#include "accel/abi.h"

enum accel_lion_flag {
  ACCEL_LION_MAXIMIZE = 1
};

/* Fields have the same meaning as in accel_adam_args; `steps` are only counted. */
typedef struct accel_lion_args {
  uint64_t struct_size;
  int64_t count;
  const int64_t *numels;
  const uint32_t *tensor_numbers;
  const int64_t *first_elements;
  void *const *params;
  const void *const *grads;
  void *const *exp_avgs;
  float *const *masters;
  float *const *steps;
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
  int32_t rounding;
  int32_t num_threads;
  uint32_t flags; /* enum accel_lion_flag */
} accel_lion_args;

ACCEL_EXPORT int32_t accel_lion_step(const accel_lion_args *args, void *stream);

#endif
