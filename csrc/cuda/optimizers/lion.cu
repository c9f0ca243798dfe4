// SPDX-License-Identifier: Apache-2.0
// Lion on CUDA devices.

#include "optimizer.h"
#include "status.h"

#include "../../common/optimizers/lion.h"

namespace accel {
namespace {

struct LionOnDevice : OnDevice<LionOnDevice, Lion> {
  static ACCEL_DEVICE void update(const Scalars &s, float grad, float &p, float (&state)[1]) {
    lion(grad, p, state[0], s);
  }
};

}  // namespace
}  // namespace accel

int32_t accel_lion_step(const accel_lion_args *args, void *stream) {
  return accel::step<accel::LionOnDevice>(args, stream);
}
