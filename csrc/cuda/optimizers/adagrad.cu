// SPDX-License-Identifier: Apache-2.0
// Adagrad on CUDA devices.

#include "optimizer.h"
#include "status.h"

#include "../../common/optimizers/adagrad.h"

namespace accel {
namespace {

struct AdagradOnDevice : OnDevice<AdagradOnDevice, Adagrad> {
  static ACCEL_DEVICE void update(const Scalars &s, float grad, float &p, float (&state)[1]) {
    adagrad(grad, p, state[0], s, s.l2 != 0.0f);
  }
};

}  // namespace
}  // namespace accel

int32_t accel_adagrad_step(const accel_adagrad_args *args, void *stream) {
  return accel::step<accel::AdagradOnDevice>(args, stream);
}
