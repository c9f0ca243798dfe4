// SPDX-License-Identifier: Apache-2.0
// Checks on what the argument structs of all optimizers have, on every device.
//
// The structs are different types with the same field names, hence the template.
#pragma once

#include <cstdint>

#include "accel/abi.h"
#include "dtypes.h"

namespace accel {

// `known_flags` is the sum of the op's flags.
template <class Args>
int32_t check_args(const Args *a, uint32_t known_flags) {
  if (!a) return ACCEL_BAD_ARGUMENT;
  if (a->struct_size != sizeof *a) return ACCEL_BAD_STRUCT;
  if (a->count < 0 || (a->flags & ~known_flags)) return ACCEL_BAD_ARGUMENT;
  if (!is_dtype(a->param_dtype) || !is_dtype(a->grad_dtype) || !is_dtype(a->state_dtype))
    return ACCEL_BAD_DTYPE;
  if (a->rounding < ACCEL_ROUND_NEAREST || a->rounding > ACCEL_ROUND_STOCHASTIC)
    return ACCEL_BAD_ARGUMENT;
  if (a->count == 0) return ACCEL_OK;
  if (!a->numels || !a->params || !a->grads) return ACCEL_BAD_ARGUMENT;
  for (int64_t i = 0; i < a->count; ++i)
    if (a->numels[i] < 0) return ACCEL_BAD_ARGUMENT;
  return ACCEL_OK;
}

// The same on a device, whose kernels know whole tensors only.
template <class Args>
int32_t check_device_args(const Args *a, uint32_t known_flags) {
  const int32_t status = check_args(a, known_flags);
  return status == ACCEL_OK && a->first_elements ? ACCEL_UNSUPPORTED : status;
}

}  // namespace accel
