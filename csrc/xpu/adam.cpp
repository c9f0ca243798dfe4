// SPDX-License-Identifier: Apache-2.0
// Adam, AdamW and AMSGrad on SYCL devices: see accel/adam.h for the arithmetic.

#include <cmath>

#include "accel/adam.h"
#include "optimizer.h"

namespace accel {
namespace {

ACCEL_ON_BOTH(kNumbers, struct AdamNumbers {
  float beta1, beta2, eps;
  float l2;     // weight decay of the L2 mode, else 0
  float decay;  // weight decay of the decoupled mode, else 0
  float m_weight, v_weight;
  float c1, c2, log_beta1, log_beta2;  // bias corrections, and what they are made of
  int32_t correct, from_grad, amsgrad, rollback;
});

struct Adam {
  using Args = accel_adam_args;
  using Numbers = AdamNumbers;
  static constexpr uint32_t kFlags = 2 * ACCEL_ADAM_ROLLBACK - 1;
  static constexpr const char *kernel = "adam";
  static const std::string source;

  static bool maximize(const Args &a) { return a.flags & ACCEL_ADAM_MAXIMIZE; }
  static bool backward(const Args &a) { return a.flags & ACCEL_ADAM_ROLLBACK; }

  static void *const *state(const Args &a, int which) {
    return which == 0 ? a.exp_avgs : which == 1 ? a.exp_avg_sqs : a.max_exp_avg_sqs;
  }

  static Numbers numbers(const Args &a) {
    const bool decoupled = a.flags & ACCEL_ADAM_ADAMW;
    const double step = static_cast<double>(a.step);
    Numbers n{};
    n.beta1 = static_cast<float>(a.beta1);
    n.beta2 = static_cast<float>(a.beta2);
    n.eps = static_cast<float>(a.eps);
    n.l2 = decoupled ? 0.0f : static_cast<float>(a.weight_decay);
    n.decay = decoupled ? static_cast<float>(a.weight_decay) : 0.0f;
    n.correct = (a.flags & ACCEL_ADAM_BIAS_CORRECTION) != 0;
    n.from_grad = 1.0 - a.beta1 >= 0.5;
    n.m_weight = static_cast<float>(n.from_grad ? -a.beta1 : 1.0 - a.beta1);
    n.v_weight = static_cast<float>(1.0 - a.beta2);
    n.c1 = n.correct ? static_cast<float>(1.0 - std::pow(a.beta1, step)) : 1.0f;
    n.c2 = n.correct ? static_cast<float>(1.0 - std::pow(a.beta2, step)) : 1.0f;
    n.log_beta1 = static_cast<float>(std::log(a.beta1));
    n.log_beta2 = static_cast<float>(std::log(a.beta2));
    n.amsgrad = (a.flags & ACCEL_ADAM_AMSGRAD) != 0;
    n.rollback = (a.flags & ACCEL_ADAM_ROLLBACK) != 0;
    return n;
  }
};

const std::string Adam::source = std::string(kNumbers) +
#include "adam.sycl"
    ;

}  // namespace
}  // namespace accel

int32_t accel_adam_step(const accel_adam_args *args, void *stream) {
  const int32_t status = accel::check_common(args, accel::Adam::kFlags);
  if (status != ACCEL_OK) return status;
  const accel_adam_args &a = *args;
  if (a.count && (!a.exp_avgs || !a.exp_avg_sqs)) return ACCEL_BAD_ARGUMENT;
  const bool amsgrad = a.flags & ACCEL_ADAM_AMSGRAD;
  if (a.count && amsgrad != (a.max_exp_avg_sqs != nullptr)) return ACCEL_BAD_ARGUMENT;
  if ((a.flags & ACCEL_ADAM_ROLLBACK) &&
      (amsgrad || a.rounding != ACCEL_ROUND_NEAREST || a.beta1 == 0.0 || a.beta2 == 0.0))
    return ACCEL_UNSUPPORTED;
  return accel::step<accel::Adam>(a, stream);
}
