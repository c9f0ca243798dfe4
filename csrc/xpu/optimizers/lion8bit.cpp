// SPDX-License-Identifier: Apache-2.0
// Lion with an 8-bit moment on SYCL devices.

#include "codes8bit.h"
#include "lion_numbers.h"

#include "../../common/optimizers/lion8bit.h"

namespace accel {
namespace {

constexpr char kKernel[] = R"sycl(
struct Lion8bit : Lion {
  static constexpr bool is_signed(int) { return true; }
};

ACCEL_KERNEL lion8bit(Table<LionNumbers> table) { step_coded<Lion8bit>(table); }
)sycl";

struct Lion8bitOnDevice : Lion8bit {
  using Numbers = LionNumbers;

  static Numbers numbers(const Args &a) { return lion_numbers<Lion8bit>(a); }
};

}  // namespace
}  // namespace accel

int32_t accel_lion8bit_step(const accel_lion8bit_args *args, void *stream) {
  using namespace accel;
  return step<Lion8bitOnDevice>(args, stream, [] {
    return make_program(std::string(kLionText) + kCodes8bitText + kLionNumbers + kLionUpdate + kCodedSource +
                            kKernel,
                        {"lion8bit"});
  });
}
