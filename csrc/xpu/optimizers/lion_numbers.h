// SPDX-License-Identifier: Apache-2.0
// Lion's step on SYCL devices, for the ops that use it.
#pragma once

#include "optimizer.h"

#include "../../common/optimizers/lion.h"

namespace accel {

ACCEL_ON_BOTH(kLionNumbers, struct LionNumbers {
  LionScalars scalars;
  float weight_decay;
};)

static constexpr char kLionUpdate[] = R"sycl(
struct Lion {
  using Numbers = LionNumbers;
  using Scalars = LionScalars;
  static constexpr int kUsedStates = 1;

  static LionScalars scalars(const Numbers &n, const AtStep &at) {
    LionScalars s = n.scalars;
    s.grad_factor = at.grad_factor;
    s.keep = 1.0f - at.lr * n.weight_decay;
    s.lr = at.lr;
    return s;
  }

  static void update(const Numbers &, const LionScalars &s, float grad, float &p, float (&state)[1]) {
    lion(grad, p, state[0], s);
  }
};
)sycl";

template <class Op>
LionNumbers lion_numbers(const typename Op::Args &a) {
  return {scalars_of<Op>(a), static_cast<float>(a.weight_decay)};
}

}  // namespace accel
