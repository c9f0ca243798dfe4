/* SPDX-License-Identifier: Apache-2.0
 * Codes of 8 and 4 bits over blocks of a tensor, each with the largest magnitude in it: bitsandbytes'
 * formats.
 *
 * Blocks run over a tensor's elements in order; the last one may be short. A block's absmax is its
 * largest magnitude in float32, NaN if an element is NaN. An element x becomes
 * y = (x * shift) * (1 / (absmax * shift)), in float32, with shift 2^64 if absmax is below 2^-96, 2^-64
 * if it is above 2^96, and else 1. Its code is that of the value at place n of all values in rising order, if
 * n of the bounds (value + next value) / 2 are below y: y becomes the nearest value, the lower one of
 * two. If absmax is 0 or not finite, y is 1 or -1 for infinities, and 0 for all else; beside a NaN it
 * is 0 for all.
 *
 * A code's element is value * absmax in float32, rounded to nearest. Beside an infinity or a NaN all
 * elements but infinities become NaN.
 *
 * The first of two 4-bit codes is in a byte's upper half. If their number is odd, the last half
 * has the code of 0. */
#ifndef ACCEL_BLOCKWISE_QUANTIZER_H
#define ACCEL_BLOCKWISE_QUANTIZER_H

#include "accel/abi.h"

enum accel_four_bit {
  ACCEL_NF4 = 0,
  ACCEL_FP4 = 1
};

/* `code` has 256 values in rising order, and `order` their codes; both are null for the dynamic map, in
 * which a value's place is its code. `blocksize` is 1 or more. */
ACCEL_EXPORT int32_t accel_blockwise_encode(const void *a, const float *code, const uint8_t *order,
                                            uint8_t *codes, float *absmax, int64_t blocksize,
                                            int64_t numel, int64_t threads, int32_t dtype, void *stream);

/* `code` has 256 values, each at the place of its code; it is null for the dynamic map. */
ACCEL_EXPORT int32_t accel_blockwise_decode(const uint8_t *codes, const float *absmax, const float *code,
                                            void *out, int64_t blocksize, int32_t out_dtype, int64_t numel,
                                            int64_t threads, int32_t codes_dtype, void *stream);

/* `blocksize` is even; `kind` is an accel_four_bit. */
ACCEL_EXPORT int32_t accel_four_bit_encode(const void *a, uint8_t *packed, float *absmax,
                                           int64_t blocksize, int64_t kind, int64_t numel, int64_t threads,
                                           int32_t dtype, void *stream);

ACCEL_EXPORT int32_t accel_four_bit_decode(const uint8_t *packed, const float *absmax, void *out,
                                           int64_t blocksize, int64_t kind, int64_t numel,
                                           int32_t out_dtype, int64_t threads, int32_t packed_dtype,
                                           void *stream);

#endif
