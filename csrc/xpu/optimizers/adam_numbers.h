// SPDX-License-Identifier: Apache-2.0
// Adam's step on SYCL devices, for the ops that use it.
#pragma once

#include "optimizer.h"

#include "../../common/optimizers/adam.h"

namespace accel {

ACCEL_ON_BOTH(kAdamNumbers, struct AdamNumbers {
  AdamScalars scalars;
  Corrections corrections;
  float beta1, eps;
  float decay;  // weight decay of the decoupled mode, else 0
  int32_t amsgrad, rollback;
};)

static constexpr char kAdamUpdate[] = R"sycl(
struct Adam {
  using Numbers = AdamNumbers;
  using Scalars = AdamScalars;
  static constexpr int kUsedStates = 3;

  static AdamScalars scalars(const Numbers &n, const AtStep &at) {
    const Corrections c = corrections_at(n.corrections, at);
    const float root_c2 = root(c.c2);
    AdamScalars s = n.scalars;
    s.grad_factor = at.grad_factor;
    s.keep = 1.0f - at.lr * n.decay;
    s.eps = scaled_eps(n.eps, root_c2);
    s.step_size = at.lr * root_c2 / c.c1;
    return s;
  }

  static void update(const Numbers &n, const AdamScalars &s, float grad, float &p, float (&state)[3]) {
    float &m = state[0], &v = state[1];
    if (n.rollback) return adam_undo(grad, p, m, v, s, n.beta1);
    const float g = adam_gradient(grad, p, s);
    m = adam_first(g, m, s);
    v = adam_second(g, v, s);
    float second = v;
    if (n.amsgrad) state[2] = second = amsgrad(state[2], v);
    p = adam_param(p, m, root(second), s);
  }
};
)sycl";

template <class Op>
AdamNumbers adam_numbers(const typename Op::Args &a, bool decoupled, bool correct) {
  return {scalars_of<Op>(a),
          corrections_of(a.beta1, a.beta2, a.step, correct),
          static_cast<float>(a.beta1),
          static_cast<float>(a.eps),
          decoupled ? static_cast<float>(a.weight_decay) : 0.0f,
          false,
          false};
}

}  // namespace accel
