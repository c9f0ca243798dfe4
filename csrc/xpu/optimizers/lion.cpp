// SPDX-License-Identifier: Apache-2.0
// Lion on SYCL devices.

#include "lion_numbers.h"

namespace accel {
namespace {

constexpr char kKernel[] = "ACCEL_KERNEL lion(Table<LionNumbers> table) { step_group<Lion>(table); }\n";

struct LionOnDevice : Lion {
  using Numbers = LionNumbers;

  static Numbers numbers(const Args &a) { return lion_numbers<Lion>(a); }
};

}  // namespace
}  // namespace accel

int32_t accel_lion_step(const accel_lion_args *args, void *stream) {
  using namespace accel;
  return step<LionOnDevice>(args, stream, [] {
    return make_program(std::string(kLionText) + kLionNumbers + kLionUpdate + kKernel, {"lion"});
  });
}
