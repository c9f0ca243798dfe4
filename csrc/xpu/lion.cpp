// SPDX-License-Identifier: Apache-2.0
// Lion on SYCL devices: see accel/lion.h for the arithmetic.

#include "accel/lion.h"
#include "optimizer.h"

namespace accel {
namespace {

ACCEL_ON_BOTH(kNumbers, struct LionNumbers { float beta1, g_weight, beta2, m_weight, weight_decay; });

struct Lion {
  using Args = accel_lion_args;
  using Numbers = LionNumbers;
  static constexpr uint32_t kFlags = ACCEL_LION_MAXIMIZE;
  static constexpr const char *kernel = "lion";
  static const std::string source;

  static bool maximize(const Args &a) { return a.flags & ACCEL_LION_MAXIMIZE; }
  static bool backward(const Args &) { return false; }
  static void *const *state(const Args &a, int which) { return which == 0 ? a.exp_avgs : nullptr; }

  static Numbers numbers(const Args &a) {
    return {static_cast<float>(a.beta1), static_cast<float>(1.0 - a.beta1),
            static_cast<float>(a.beta2), static_cast<float>(1.0 - a.beta2),
            static_cast<float>(a.weight_decay)};
  }
};

const std::string Lion::source = std::string(kNumbers) +
#include "lion.sycl"
    ;

}  // namespace
}  // namespace accel

int32_t accel_lion_step(const accel_lion_args *args, void *stream) {
  const int32_t status = accel::check_common(args, accel::Lion::kFlags);
  if (status != ACCEL_OK) return status;
  if (args->count && !args->exp_avgs) return ACCEL_BAD_ARGUMENT;
  return accel::step<accel::Lion>(*args, stream);
}
