/* SPDX-License-Identifier: Apache-2.0
 * Floating-point codes of 4, 6, 8 or 12 bits over groups of a tensor, in DeepSpeed's format.
 *
 * A group is `group_size` adjacent elements; its row is group_size * bits / 8 bytes of codes, then a float32
 * scale in native byte order, at any address. A code is, from the highest bit: a sign, `exponent` bits e and
 * `mantissa` bits f; the first code of a row is in the lowest bits of its first bytes. With
 * bias = 2^(exponent - 1) - 1 it stands for
 *   (1 + f / 2^mantissa) * 2^(e - bias)   if e > 0
 *   f / 2^mantissa * 2^(1 - bias)         if e = 0
 * times the scale, multiplied in float32. All exponents are those of numbers. (bits, mantissa) is one of
 * (8, 3), (8, 2), (12, 7), (6, 2) and (4, 1), whose largest numbers are 480, 114688, 510, 28 and 6.
 *
 * With m the largest magnitude of a group and r the largest number, the scale is m / r, and the code of x is
 * that of y = |x| * (r / m), r at most, with the sign of x. If m is below 2^-100, m and x are first
 * multiplied by 2^64, so that r / m is finite. If m is 0, magnitudes are 0. If an element is NaN or infinite,
 * the scale is NaN, with the bits 0x7FC00000, and codes are 0.
 *
 * y is rounded to nearest, ties to even; or, if `stochastic`, upwards with the probability of the part that
 * would be cut off: with the bits u of y, or of y + 2^(1 - bias) if y is below that, to
 * (u + (r & (2^(23 - mantissa) - 1))) >> (23 - mantissa), with r = accel_random_bits(key, element) and
 * key = accel_random_key(seed, 0, 0). */
#ifndef ACCEL_FP_QUANTIZER_H
#define ACCEL_FP_QUANTIZER_H

#include "accel/abi.h"

ACCEL_EXPORT int32_t accel_fp_quantize(const void *val, uint8_t *out, int64_t group_size, int64_t bits,
                                       int64_t mantissa, int32_t stochastic, int64_t seed, int64_t numel,
                                       int64_t out_bytes, int64_t threads, int32_t dtype, void *stream);

/* `numel` counts the elements of val, here and below, and `coded_bytes` the bytes of all rows. */
ACCEL_EXPORT int32_t accel_fp_dequantize(void *val, const uint8_t *coded, int64_t group_size, int64_t bits,
                                         int64_t mantissa, int64_t numel, int64_t coded_bytes,
                                         int64_t threads, int32_t dtype, void *stream);

/* Reads, for each index i, the rows of elements from i * numel / indexes on. On the host an index of which
 * there are no rows is ACCEL_UNSUPPORTED; elsewhere its elements become NaN. */
ACCEL_EXPORT int32_t accel_fp_selective_dequantize(void *val, const uint8_t *coded, const int32_t *indexes,
                                                   int64_t group_size, int64_t bits, int64_t mantissa,
                                                   int64_t numel, int64_t coded_bytes, int64_t index_count,
                                                   int64_t threads, int32_t dtype, void *stream);

#endif
