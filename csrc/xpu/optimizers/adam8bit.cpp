// SPDX-License-Identifier: Apache-2.0
// Adam with 8-bit moments on SYCL devices.

#include "adam_numbers.h"

#include "../../common/optimizers/adam8bit.h"

namespace accel {
namespace {

static_assert(static_cast<uint32_t>(kGroup) == kCodes, "a group works on one block");
static_assert(kChunk % kGroup == 0, "a piece begins where a block does");

constexpr char kKernel[] =
#include "adam8bit.sycl"
    ;

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
    return make_program(
        std::string(kAdamText) + kAdam8bitText + kAdamNumbers + kAdamUpdate + kKernel, {"adam8bit"});
  });
}
