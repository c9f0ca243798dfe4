// SPDX-License-Identifier: Apache-2.0
// Adam with 8-bit moments on SYCL devices: see accel/adam8bit.h for codes and arithmetic.

#include "accel/adam8bit.h"
#include "adam_numbers.h"

namespace accel {
namespace {

static_assert(static_cast<int>(kGroup) == ACCEL_ADAM8BIT_BLOCK, "a group works on one block");
static_assert(kChunk % kGroup == 0, "a piece begins where a block does");

constexpr char kKernel[] =
#include "adam8bit.sycl"
    ;

struct Adam8bit {
  using Args = accel_adam8bit_args;
  using Numbers = AdamNumbers;

  static const void *const *state(const Args &a, int which) {
    return reinterpret_cast<const void *const *>(
        which == 0 ? a.exp_avgs : which == 1 ? a.exp_avg_sqs : nullptr);
  }

  static const void *const *extra(const Args &a, int which) {
    return reinterpret_cast<const void *const *>(which == 0 ? a.exp_avg_scales : a.exp_avg_sq_scales);
  }

  static Numbers numbers(const Args &a) {
    return adam_numbers(a, a.flags & ACCEL_ADAM8BIT_ADAMW, a.flags & ACCEL_ADAM8BIT_BIAS_CORRECTION);
  }
};

}  // namespace
}  // namespace accel

int32_t accel_adam8bit_step(const accel_adam8bit_args *args, void *stream) {
  const int32_t status = accel::check_device_args(args, 2 * ACCEL_ADAM8BIT_MAXIMIZE - 1);
  if (status != ACCEL_OK) return status;
  if (args->count && (!args->exp_avgs || !args->exp_avg_sqs || !args->exp_avg_scales ||
                      !args->exp_avg_sq_scales))
    return ACCEL_BAD_ARGUMENT;
  static accel::Program *const program = accel::make_program(
      std::string(accel::kAdamNumbers) + accel::kAdamUpdate + accel::kKernel, {"adam8bit"});
  const accel::Common common = accel::common_of(*args, args->flags & ACCEL_ADAM8BIT_MAXIMIZE);
  return accel::step<accel::Adam8bit>(*program, *args, common, stream);
}
