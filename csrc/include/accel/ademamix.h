/* SPDX-License-Identifier: Apache-2.0
 * AdEMAMix (Pagliardini et al. 2024) over a list of tensors: AdamW with a second, slow moment.
 *
 * For every tensor, in float32, with t the step after this call:
 *   g = grad * (1 / *grad_scale), negated with MAXIMIZE
 *   m = beta1 * m + (1 - beta1) * g          the fast moment
 *   s = b * s + (1 - b) * g                  the slow one, which is not corrected for its start
 *   v = beta2 * v + (1 - beta2) * g * g
 *   p = p * (1 - lr * weight_decay) - (lr * r / c1 * m + lr * r * a * s) / (sqrt(v) + eps * r)
 * where c_i = 1 - beta_i^t and r = sqrt(c2): numerator and denominator of
 * lr * (m / c1 + a * s) / (sqrt(v / c2) + eps), both times r. Scalars are prepared in double.
 *
 * a = alpha * min(t / alpha_warmup, 1); b rises from beta1 to beta3 in beta3_warmup steps, so that
 * its half-life log(1/2) / log(b + 1e-8) rises by the same number in each; without the 1e-8 a beta1
 * of 0 would have none. p is the master copy if there is one.
 */
#ifndef ACCEL_ADEMAMIX_H
#define ACCEL_ADEMAMIX_H

#include "accel/abi.h"

enum accel_ademamix_flag {
  ACCEL_ADEMAMIX_MAXIMIZE = 1
};

/* Fields have the same meaning as in accel_adam_args. */
typedef struct accel_ademamix_args {
  uint64_t struct_size;
  int64_t count;
  const int64_t *numels;
  const uint32_t *tensor_numbers;
  const int64_t *first_elements;
  void *const *params;
  const void *const *grads;
  void *const *exp_avgs;
  void *const *exp_avg_slows;
  void *const *exp_avg_sqs;
  float *const *masters;
  float *const *steps;
  const float *grad_scale;
  const float *found_inf;
  const int32_t *noop_flag;
  const float *lr_tensor;
  double lr;
  double beta1;
  double beta2;
  double beta3;
  double alpha;
  double eps;
  double alpha_warmup; /* steps; 0: alpha from the first one on */
  double beta3_warmup; /* steps; 0: beta3 from the first one on, else beta3 <= 1 - 2e-8 */
  double weight_decay;
  int64_t step;
  uint64_t seed;
  int32_t param_dtype;
  int32_t grad_dtype;
  int32_t state_dtype;
  int32_t rounding;
  int32_t num_threads;
  uint32_t flags; /* enum accel_ademamix_flag */
} accel_ademamix_args;

ACCEL_EXPORT int32_t accel_ademamix_step(const accel_ademamix_args *args, void *stream);

#endif
