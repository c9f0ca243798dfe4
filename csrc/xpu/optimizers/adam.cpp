// SPDX-License-Identifier: Apache-2.0
// Adam, AdamW and AMSGrad on SYCL devices: see accel/adam.h for the arithmetic.

#include "accel/adam.h"
#include "adam_numbers.h"

namespace accel {
namespace {

constexpr char kKernel[] =
#include "adam.sycl"
    ;

struct Adam {
  using Args = accel_adam_args;
  using Numbers = AdamNumbers;

  static void *const *state(const Args &a, int which) {
    return which == 0 ? a.exp_avgs : which == 1 ? a.exp_avg_sqs : a.max_exp_avg_sqs;
  }

  static void *const *extra(const Args &, int) { return nullptr; }

  static Numbers numbers(const Args &a) {
    Numbers n = adam_numbers(a, a.flags & ACCEL_ADAM_ADAMW, a.flags & ACCEL_ADAM_BIAS_CORRECTION);
    n.amsgrad = (a.flags & ACCEL_ADAM_AMSGRAD) != 0;
    n.rollback = (a.flags & ACCEL_ADAM_ROLLBACK) != 0;
    return n;
  }
};

int32_t check(const accel_adam_args *a) {
  const int32_t status = check_device_args(a, 2 * ACCEL_ADAM_ROLLBACK - 1);
  if (status != ACCEL_OK || a->count == 0) return status;
  if (!a->exp_avgs || !a->exp_avg_sqs) return ACCEL_BAD_ARGUMENT;
  const bool amsgrad = a->flags & ACCEL_ADAM_AMSGRAD;
  if (amsgrad != (a->max_exp_avg_sqs != nullptr)) return ACCEL_BAD_ARGUMENT;
  if ((a->flags & ACCEL_ADAM_ROLLBACK) &&
      (amsgrad || a->rounding != ACCEL_ROUND_NEAREST || a->beta1 == 0.0 || a->beta2 == 0.0))
    return ACCEL_UNSUPPORTED;
  return ACCEL_OK;
}

}  // namespace
}  // namespace accel

int32_t accel_adam_step(const accel_adam_args *args, void *stream) {
  const int32_t status = accel::check(args);
  if (status != ACCEL_OK) return status;
  static accel::Program *const program = accel::make_program(
      std::string(accel::kAdamNumbers) + accel::kAdamUpdate + accel::kKernel, {"adam"});
  const bool back = args->flags & ACCEL_ADAM_ROLLBACK, maximize = args->flags & ACCEL_ADAM_MAXIMIZE;
  const accel::Common common =
      accel::common_of(*args, maximize, back ? 0.0f : 1.0f, back ? -1.0f : 1.0f);
  return accel::step<accel::Adam>(*program, *args, common, stream);
}
