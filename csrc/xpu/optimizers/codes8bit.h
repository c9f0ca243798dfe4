// SPDX-License-Identifier: Apache-2.0
// Code shared by optimizers with 8-bit states on SYCL devices.
#pragma once

#include "optimizer.h"

#include "../../common/optimizers/codes8bit.h"

namespace accel {

static_assert(static_cast<uint32_t>(kGroup) == kCodes, "a group works on one block");
static_assert(kChunk % kGroup == 0, "a piece begins where a block does");

static constexpr char kCodedSource[] =
#include "codes8bit.sycl"
    ;

}  // namespace accel
