// SPDX-License-Identifier: Apache-2.0
// Lion on SYCL devices: see accel/lion.h for the arithmetic.

#include "accel/lion.h"
#include "optimizer.h"

namespace accel {
namespace {

ACCEL_ON_BOTH(kNumbers, struct LionNumbers { float beta1, g_weight, beta2, m_weight, weight_decay; });

constexpr char kKernel[] =
#include "lion.sycl"
    ;

struct Lion {
  using Args = accel_lion_args;
  using Numbers = LionNumbers;

  static void *const *state(const Args &a, int which) { return which == 0 ? a.exp_avgs : nullptr; }
  static void *const *extra(const Args &, int) { return nullptr; }

  static Numbers numbers(const Args &a) {
    return {static_cast<float>(a.beta1), static_cast<float>(1.0 - a.beta1),
            static_cast<float>(a.beta2), static_cast<float>(1.0 - a.beta2),
            static_cast<float>(a.weight_decay)};
  }
};

}  // namespace
}  // namespace accel

int32_t accel_lion_step(const accel_lion_args *args, void *stream) {
  const int32_t status = accel::check_device_args(args, ACCEL_LION_MAXIMIZE);
  if (status != ACCEL_OK) return status;
  if (args->count && !args->exp_avgs) return ACCEL_BAD_ARGUMENT;
  static accel::Program *const program =
      accel::make_program(std::string(accel::kNumbers) + accel::kKernel, {"lion"});
  const accel::Common common = accel::common_of(*args, args->flags & ACCEL_LION_MAXIMIZE);
  return accel::step<accel::Lion>(*program, *args, common, stream);
}
