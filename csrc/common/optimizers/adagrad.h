// SPDX-License-Identifier: Apache-2.0
// Adagrad: Duchi, Hazan and Singer 2011, "Adaptive Subgradient Methods for Online Learning and
// Stochastic Optimization", with diagonal matrices.
#pragma once

#include "../optimizer.h"
#include "accel/adagrad.h"

namespace accel {

ACCEL_ON_BOTH(kAdagradText,

struct AdagradScalars {
  float grad_factor;  // 1 / grad_scale, negative to maximize
  float l2, eps;
  float step_size;  // lr / (1 + (t - 1) * lr_decay)
};

// `HAS_L2`: l2 is not 0.
ACCEL_DEVICE void adagrad(float grad, float &p, float &sum, const AdagradScalars &s, bool HAS_L2) {
  float g = grad * s.grad_factor;
  if (HAS_L2) g = g + s.l2 * p;
  const float total = sum + g * g;
  sum = total;
  p = p - s.step_size * g / (root(total) + s.eps);
}

)

struct Adagrad : Optimizer<accel_adagrad_args, ACCEL_ADAGRAD_MAXIMIZE, ACCEL_ADAGRAD_MAXIMIZE> {
  static constexpr int kStates = 1, kUsualStates = 1;
  using Scalars = AdagradScalars;

  struct Numbers {
    double lr_decay, eps;
  };

  static void *const *state(const Args &a, int which) { return which == 0 ? a.sums : nullptr; }
  static Numbers numbers(const Args &a) { return {a.lr_decay, a.eps}; }

  static ACCEL_DEVICE Scalars scalars(const Numbers &n, const AtStep &at) {
    const double rate = at.lr / (1.0 + (at.step - 1.0) * n.lr_decay);
    return {at.grad_factor, static_cast<float>(at.weight_decay), static_cast<float>(n.eps),
            static_cast<float>(rate)};
  }
};

}  // namespace accel
