// SPDX-License-Identifier: Apache-2.0
// Lion with a moment of 8 bits: the codes of codes8bit.h, the step of lion.h.
#pragma once

#include "accel/lion8bit.h"
#include "codes8bit.h"
#include "lion.h"

namespace accel {

struct Lion8bit : AnyLion<accel_lion8bit_args, ACCEL_LION8BIT_MAXIMIZE> {
  static constexpr int kExtra = 1;
  static ACCEL_DEVICE bool is_signed(int) { return true; }

  static void *const *extra(const Args &a, int which) {
    return reinterpret_cast<void *const *>(which == 0 ? a.exp_avg_scales : nullptr);
  }
};

}  // namespace accel
