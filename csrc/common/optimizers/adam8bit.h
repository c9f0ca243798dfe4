// SPDX-License-Identifier: Apache-2.0
// Adam with moments of 8 bits: the codes of codes8bit.h, the step of adam.h.
#pragma once

#include "adam.h"
#include "codes8bit.h"

namespace accel {

struct Adam8bit : AnyAdam<accel_adam8bit_args, 2 * ACCEL_ADAM8BIT_MAXIMIZE - 1, ACCEL_ADAM8BIT_MAXIMIZE,
                          ACCEL_ADAM8BIT_ADAMW, ACCEL_ADAM8BIT_BIAS_CORRECTION> {
  static constexpr int kStates = 2, kUsualStates = 2, kExtra = 2;
  // Whether the codes of a state have a sign.
  static ACCEL_DEVICE bool is_signed(int which) { return which == 0; }

  static void *const *state(const Args &a, int which) {
    return reinterpret_cast<void *const *>(
        which == 0 ? a.exp_avgs : which == 1 ? a.exp_avg_sqs : nullptr);
  }

  static void *const *extra(const Args &a, int which) {
    return reinterpret_cast<void *const *>(
        which == 0 ? a.exp_avg_scales : which == 1 ? a.exp_avg_sq_scales : nullptr);
  }
};

}  // namespace accel
