/* SPDX-License-Identifier: Apache-2.0
 * Adam and AdamW with moments of 8 bits, a scale for each block of 256 elements.
 *
 * The arithmetic is that of accel/adam.h on m and v as they are decoded; the parameter moves by the
 * new moments before they are encoded again. Blocks run over a tensor's memory; the last one may be
 * short.
 *
 * A block's scale is the smallest power of two that no magnitude in it exceeds, at least 2^-95; 0
 * if all are 0, and NaN if one is NaN. With a scale of 0 or NaN all codes are 0, and all values are
 * the scale. If a magnitude is above 2^127, infinity included, the scale is the largest possible:
 * 2^127 for exp_avg, whose magnitudes are bounded by it, and 1.125 * 2^127 for exp_avg_sq, whose
 * code 255 is then infinity: as in float32, an element whose square was too large no longer moves.
 * Otherwise, with y = x / scale:
 *   exp_avg: sign, then 7 bits k; |y| + 2^-15 has the float32 bits (k << 20) + (112 << 23): 0 is 0,
 *     and neighbours are 1/8 of a power of two apart, from 2^-18 on
 *   exp_avg_sq: 8 bits k; y has the bits (k << 20) + (96 << 23): from 2^-31, which smaller numbers
 *     become, so that none divides by eps alone
 * Encoding is stochastic: of those bits of x 20 are cut off after noise is added, r & 0xFFFFF for
 * exp_avg and r >> 12 for exp_avg_sq. So |x - decoded| < (|x| + scale / 2^15) / 8 and, from the
 * smallest on, x / 8; the mean error is 0.
 *
 * r = codes8bit_noise(key, element), with the key of the tensor's stream 1 at the step as in
 * csrc/common/random.h: within a block a sequence that fills the square evenly (R2, Roberts 2018), rotated
 * at random for every block and step (Cranley, Patterson 1976), so that the noise of one element is
 * uniform, and new at each step.
 */
#ifndef ACCEL_ADAM8BIT_H
#define ACCEL_ADAM8BIT_H

#include "accel/abi.h"

enum accel_adam8bit_constant {
  ACCEL_ADAM8BIT_BLOCK = 256
};

/* 2^12 and 2^20 times the powers 1 and 2 of 0.7548776662, whose inverse solves x^3 = x + 1. */
#define ACCEL_ADAM8BIT_LATTICE 0xC1391E11u

/* The largest scales, as bits. */
enum accel_adam8bit_largest_scale {
  ACCEL_ADAM8BIT_LARGEST_EXP_AVG = 0x7F000000,
  ACCEL_ADAM8BIT_LARGEST_EXP_AVG_SQ = 0x7F100000
};

enum accel_adam8bit_flag {
  ACCEL_ADAM8BIT_ADAMW = 1,
  ACCEL_ADAM8BIT_BIAS_CORRECTION = 2,
  ACCEL_ADAM8BIT_MAXIMIZE = 4
};

/* Fields have the same meaning as in accel_adam_args; state_dtype is not read. */
typedef struct accel_adam8bit_args {
  uint64_t struct_size;
  int64_t count;
  const int64_t *numels;
  const uint32_t *tensor_numbers;
  const int64_t *first_elements; /* must be null */
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
