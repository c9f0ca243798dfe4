/* SPDX-License-Identifier: Apache-2.0
 * Norms, scaling and sums over lists of tensors, of any mix of float32, bfloat16 and float16.
 *
 * Norms are summed in double, in chunks of ACCEL_LISTS_CHUNK elements in a fixed order, and rounded to
 * float32 once. Outputs are computed in float32 and rounded to nearest, ties to even:
 *   norm     norm = sqrt(sum of x * x) * |*inv_scale|, and of every tensor with PER_TENSOR; 1 in
 *            *noop_flag if one of them is not finite. With SKIP, if *noop_flag is not 0 before the
 *            call, nothing is read, and norms are 0.
 *   scale_   out = x * scale; 1 in *noop_flag if an x is not finite
 *   axpby_   out = a * x + b * y; 1 in *noop_flag if an x (arg_to_check 0), a y (1) or either (-1)
 *            is not finite
 *   clip_    norm as above, then x *= accel_clip_coefficient(norm, max_norm), unless the norm is not
 *            finite and KEEP_NONFINITE says that it leaves x as it is
 * An output may be the input at its index itself; otherwise it must share no memory. Arrays have one
 * entry for each tensor; empty tensors may have null addresses. `workspace` is memory of the device:
 * a double for each chunk of each tensor and one for each tensor, and is not read on the CPU.
 */
#ifndef ACCEL_MULTI_TENSOR_H
#define ACCEL_MULTI_TENSOR_H

#include "accel/abi.h"

#define ACCEL_LISTS_CHUNK 8192

#if defined(__CUDACC__) || defined(__HIPCC__)
#define ACCEL_LISTS_INLINE static __host__ __device__ __forceinline__
#else
#define ACCEL_LISTS_INLINE static inline
#endif

/* At most 1; NaN stays NaN. */
ACCEL_LISTS_INLINE float accel_clip_coefficient(float norm, double max_norm) {
  const double ratio = max_norm / ((double)norm + 1e-6);
  return ratio > 1.0 ? 1.0f : (float)ratio;
}

ACCEL_EXPORT int32_t accel_multi_tensor_norm(int32_t *noop_flag, const void *const *tensors,
                                             const float *inv_scale, float *norm, float *norms,
                                             double *workspace, int32_t per_tensor, int32_t skip,
                                             const int64_t *numels, int64_t count,
                                             const int32_t *dtypes, int64_t threads,
                                             int32_t flag_dtype, void *stream);
ACCEL_EXPORT int32_t accel_multi_tensor_scale_(int32_t *noop_flag, const void *const *inputs,
                                               void *const *outputs, double scale,
                                               const int64_t *numels, int64_t count,
                                               const int32_t *input_dtypes,
                                               const int32_t *output_dtypes, int64_t threads,
                                               int32_t flag_dtype, void *stream);
ACCEL_EXPORT int32_t accel_multi_tensor_axpby_(int32_t *noop_flag, const void *const *xs,
                                               const void *const *ys, void *const *outputs, double a,
                                               double b, int64_t arg_to_check, const int64_t *numels,
                                               int64_t count, const int32_t *x_dtypes,
                                               const int32_t *y_dtypes, const int32_t *output_dtypes,
                                               int64_t threads, int32_t flag_dtype, void *stream);
ACCEL_EXPORT int32_t accel_multi_tensor_clip_(void *const *tensors, float *norm, double *workspace,
                                              double max_norm, int32_t keep_nonfinite,
                                              const int64_t *numels, int64_t count,
                                              const int32_t *dtypes, int64_t threads,
                                              int32_t first_dtype, void *stream);

#endif
