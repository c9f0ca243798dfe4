// SPDX-License-Identifier: Apache-2.0
// The calls of accel/fp_quantizer.h as kernels take them. A device's `Call` has the fields that are set
// here, with addresses of its own kind.
#pragma once

#include "floats.h"

#include "../address.h"

namespace accel {

// Codes whose bits are whole bytes: one of 8, two of 4 or 12, four of 6.
inline int32_t several_of(int64_t bits) { return bits == 8 ? 1 : (bits == 6 ? 4 : 2); }

// Checks the arguments of accel_fp_quantize, and fills in the call.
template <class Call>
int32_t encode_call(Call &call, const void *val, const uint8_t *out, int64_t group_size, int64_t bits,
                    int64_t mantissa, bool stochastic, int64_t seed, int64_t numel, int64_t out_bytes,
                    int32_t dtype) {
  const int32_t status =
      check_rows(val, out, group_size, bits, mantissa, numel, out_bytes, dtype, call.format, call.row);
  if (status != ACCEL_OK) return status;
  if (call.row.count != numel / group_size) return ACCEL_BAD_ARGUMENT;
  set_address(call.val, val);
  set_address(call.rows, out);
  call.groups = call.row.count;
  call.key = accel_random_key(static_cast<uint64_t>(seed), 0, 0);
  call.dtype = dtype;
  call.several = several_of(bits);
  call.stochastic = stochastic;
  return ACCEL_OK;
}

// The same for both ways to decode, with the rows in their order.
template <class Call>
int32_t decode_call(Call &call, const void *val, const uint8_t *coded, int64_t group_size, int64_t bits,
                    int64_t mantissa, int64_t numel, int64_t coded_bytes, int32_t dtype) {
  const int32_t status =
      check_rows(val, coded, group_size, bits, mantissa, numel, coded_bytes, dtype, call.format, call.row);
  if (status != ACCEL_OK) return status;
  set_address(call.val, val);
  set_address(call.rows, coded);
  call.groups = numel / group_size;
  call.known = call.row.count;
  call.dtype = dtype;
  call.several = several_of(bits);
  return ACCEL_OK;
}

// Adds the selection of accel_fp_selective_dequantize.
template <class Call>
int32_t select_rows(Call &call, const int32_t *indexes, int64_t index_count) {
  if (!indexes || index_count < 1 || call.groups < 1 || call.groups % index_count) return ACCEL_BAD_ARGUMENT;
  set_address(call.indexes, indexes);
  call.each = call.groups / index_count;
  call.known = call.row.count / call.each * call.each;
  return ACCEL_OK;
}

}  // namespace accel
