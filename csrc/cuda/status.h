// SPDX-License-Identifier: Apache-2.0
// The exports of every CUDA library beside its op. Included once per library.
#pragma once

#include "runtime.h"

int32_t accel_abi_version(void) { return ACCEL_ABI_VERSION; }

const char *accel_status_text(int32_t status) {
  switch (status) {
    case ACCEL_OK: return "no error";
    case ACCEL_BAD_STRUCT: return "the argument struct has another size than this library's";
    case ACCEL_BAD_ARGUMENT: return "a null pointer, a negative count, or an unknown code or flag";
    case ACCEL_BAD_DTYPE: return "no kernel for this combination of element types";
    case ACCEL_UNSUPPORTED: return "not available in this library or on this device";
    case ACCEL_NO_MEMORY: return "out of host memory";
    default: break;
  }
#if !defined(ACCEL_HOST_BUILD)
  if (status >= ACCEL_DEVICE_ERROR)
    return cudaGetErrorName(static_cast<cudaError_t>(status - ACCEL_DEVICE_ERROR));
#endif
  return "unknown status";
}
