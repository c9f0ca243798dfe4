// SPDX-License-Identifier: Apache-2.0
// AdEMAMix on CUDA devices.

#include "optimizer.h"
#include "status.h"

#include "../../common/optimizers/ademamix.h"

namespace accel {
namespace {

struct AdemamixOnDevice : OnDevice<AdemamixOnDevice, Ademamix> {
  template <class T, class Here>
  struct Body : Elements<AdemamixOnDevice, T, Here> {
    // Three states of eight elements take so many registers that fewer than 768 threads run.
    ACCEL_DEVICE void run(const Piece &piece) {
      for_share<(T::kVector < 4 ? T::kVector : 4)>(piece.begin, piece.end, this->aligned, *this);
    }
  };

  static ACCEL_DEVICE void update(const Scalars &s, float grad, float &p, float (&state)[3]) {
    ademamix(grad, p, state[0], state[1], state[2], s);
  }
};

}  // namespace
}  // namespace accel

int32_t accel_ademamix_step(const accel_ademamix_args *args, void *stream) {
  return accel::step<accel::AdemamixOnDevice>(args, stream);
}
