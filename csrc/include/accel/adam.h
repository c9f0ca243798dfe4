/* SPDX-License-Identifier: Apache-2.0
 * Adam, AdamW and AMSGrad over a list of tensors: one symbol and one struct for every device.
 *
 * For every tensor, in float32, with t the step after this call:
 *   g = grad * (1 / *grad_scale), negated with MAXIMIZE
 *   without ADAMW: g += weight_decay * p            with ADAMW: p *= 1 - lr * weight_decay
 *   m += (1 - beta1) * (g - m)                      v = beta2 * v + (1 - beta2) * g * g
 *   s = v, or max_v = max(max_v, v) with AMSGRAD (NaN wins)
 *   p -= lr * r / c1 * m / (sqrt(s) + eps * r)      c_i = 1 - beta_i^t with BIAS_CORRECTION, else 1
 * with r = sqrt(c2): numerator and denominator of lr / c1 * m / (sqrt(s) / r + eps), both times r.
 * L2 decay is skipped, not multiplied by zero, if weight_decay is 0; scalars are prepared in
 * double. p is the master copy if there is one; the parameter then receives its rounded value.
 */
#ifndef ACCEL_ADAM_H
#define ACCEL_ADAM_H

#include "accel/abi.h"

enum accel_adam_flag {
  ACCEL_ADAM_ADAMW = 1,           /* decoupled decay; without it weight_decay is L2 */
  ACCEL_ADAM_BIAS_CORRECTION = 2,
  ACCEL_ADAM_AMSGRAD = 4,         /* max_exp_avg_sqs is given */
  ACCEL_ADAM_MAXIMIZE = 8,
  ACCEL_ADAM_ROLLBACK = 16        /* undo the step of the same arguments: see accel_adam_step */
};

/* The arrays from numels to steps are in host memory and have `count` entries. The memory that the
 * entries of params ... masters and steps point to is on the device that runs the step, and so are
 * grad_scale, found_inf, noop_flag and lr_tensor. Every tensor has `numel` adjacent elements, aligned
 * only to one element; numel may be 0, and then the pointer is not read. */
typedef struct accel_adam_args {
  uint64_t struct_size;          /* sizeof(accel_adam_args) */
  int64_t count;                 /* number of tensors; with 0 a step does nothing */
  const int64_t *numels;
  const uint32_t *tensor_numbers; /* the tensors' numbers in common/random.h, so that a list may be
                                     stepped in several calls; null: 0, 1, 2, ... */
  const int64_t *first_elements; /* CPU: the place of each part in its whole tensor, if parts of
                                    tensors are stepped; null: 0. Devices take null only */
  void *const *params;           /* param_dtype */
  const void *const *grads;      /* grad_dtype, never written */
  void *const *exp_avgs;         /* state_dtype */
  void *const *exp_avg_sqs;      /* state_dtype */
  void *const *max_exp_avg_sqs;  /* state_dtype; null without AMSGRAD */
  float *const *masters;         /* null: the parameters are the master copy */
  float *const *steps;           /* steps done before, one float32 each, increased by 1 here
                                    (not when skipped); null: `step` holds for all */
  const float *grad_scale;       /* null: 1; else above 0, not checked */
  const float *found_inf;        /* null, or skip everything if *found_inf != 0 */
  const int32_t *noop_flag;      /* null, or skip everything if *noop_flag != 0 */
  const float *lr_tensor;        /* null: `lr` */
  double lr;
  double beta1;
  double beta2;
  double eps;
  double weight_decay;
  int64_t step;                  /* t itself: 1 in the first call; read if steps is null */
  uint64_t seed;                 /* of stochastic rounding, together with the step */
  int32_t param_dtype;           /* enum accel_dtype; the same for all tensors of a call */
  int32_t grad_dtype;
  int32_t state_dtype;
  int32_t rounding;              /* enum accel_rounding, of params and states in 16 bits */
  int32_t num_threads;           /* CPU: the most threads, at least 1; devices ignore it */
  uint32_t flags;                /* enum accel_adam_flag */
} accel_adam_args;

/* `stream` is a cudaStream_t or sycl::queue *; the CPU ignores it and returns when done.
 * With ROLLBACK, beta1 and beta2 must not be 0, AMSGRAD and stochastic rounding are unsupported, and
 * `steps` are decreased instead (t is then the value before). The step's rounding errors remain. */
ACCEL_EXPORT int32_t accel_adam_step(const accel_adam_args *args, void *stream);

#endif
