// SPDX-License-Identifier: Apache-2.0
// The check of lists of tensors, the same on every device.
#pragma once

#include "dtypes.h"

namespace accel {

// `at`, `dtypes` and `numels` are those of `count` tensors.
inline int32_t check_list(const void *const *at, const int32_t *dtypes, const int64_t *numels, int64_t count) {
  if (count < 0 || (count && (!numels || !at || !dtypes))) return ACCEL_BAD_ARGUMENT;
  for (int64_t i = 0; i < count; ++i) {
    if (!is_dtype(dtypes[i])) return ACCEL_BAD_DTYPE;
    if (numels[i] < 0 || (numels[i] && !at[i])) return ACCEL_BAD_ARGUMENT;
  }
  return ACCEL_OK;
}

}  // namespace accel
