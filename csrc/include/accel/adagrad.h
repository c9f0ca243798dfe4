/* SPDX-License-Identifier: Apache-2.0
 * Adagrad (Duchi, Hazan and Singer 2011) over a list of tensors.
 *
 * For every tensor, in float32, with t the step after this call:
 *   g = grad * (1 / *grad_scale), negated with MAXIMIZE; g += weight_decay * p unless that is 0
 *   sum += g * g
 *   p -= lr / (1 + (t - 1) * lr_decay) * g / (sqrt(sum) + eps)
 * p is the master copy if there is one.
 */
#ifndef ACCEL_ADAGRAD_H
#define ACCEL_ADAGRAD_H

#include "accel/abi.h"

enum accel_adagrad_flag {
  ACCEL_ADAGRAD_MAXIMIZE = 1
};

/* Fields have the same meaning as in accel_adam_args. */
typedef struct accel_adagrad_args {
  uint64_t struct_size;
  int64_t count;
  const int64_t *numels;
  const uint32_t *tensor_numbers;
  const int64_t *first_elements;
  void *const *params;
  const void *const *grads;
  void *const *sums; /* state_dtype */
  float *const *masters;
  float *const *steps;
  const float *grad_scale;
  const float *found_inf;
  const int32_t *noop_flag;
  const float *lr_tensor;
  double lr;
  double lr_decay;
  double eps;
  double weight_decay;
  int64_t step;
  uint64_t seed;
  int32_t param_dtype;
  int32_t grad_dtype;
  int32_t state_dtype;
  int32_t rounding;
  int32_t num_threads;
  uint32_t flags; /* enum accel_adagrad_flag */
} accel_adagrad_args;

ACCEL_EXPORT int32_t accel_adagrad_step(const accel_adagrad_args *args, void *stream);

#endif
