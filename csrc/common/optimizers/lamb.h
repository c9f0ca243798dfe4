// SPDX-License-Identifier: Apache-2.0
// LAMB: You et al. 2020, "Large Batch Optimization for Deep Learning: Training BERT in 76 minutes",
// algorithm 2. The pieces of its two phases: moments, then the parameter by the norms.
#pragma once

#include "../optimizer.h"
#include "accel/lamb.h"

namespace accel {

ACCEL_ON_BOTH(kLambText,

struct LambScalars {
  float grad_factor;  // 1 / grad_scale, negative to maximize
  float beta1, m_weight, beta2, v_weight;  // each weight is 1 - beta
  float eps_inside, eps_outside;           // one of them is 0
  float decay;
};

ACCEL_DEVICE void lamb_moments(float grad, float &m, float &v, const LambScalars &s) {
  const float g = grad * s.grad_factor;
  m = m * s.beta1 + g * s.m_weight;
  v = v * s.beta2 + s.v_weight * g * g;
}

// The direction in which the parameter moves, by -rate * coeff.
ACCEL_DEVICE float lamb_direction(float p, float m, float v, const LambScalars &s) {
  return m / (root(v + s.eps_inside) + s.eps_outside) + s.decay * p;
}

// The ratio of the norms of parameter and direction, within its bounds. In this order NaN stays NaN.
template <class Real>
ACCEL_DEVICE Real lamb_coefficient(Real norm_p, Real norm_u, Real least, Real most) {
  const Real ratio = norm_p / norm_u;
  return ratio > most ? most : (ratio < least ? least : ratio);
}

)

struct Lamb : Optimizer<accel_lamb_args, 2 * ACCEL_LAMB_APPLY - 1, ACCEL_LAMB_MAXIMIZE> {
  static constexpr int kStates = 2, kUsualStates = 2, kExtra = 1;
  using Scalars = LambScalars;

  struct Numbers {
    double beta1, beta2, eps, max_coeff, min_coeff;
    uint32_t flags;
  };

  static Numbers numbers(const Args &a) {
    return {a.beta1, a.beta2, a.eps, a.max_coeff, a.min_coeff, a.flags};
  }

  static void *const *state(const Args &a, int which) {
    return which == 0 ? a.exp_avgs : which == 1 ? a.exp_avg_sqs : nullptr;
  }

  static void *const *extra(const Args &a, int which) {
    return which == 0 ? reinterpret_cast<void *const *>(a.norms) : nullptr;
  }

  static int32_t check(const Args &a) {
    return a.flags & (ACCEL_LAMB_MOMENTS | ACCEL_LAMB_APPLY) ? ACCEL_OK : ACCEL_BAD_ARGUMENT;
  }

  static ACCEL_DEVICE Scalars scalars(const Numbers &n, const AtStep &at) {
    const bool inside = n.flags & ACCEL_LAMB_EPS_INSIDE;
    const float eps = static_cast<float>(n.eps);
    return {at.grad_factor,
            static_cast<float>(n.beta1),
            static_cast<float>(1.0 - n.beta1),
            static_cast<float>(n.beta2),
            static_cast<float>(1.0 - n.beta2),
            inside ? eps : 0.0f,
            inside ? 0.0f : eps,
            static_cast<float>(at.weight_decay)};
  }

  // lr * sqrt(c2) / c1
  static ACCEL_DEVICE double rate(const Numbers &n, const AtStep &at) {
    const bool correct = n.flags & ACCEL_LAMB_BIAS_CORRECTION;
    const double c1 = correct ? bias_correction(n.beta1, at.step) : 1.0;
    const double c2 = correct ? bias_correction(n.beta2, at.step) : 1.0;
    return at.lr * root(c2) / c1;
  }

  // Of a call's numbers, or of its arguments.
  template <class Bounds>
  static ACCEL_DEVICE double coefficient(const Bounds &n, const double *norms) {
    if (norms[0] == 0.0 || norms[1] == 0.0) return 1.0;
    return lamb_coefficient(root(norms[0]), root(norms[1]), n.min_coeff, n.max_coeff);
  }
};

}  // namespace accel
