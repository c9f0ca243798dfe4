// SPDX-License-Identifier: Apache-2.0
// Inputs of Adam's update from a call, for the ops that use it; the kernels' half is adam_update.sycl.
#pragma once

#include <cmath>

#include "optimizer.h"

namespace accel {

ACCEL_ON_BOTH(kAdamNumbers, struct AdamNumbers {
  float beta1, beta2, eps;
  float l2;     // weight decay of the L2 mode, else 0
  float decay;  // weight decay of the decoupled mode, else 0
  float m_weight, v_weight;
  float c1, c2, log_beta1, log_beta2;  // bias corrections, and their inputs
  int32_t correct, from_grad, amsgrad, rollback;
});

static constexpr char kAdamUpdate[] =
#include "adam_update.sycl"
    ;

template <class Args>
AdamNumbers adam_numbers(const Args &a, bool decoupled, bool correct) {
  const double step = static_cast<double>(a.step);
  AdamNumbers n{};
  n.beta1 = static_cast<float>(a.beta1);
  n.beta2 = static_cast<float>(a.beta2);
  n.eps = static_cast<float>(a.eps);
  n.l2 = decoupled ? 0.0f : static_cast<float>(a.weight_decay);
  n.decay = decoupled ? static_cast<float>(a.weight_decay) : 0.0f;
  n.correct = correct;
  n.from_grad = 1.0 - a.beta1 >= 0.5;
  n.m_weight = static_cast<float>(n.from_grad ? -a.beta1 : 1.0 - a.beta1);
  n.v_weight = static_cast<float>(1.0 - a.beta2);
  n.c1 = correct ? static_cast<float>(1.0 - std::pow(a.beta1, step)) : 1.0f;
  n.c2 = correct ? static_cast<float>(1.0 - std::pow(a.beta2, step)) : 1.0f;
  n.log_beta1 = static_cast<float>(std::log(a.beta1));
  n.log_beta2 = static_cast<float>(std::log(a.beta2));
  return n;
}

}  // namespace accel
