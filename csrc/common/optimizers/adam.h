// SPDX-License-Identifier: Apache-2.0
// Adam: Kingma and Ba 2015, "Adam: A Method for Stochastic Optimization", algorithm 1. AdamW: Loshchilov
// and Hutter 2019, "Decoupled Weight Decay Regularization", algorithm 2. AMSGrad: Reddi, Kale and Kumar
// 2018, "On the Convergence of Adam and Beyond", algorithm 2, with Adam's corrections as torch has them.
//
// The pieces of a step, one after the other.
#pragma once

#include "../optimizer.h"
#include "accel/adam.h"

namespace accel {

ACCEL_ON_BOTH(kAdamText,

struct AdamScalars {
  float grad_factor;  // 1 / grad_scale, negative to maximize
  float l2;           // weight decay of the L2 mode, else 0
  float keep;         // 1 - lr * weight_decay of the decoupled mode, else 1
  float m_weight;     // 1 - beta1, or -beta1 if from_grad
  float v_weight;     // 1 - beta2
  float beta2;
  float eps;           // eps * sqrt(c2)
  float step_size;     // lr * sqrt(c2) / c1
  uint32_t has_l2;     // all ones if l2 is not 0, else 0
  uint32_t from_grad;  // all ones if beta1 <= 0.5, else 0
};

ACCEL_DEVICE float adam_gradient(float grad, float p, const AdamScalars &s) {
  const float g = grad * s.grad_factor;
  return choose(s.has_l2, g + s.l2 * p, g);
}

// m + (1 - beta1) * (g - m) as torch's lerp: from the nearer end, so that a weight of 1 gives g exactly.
ACCEL_DEVICE float adam_first(float g, float m, const AdamScalars &s) {
  return choose(s.from_grad, g, m) + s.m_weight * (g - m);
}

ACCEL_DEVICE float adam_second(float g, float v, const AdamScalars &s) {
  return s.beta2 * v + s.v_weight * g * g;
}

// The larger one; NaN if one is.
ACCEL_DEVICE float amsgrad(float max_v, float v) { return max_v > v || max_v != max_v ? max_v : v; }

// Of the new moments, the second one by its root.
ACCEL_DEVICE float adam_param(float p, float m, float root_v, const AdamScalars &s) {
  return p * s.keep - s.step_size * m / (root_v + s.eps);
}

// Undoes a step, in the reverse order.
ACCEL_DEVICE void adam_undo(float grad, float &p, float &m, float &v, const AdamScalars &s, float beta1) {
  p = (p + s.step_size * m / (root(v) + s.eps)) / s.keep;
  float g = grad * s.grad_factor;
  if (s.l2 != 0.0f) g = g + s.l2 * p;
  m = (m - (1.0f - beta1) * g) / beta1;
  const float old_v = (v - s.v_weight * g * g) / s.beta2;
  v = old_v < 0.0f ? 0.0f : old_v;
}

)

// The beta1 that a step used.
ACCEL_DEVICE float beta1_of(const AdamScalars &s) { return s.from_grad ? -s.m_weight : 1.0f - s.m_weight; }

// Also of ops whose flags have other names: ADAMW, BIAS_CORRECTION.
template <class A, uint32_t FLAGS, uint32_t MAXIMIZE, uint32_t ADAMW, uint32_t CORRECTION>
struct AnyAdam : Optimizer<A, FLAGS, MAXIMIZE> {
  using Scalars = AdamScalars;

  struct Numbers {
    double beta1, beta2, eps;
    uint32_t flags;
  };

  static Numbers numbers(const A &a) { return {a.beta1, a.beta2, a.eps, a.flags}; }

  static ACCEL_DEVICE Scalars scalars(const Numbers &n, const AtStep &at) {
    const bool decoupled = n.flags & ADAMW, correct = n.flags & CORRECTION;
    const double c1 = correct ? bias_correction(n.beta1, at.step) : 1.0;
    const double root_c2 = correct ? root(bias_correction(n.beta2, at.step)) : 1.0;
    const bool from_grad = 1.0 - n.beta1 >= 0.5;
    const float l2 = decoupled ? 0.0f : static_cast<float>(at.weight_decay);
    return {at.grad_factor,
            l2,
            decoupled ? static_cast<float>(1.0 - at.lr * at.weight_decay) : 1.0f,
            static_cast<float>(from_grad ? -n.beta1 : 1.0 - n.beta1),
            static_cast<float>(1.0 - n.beta2),
            static_cast<float>(n.beta2),
            scaled_eps(n.eps, root_c2),
            static_cast<float>(at.lr * root_c2 / c1),
            l2 != 0.0f ? ~0u : 0u,
            from_grad ? ~0u : 0u};
  }
};

struct Adam : AnyAdam<accel_adam_args, 2 * ACCEL_ADAM_ROLLBACK - 1, ACCEL_ADAM_MAXIMIZE,
                      ACCEL_ADAM_ADAMW, ACCEL_ADAM_BIAS_CORRECTION> {
  static constexpr int kStates = 3, kUsualStates = 2;

  static void *const *state(const Args &a, int which) {
    return which == 0 ? a.exp_avgs : which == 1 ? a.exp_avg_sqs : a.max_exp_avg_sqs;
  }

  static bool undone(const Args &a) { return a.flags & ACCEL_ADAM_ROLLBACK; }
  static bool is_rare(const Args &a) { return a.flags & (ACCEL_ADAM_AMSGRAD | ACCEL_ADAM_ROLLBACK); }

  static int32_t check(const Args &a) {
    if (a.count == 0) return ACCEL_OK;
    const bool amsgrad = a.flags & ACCEL_ADAM_AMSGRAD;
    if (amsgrad != (a.max_exp_avg_sqs != nullptr)) return ACCEL_BAD_ARGUMENT;
    const bool unlike = amsgrad || a.rounding != ACCEL_ROUND_NEAREST || a.beta1 == 0.0 || a.beta2 == 0.0;
    return undone(a) && unlike ? ACCEL_UNSUPPORTED : ACCEL_OK;
  }
};

}  // namespace accel
