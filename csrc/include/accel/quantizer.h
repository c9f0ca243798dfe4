/* SPDX-License-Identifier: Apache-2.0
 * Integer codes of 8 or 4 bits over groups of a tensor, as DeepSpeed sends them.
 *
 * A group is numel / groups adjacent elements; all arithmetic is in float32. With m the largest magnitude
 * of a group, or max and min its ends:
 *   symmetric   scale = 2^(bits - 1) / m, or 1 if m is 0; offset = 0
 *   asymmetric  scale = 2^(bits - 1) / (max / 2 - min / 2), or 1 if that is 0; offset = max / 2 + min / 2
 * A code is (x - offset) * scale, bounded to the signed numbers of so many bits and rounded to nearest,
 * ties to even. Parameters of a group are 1 / scale and, if asymmetric, offset. Code k stands for
 * k * (1 / scale) + offset. If an element is NaN or infinite, so are the parameters, codes are 0, and all
 * the group's elements become NaN. The first of two 4-bit codes is in a byte's lower half.
 *
 * group_quantize writes group g = (partition, piece, i), of `nodes` * `devices` partitions with
 * `pipeline` pieces each, to the place (piece, partition % devices, partition / devices, i), in codes and
 * parameters; with 1, 1, 1 that is g itself.
 *
 * group_reduce sums `devices` tensors whose codes follow one another, starting at 0 and in their order,
 * with each element and each sum rounded to float16. The sums become codes in `out_groups` groups. */
#ifndef ACCEL_QUANTIZER_H
#define ACCEL_QUANTIZER_H

#include "accel/abi.h"

ACCEL_EXPORT int32_t accel_group_quantize(const void *vals, int8_t *codes, float *params, int64_t groups,
                                          int64_t bits, int32_t asymmetric, int64_t pipeline, int64_t nodes,
                                          int64_t devices, int64_t numel, int64_t threads, int32_t dtype,
                                          void *stream);

/* `bytes` is the number of bytes of codes, here and below. */
ACCEL_EXPORT int32_t accel_group_dequantize(const int8_t *quantized, const float *params, void *out,
                                            int64_t groups, int64_t bits, int32_t asymmetric,
                                            int32_t out_dtype, int64_t bytes, int64_t threads, int32_t dtype,
                                            void *stream);

ACCEL_EXPORT int32_t accel_group_reduce(const int8_t *quantized, const float *params, int8_t *codes,
                                        float *new_params, int64_t in_groups, int64_t out_groups,
                                        int64_t bits, int32_t asymmetric, int64_t devices, int64_t bytes,
                                        int64_t threads, int32_t dtype, void *stream);

#endif
