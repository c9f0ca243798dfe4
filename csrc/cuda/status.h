// SPDX-License-Identifier: Apache-2.0
// The exports of every CUDA library beside its op. Included once per library.
#pragma once

#include "accel/status.h"
#include "runtime.h"

int32_t accel_abi_version(void) { return ACCEL_ABI_VERSION; }

const char *accel_status_text(int32_t status) {
  if (const char *const words = accel_words_of(status)) return words;
#if !defined(ACCEL_HOST_BUILD)
  return cudaGetErrorName(static_cast<cudaError_t>(status - ACCEL_DEVICE_ERROR));
#else
  return "unknown status";
#endif
}
