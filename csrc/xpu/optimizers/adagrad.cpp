// SPDX-License-Identifier: Apache-2.0
// Adagrad on SYCL devices.

#include "optimizer.h"

#include "../../common/optimizers/adagrad.h"

namespace accel {
namespace {

ACCEL_ON_BOTH(kNumbers, struct AdagradNumbers {
  AdagradScalars scalars;
  float lr_decay, slowdown;  // the latter divides the learning rate at the step that the call names
};)

constexpr char kKernel[] = R"sycl(
struct Adagrad {
  using Numbers = AdagradNumbers;
  using Scalars = AdagradScalars;
  static constexpr int kUsedStates = 1;

  static AdagradScalars scalars(const Numbers &n, const AtStep &at) {
    AdagradScalars s = n.scalars;
    s.grad_factor = at.grad_factor;
    s.step_size = at.lr / (at.counted ? 1.0f + (at.step - 1.0f) * n.lr_decay : n.slowdown);
    return s;
  }

  static void update(const Numbers &, const AdagradScalars &s, float grad, float &p, float (&state)[1]) {
    adagrad(grad, p, state[0], s, s.l2 != 0.0f);
  }
};

ACCEL_KERNEL adagrad(Table<AdagradNumbers> table) { step_group<Adagrad>(table); }
)sycl";

struct AdagradOnDevice : Adagrad {
  using Numbers = AdagradNumbers;

  static Numbers numbers(const Args &a) {
    return {scalars_of<Adagrad>(a), static_cast<float>(a.lr_decay),
            static_cast<float>(1.0 + static_cast<double>(a.step - 1) * a.lr_decay)};
  }
};

}  // namespace
}  // namespace accel

int32_t accel_adagrad_step(const accel_adagrad_args *args, void *stream) {
  using namespace accel;
  return step<AdagradOnDevice>(args, stream, [] {
    return make_program(std::string(kAdagradText) + kNumbers + kKernel, {"adagrad"});
  });
}
