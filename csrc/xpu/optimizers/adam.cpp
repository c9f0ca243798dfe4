// SPDX-License-Identifier: Apache-2.0
// Adam, AdamW and AMSGrad on SYCL devices.

#include "adam_numbers.h"

namespace accel {
namespace {

constexpr char kKernel[] = R"sycl(
ACCEL_KERNEL adam(Table<AdamNumbers> table) { step_group<Adam>(table); }
)sycl";

struct AdamOnDevice : Adam {
  using Numbers = AdamNumbers;

  static Numbers numbers(const Args &a) {
    Numbers n = adam_numbers<Adam>(a, a.flags & ACCEL_ADAM_ADAMW, a.flags & ACCEL_ADAM_BIAS_CORRECTION);
    n.amsgrad = (a.flags & ACCEL_ADAM_AMSGRAD) != 0;
    n.rollback = undone(a);
    return n;
  }
};

}  // namespace
}  // namespace accel

int32_t accel_adam_step(const accel_adam_args *args, void *stream) {
  using namespace accel;
  return step<AdamOnDevice>(args, stream, [] {
    return make_program(std::string(kAdamText) + kAdamNumbers + kAdamUpdate + kKernel, {"adam"});
  });
}
