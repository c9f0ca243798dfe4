// SPDX-License-Identifier: Apache-2.0
// The element types that kernels compute with.
#pragma once

#include <cstdint>

#include "accel/abi.h"

namespace accel {

inline bool is_dtype(int32_t dtype) { return dtype >= ACCEL_FLOAT32 && dtype <= ACCEL_FLOAT16; }

}  // namespace accel
