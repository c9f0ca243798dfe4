// SPDX-License-Identifier: Apache-2.0
// Lion with an 8-bit moment on CUDA devices.

#include "codes8bit.h"
#include "status.h"

#include "../../common/optimizers/lion8bit.h"

namespace accel {
namespace {

struct Lion8bitOnDevice : CodedOnDevice<Lion8bitOnDevice, Lion8bit> {
  static ACCEL_DEVICE void update(const Scalars &s, float grad, float &p, float (&state)[1]) {
    lion(grad, p, state[0], s);
  }
};

}  // namespace
}  // namespace accel

int32_t accel_lion8bit_step(const accel_lion8bit_args *args, void *stream) {
  return accel::step<accel::Lion8bitOnDevice>(args, stream);
}
