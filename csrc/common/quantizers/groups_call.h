// SPDX-License-Identifier: Apache-2.0
// The calls of accel/quantizer.h as kernels take them. A device's `Call` has the fields that are set here,
// with addresses of its own kind.
#pragma once

#include "groups.h"

#include "../address.h"

namespace accel {

// Checks the arguments of accel_group_quantize, and fills in the call.
template <class Call>
int32_t quantize_call(Call &call, const void *vals, const int8_t *codes, const float *params, int64_t groups,
                      int64_t bits, bool asymmetric, Swizzle swizzle, int64_t numel, int32_t dtype) {
  const int32_t status = check_quantize(vals, codes, params, groups, bits, swizzle, numel, dtype);
  if (status != ACCEL_OK) return status;
  call.swizzle = swizzle;
  set_address(call.vals, vals);
  set_address(call.codes, codes);
  set_address(call.new_params, params);
  call.groups = groups;
  call.count = numel / groups;
  call.dtype = dtype;
  call.four = bits == 4;
  call.asymmetric = asymmetric;
  return ACCEL_OK;
}

// The same for accel_group_dequantize.
template <class Call>
int32_t dequantize_call(Call &call, const int8_t *quantized, const float *params, const void *out,
                        int64_t groups, int64_t bits, bool asymmetric, int32_t out_dtype, int64_t bytes,
                        int32_t dtype) {
  const int32_t status = check_dequantize(quantized, params, out, groups, bits, out_dtype, bytes, dtype);
  if (status != ACCEL_OK) return status;
  set_address(call.quantized, quantized);
  set_address(call.params, params);
  set_address(call.out, out);
  call.numel = bits == 4 ? 2 * bytes : bytes;
  call.in_count = call.numel / groups;
  call.dtype = out_dtype;
  call.four = bits == 4;
  call.asymmetric = asymmetric;
  return ACCEL_OK;
}

// The same for accel_group_reduce.
template <class Call>
int32_t reduce_call(Call &call, const int8_t *quantized, const float *params, const int8_t *codes,
                    const float *new_params, int64_t in_groups, int64_t out_groups, int64_t bits,
                    bool asymmetric, int64_t devices, int64_t bytes, int32_t dtype) {
  const int32_t status = check_reduce(quantized, params, codes, new_params, in_groups, out_groups, bits, devices,
                                      bytes, dtype, call.reduction);
  if (status != ACCEL_OK) return status;
  const int64_t a_byte = bits == 4 ? 2 : 1;
  call.swizzle = {1, 1, 1, out_groups};
  set_address(call.quantized, quantized);
  set_address(call.params, params);
  set_address(call.codes, codes);
  set_address(call.new_params, new_params);
  call.groups = out_groups;
  call.count = call.reduction.out_group * a_byte;
  call.in_count = call.reduction.in_group * a_byte;
  call.four = bits == 4;
  call.asymmetric = asymmetric;
  return ACCEL_OK;
}

}  // namespace accel
