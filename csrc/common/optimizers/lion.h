// SPDX-License-Identifier: Apache-2.0
// Lion: Chen et al. 2023, "Symbolic Discovery of Optimization Algorithms", algorithm 2.
#pragma once

#include "../optimizer.h"
#include "accel/lion.h"

namespace accel {

ACCEL_ON_BOTH(kLionText,

struct LionScalars {
  float grad_factor;      // 1 / grad_scale, negative to maximize
  float keep, lr;         // keep: 1 - lr * weight_decay
  float beta1, g_weight;  // of the direction; g_weight: 1 - beta1
  float beta2, m_weight;  // of the moment; m_weight: 1 - beta2
};

ACCEL_DEVICE void lion(float grad, float &p, float &m, const LionScalars &s) {
  const float g = grad * s.grad_factor;
  const float c = m * s.beta1 + g * s.g_weight;
  // A value neither above nor below 0 stays: 0, and NaN.
  const float sign = c > 0.0f ? 1.0f : (c < 0.0f ? -1.0f : c);
  m = m * s.beta2 + g * s.m_weight;
  p = p * s.keep - sign * s.lr;
}

)

// Also of the op with a coded moment, which has arguments of its own.
template <class A, uint32_t MAXIMIZE>
struct AnyLion : Optimizer<A, MAXIMIZE, MAXIMIZE> {
  static constexpr int kStates = 1, kUsualStates = 1;
  using Scalars = LionScalars;

  struct Numbers {
    double beta1, beta2;
  };

  static void *const *state(const A &a, int which) {
    return reinterpret_cast<void *const *>(which == 0 ? a.exp_avgs : nullptr);
  }
  static Numbers numbers(const A &a) { return {a.beta1, a.beta2}; }

  static ACCEL_DEVICE Scalars scalars(const Numbers &n, const AtStep &at) {
    return {at.grad_factor,
            static_cast<float>(1.0 - at.lr * at.weight_decay),
            static_cast<float>(at.lr),
            static_cast<float>(n.beta1),
            static_cast<float>(1.0 - n.beta1),
            static_cast<float>(n.beta2),
            static_cast<float>(1.0 - n.beta2)};
  }
};

struct Lion : AnyLion<accel_lion_args, ACCEL_LION_MAXIMIZE> {};

}  // namespace accel
