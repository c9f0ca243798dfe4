// SPDX-License-Identifier: Apache-2.0
// The exports of every CUDA library beside its op. Included once per library.
#pragma once

#include "runtime.h"

#if !defined(ACCEL_HOST_BUILD)
#define ACCEL_DEVICE_WORDS(status) \
  cudaGetErrorName(static_cast<cudaError_t>((status) - ACCEL_DEVICE_ERROR))
#endif
#include "accel/op.h"
