// SPDX-License-Identifier: Apache-2.0
// AdEMAMix: Pagliardini, Ablin and Grangier 2024, "The AdEMAMix Optimizer: Better, Faster, Older",
// algorithm 1, with the schedules of its appendix.
#pragma once

#include "../optimizer.h"
#include "accel/ademamix.h"

namespace accel {

ACCEL_ON_BOTH(kAdemamixText,

struct AdemamixScalars {
  float grad_factor, keep, eps;  // 1 / grad_scale; 1 - lr * weight_decay; eps * sqrt(c2)
  float beta1, m_weight;         // each weight is 1 - beta
  float beta2, v_weight;
  float beta3, slow_weight;
  float step_size, slow_size;  // lr * sqrt(c2) / c1 of the fast moment; lr * sqrt(c2) * alpha
};

ACCEL_DEVICE void ademamix(float grad, float &p, float &m, float &slow, float &v,
                           const AdemamixScalars &s) {
  const float g = grad * s.grad_factor;
  const float new_m = m * s.beta1 + g * s.m_weight;
  const float new_slow = slow * s.beta3 + g * s.slow_weight;
  const float new_v = v * s.beta2 + s.v_weight * g * g;
  m = new_m;
  slow = new_slow;
  v = new_v;
  const float change = new_m * s.step_size + new_slow * s.slow_size;
  p = p * s.keep - change / (root(new_v) + s.eps);
}

)

struct Ademamix : Optimizer<accel_ademamix_args, ACCEL_ADEMAMIX_MAXIMIZE, ACCEL_ADEMAMIX_MAXIMIZE> {
  static constexpr int kStates = 3, kUsualStates = 3;
  using Scalars = AdemamixScalars;

  struct Numbers {
    double beta1, beta2, beta3, alpha, eps;
    double alpha_warmup, beta3_warmup;
    double first_life, last_life;  // half-lives of beta1 and beta3
  };

  static void *const *state(const Args &a, int which) {
    return which == 0 ? a.exp_avgs : which == 1 ? a.exp_avg_slows : a.exp_avg_sqs;
  }

  // In how many steps a moment with this decay rate forgets half; 1e-8 lets it be 0.
  static double half_life(double beta) { return __builtin_log(0.5) / __builtin_log(beta + 1e-8); }

  static Numbers numbers(const Args &a) {
    return {a.beta1,        a.beta2,        a.beta3,            a.alpha,           a.eps,
            a.alpha_warmup, a.beta3_warmup, half_life(a.beta1), half_life(a.beta3)};
  }

  // How much of a warm-up is done, from above 0 to 1.
  static ACCEL_DEVICE double share(double step, double warmup) {
    const double steps = warmup > 1.0 ? warmup : 1.0;
    return step < steps ? step / steps : 1.0;
  }

  static ACCEL_DEVICE double slow_beta(const Numbers &n, double step) {
    const double done = share(step, n.beta3_warmup);
    if (done >= 1.0) return n.beta3;
    return power(0.5, 1.0 / ((1.0 - done) * n.first_life + done * n.last_life));
  }

  static ACCEL_DEVICE Scalars scalars(const Numbers &n, const AtStep &at) {
    const double beta3 = slow_beta(n, at.step);
    const double c1 = bias_correction(n.beta1, at.step);
    const double root_c2 = root(bias_correction(n.beta2, at.step));
    const double alpha = n.alpha * share(at.step, n.alpha_warmup);
    return {at.grad_factor,
            static_cast<float>(1.0 - at.lr * at.weight_decay),
            scaled_eps(n.eps, root_c2),
            static_cast<float>(n.beta1),
            static_cast<float>(1.0 - n.beta1),
            static_cast<float>(n.beta2),
            static_cast<float>(1.0 - n.beta2),
            static_cast<float>(beta3),
            static_cast<float>(1.0 - beta3),
            static_cast<float>(at.lr * root_c2 / c1),
            static_cast<float>(at.lr * root_c2 * alpha)};
  }
};

}  // namespace accel
