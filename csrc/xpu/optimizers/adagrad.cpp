// SPDX-License-Identifier: Apache-2.0
// Adagrad on SYCL devices: see accel/adagrad.h for the arithmetic.

#include "accel/adagrad.h"
#include "optimizer.h"

namespace accel {
namespace {

// `slowdown` divides the learning rate at the step that the call names.
ACCEL_ON_BOTH(kNumbers, struct AdagradNumbers { float l2, eps, lr_decay, slowdown; });

constexpr char kKernel[] =
#include "adagrad.sycl"
    ;

struct Adagrad {
  using Args = accel_adagrad_args;
  using Numbers = AdagradNumbers;

  static void *const *state(const Args &a, int which) { return which == 0 ? a.sums : nullptr; }
  static void *const *extra(const Args &, int) { return nullptr; }

  static Numbers numbers(const Args &a) {
    return {static_cast<float>(a.weight_decay), static_cast<float>(a.eps),
            static_cast<float>(a.lr_decay),
            static_cast<float>(1.0 + static_cast<double>(a.step - 1) * a.lr_decay)};
  }
};

}  // namespace
}  // namespace accel

int32_t accel_adagrad_step(const accel_adagrad_args *args, void *stream) {
  const int32_t status = accel::check_device_args(args, ACCEL_ADAGRAD_MAXIMIZE);
  if (status != ACCEL_OK) return status;
  if (args->count && !args->sums) return ACCEL_BAD_ARGUMENT;
  static accel::Program *const program =
      accel::make_program(std::string(accel::kNumbers) + accel::kKernel, {"adagrad"});
  const accel::Common common = accel::common_of(*args, args->flags & ACCEL_ADAGRAD_MAXIMIZE);
  return accel::step<accel::Adagrad>(*program, *args, common, stream);
}
