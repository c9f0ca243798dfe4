// SPDX-License-Identifier: Apache-2.0
// Adam, AdamW and AMSGrad on CUDA devices.

#include "optimizer.h"
#include "status.h"

#include "../../common/optimizers/adam.h"

namespace accel {
namespace {

struct AdamOnDevice : OnDevice<AdamOnDevice, Adam> {
  struct Scalars : AdamScalars {
    bool amsgrad, rollback;
  };

  static ACCEL_DEVICE Scalars scalars(const Numbers &n, const AtStep &at, const void *) {
    return {Adam::scalars(n, at), (n.flags & ACCEL_ADAM_AMSGRAD) != 0, (n.flags & ACCEL_ADAM_ROLLBACK) != 0};
  }

  template <int STATES>
  static ACCEL_DEVICE void update(const Scalars &s, float grad, float &p, float (&state)[STATES]) {
    float &m = state[0], &v = state[1];
    if constexpr (STATES == 3) {
      if (s.rollback) return adam_undo(grad, p, m, v, s, beta1_of(s));
    }
    const float g = adam_gradient(grad, p, s);
    m = adam_first(g, m, s);
    v = adam_second(g, v, s);
    float second = v;
    if constexpr (STATES == 3) {
      if (s.amsgrad) state[2] = second = amsgrad(state[2], v);
    }
    p = adam_param(p, m, root(second), s);
  }
};

}  // namespace
}  // namespace accel

int32_t accel_adam_step(const accel_adam_args *args, void *stream) {
  return accel::step<accel::AdamOnDevice>(args, stream);
}
