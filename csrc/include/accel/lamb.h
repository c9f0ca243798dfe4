/* SPDX-License-Identifier: Apache-2.0
 * LAMB (You et al. 2020) over a list of tensors, in two phases with each tensor's norms between.
 *
 * For every tensor, in float32, with t the step after this call; c_i = 1 - beta_i^t with
 * BIAS_CORRECTION, else 1:
 *   MOMENTS  g = grad * (1 / *grad_scale), negated with MAXIMIZE
 *            m = beta1 * m + (1 - beta1) * g           v = beta2 * v + (1 - beta2) * g * g
 *            norms = { sum of p * p, sum of u * u }
 *   APPLY    coeff = sqrt(norms[0]) / sqrt(norms[1]) within [min_coeff, max_coeff], or 1 if a
 *            norm is 0
 *            p -= lr * sqrt(c2) / c1 * coeff * u
 * with u = m / (sqrt(v) + eps) + weight_decay * p, or m / sqrt(v + eps) + ... with EPS_INSIDE, from
 * the moments as they are stored. One call with both phases is a step; a caller that steps parts of
 * a tensor adds up the norms of all parts between two calls. p is the master copy if there is one.
 */
#ifndef ACCEL_LAMB_H
#define ACCEL_LAMB_H

#include "accel/abi.h"

enum accel_lamb_flag {
  ACCEL_LAMB_BIAS_CORRECTION = 1,
  ACCEL_LAMB_EPS_INSIDE = 2,
  ACCEL_LAMB_MAXIMIZE = 4,
  ACCEL_LAMB_MOMENTS = 8, /* counts the steps */
  ACCEL_LAMB_APPLY = 16
};

/* Fields have the same meaning as in accel_adam_args. */
typedef struct accel_lamb_args {
  uint64_t struct_size;
  int64_t count;
  const int64_t *numels;
  const uint32_t *tensor_numbers;
  const int64_t *first_elements;
  void *const *params;
  const void *const *grads;
  void *const *exp_avgs;
  void *const *exp_avg_sqs;
  float *const *masters;
  float *const *steps;
  double *const *norms;  /* two numbers each, on the device; written by MOMENTS, read by APPLY */
  float *const *coeffs;  /* one number each, on the device, written by APPLY; may be null */
  const float *grad_scale;
  const float *found_inf;
  const int32_t *noop_flag;
  const float *lr_tensor;
  double lr;
  double beta1;
  double beta2;
  double eps;
  double weight_decay;
  double max_coeff;
  double min_coeff;
  int64_t step;
  uint64_t seed;
  int32_t param_dtype;
  int32_t grad_dtype;
  int32_t state_dtype;
  int32_t rounding;
  int32_t num_threads;
  uint32_t flags; /* enum accel_lamb_flag, at least one of the phases */
} accel_lamb_args;

ACCEL_EXPORT int32_t accel_lamb_step(const accel_lamb_args *args, void *stream);

#endif
