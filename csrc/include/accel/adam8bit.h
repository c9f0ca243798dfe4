/* SPDX-License-Identifier: Apache-2.0
 * Adam and AdamW with moments of 8 bits, a scale for each block of 256 elements.
 *
 * The arithmetic is that of accel/adam.h on m and v as they are decoded; the parameter moves by the
 * new moments before they are encoded again. Blocks run over a tensor's memory; the last one may be
 * short.
 *
 * A block's scale is the smallest power of two that no magnitude in it exceeds; with y = x / scale:
 *   exp_avg: sign, then 7 bits k. k = 0 is 0, else |y| has the float32 bits (k << 20) + (112 << 23):
 *     steps of 1/8 of a power of two, from 1.125 * 2^-15 to 1
 *   exp_avg_sq: 8 bits k. k = 0 is 0, else y has the bits (k << 20) + (96 << 23):
 *     from 1.125 * 2^-31 to 1
 * Encoding is stochastic with r = accel_random_bits(key, element) and the key of the tensor's stream
 * 1 at the step, as in accel/random.h:
 * exp_avg takes (r & 0xFFFF) << 4 and exp_avg_sq takes r >> 16 << 4, added below the last bit kept.
 * A magnitude below exp_avg's smallest becomes 0 or the smallest, with a mean that is exact: the
 * smallest where (r & 0xFFFF) < (int32_t)(|y| * 2^31 / 1.125). An exp_avg_sq above 0 and below its
 * smallest becomes the smallest, so that it never divides by eps alone. So |x - decoded| <
 * |x| / 8 in range, and the mean error is 0. NaN or infinity makes the block's scale so, and the
 * whole block NaN.
 */
#ifndef ACCEL_ADAM8BIT_H
#define ACCEL_ADAM8BIT_H

#include "accel/abi.h"

enum accel_adam8bit_constant {
  ACCEL_ADAM8BIT_BLOCK = 256
};

enum accel_adam8bit_flag {
  ACCEL_ADAM8BIT_ADAMW = 1,
  ACCEL_ADAM8BIT_BIAS_CORRECTION = 2,
  ACCEL_ADAM8BIT_MAXIMIZE = 4
};

/* Fields mean what they mean in accel_adam_args; state_dtype is not read. */
typedef struct accel_adam8bit_args {
  uint64_t struct_size;
  int64_t count;
  const int64_t *numels;
  void *const *params;
  const void *const *grads;
  uint8_t *const *exp_avgs;
  uint8_t *const *exp_avg_sqs;
  float *const *masters;
  float *const *steps;
  float *const *exp_avg_scales;    /* one for each block */
  float *const *exp_avg_sq_scales; /* one for each block */
  const float *grad_scale;
  const float *found_inf;
  const int32_t *noop_flag;
  const float *lr_tensor;
  double lr;
  double beta1;
  double beta2;
  double eps;
  double weight_decay;
  int64_t step;
  uint64_t seed;
  int32_t param_dtype;
  int32_t grad_dtype;
  int32_t state_dtype;
  int32_t rounding; /* of 16-bit parameters; moments are always encoded stochastically */
  int32_t num_threads;
  uint32_t flags; /* enum accel_adam8bit_flag */
} accel_adam8bit_args;

ACCEL_EXPORT int32_t accel_adam8bit_step(const accel_adam8bit_args *args, void *stream);

#endif
