// SPDX-License-Identifier: Apache-2.0
// Adam with 8-bit moments on CUDA devices.

#include "codes8bit.h"
#include "status.h"

#include "../../common/optimizers/adam8bit.h"

namespace accel {
namespace {

struct Adam8bitOnDevice : CodedOnDevice<Adam8bitOnDevice, Adam8bit> {
  static ACCEL_DEVICE void update(const Scalars &s, float grad, float &p, float (&state)[2]) {
    const float g = adam_gradient(grad, p, s);
    state[0] = adam_first(g, state[0], s);
    state[1] = adam_second(g, state[1], s);
    p = adam_param(p, state[0], root(state[1]), s);
  }
};

}  // namespace
}  // namespace accel

int32_t accel_adam8bit_step(const accel_adam8bit_args *args, void *stream) {
  return accel::step<accel::Adam8bitOnDevice>(args, stream);
}
