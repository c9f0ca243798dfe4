// SPDX-License-Identifier: Apache-2.0
// Lion on SYCL devices.

#include "optimizer.h"

#include "../../common/optimizers/lion.h"

namespace accel {
namespace {

ACCEL_ON_BOTH(kNumbers, struct LionNumbers {
  LionScalars scalars;
  float weight_decay;
};)

constexpr char kKernel[] = R"sycl(
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

ACCEL_KERNEL lion(Table<LionNumbers> table) { step_group<Lion>(table); }
)sycl";

struct LionOnDevice : Lion {
  using Numbers = LionNumbers;

  static Numbers numbers(const Args &a) {
    return {scalars_of<Lion>(a), static_cast<float>(a.weight_decay)};
  }
};

}  // namespace
}  // namespace accel

int32_t accel_lion_step(const accel_lion_args *args, void *stream) {
  using namespace accel;
  return step<LionOnDevice>(args, stream, [] {
    return make_program(std::string(kLionText) + kNumbers + kKernel, {"lion"});
  });
}
