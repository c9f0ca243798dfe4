// SPDX-License-Identifier: Apache-2.0
// Adam with 8-bit moments on SYCL devices.

#include "adam_numbers.h"
#include "codes8bit.h"

#include "../../common/optimizers/adam8bit.h"

namespace accel {
namespace {

constexpr char kKernel[] = R"sycl(
struct Adam8bit : Adam {
  static constexpr int kUsedStates = 2;

  static constexpr bool is_signed(int which) { return which == 0; }

  static void update(const Numbers &, const AdamScalars &s, float grad, float &p, float (&state)[2]) {
    const float g = adam_gradient(grad, p, s);
    state[0] = adam_first(g, state[0], s);
    state[1] = adam_second(g, state[1], s);
    p = adam_param(p, state[0], root(state[1]), s);
  }
};

ACCEL_KERNEL adam8bit(Table<AdamNumbers> table) { step_coded<Adam8bit>(table); }
)sycl";

struct Adam8bitOnDevice : Adam8bit {
  using Numbers = AdamNumbers;

  static Numbers numbers(const Args &a) {
    return adam_numbers<Adam8bit>(a, a.flags & ACCEL_ADAM8BIT_ADAMW,
                                  a.flags & ACCEL_ADAM8BIT_BIAS_CORRECTION);
  }
};

}  // namespace
}  // namespace accel

int32_t accel_adam8bit_step(const accel_adam8bit_args *args, void *stream) {
  using namespace accel;
  return step<Adam8bitOnDevice>(args, stream, [] {
    return make_program(std::string(kAdamText) + kCodes8bitText + kAdamNumbers + kAdamUpdate + kCodedSource +
                            kKernel,
                        {"adam8bit"});
  });
}
