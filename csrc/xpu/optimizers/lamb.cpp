// SPDX-License-Identifier: Apache-2.0
// LAMB on SYCL devices: see accel/lamb.h for the phases.

#include "optimizer.h"

#include "../../common/optimizers/lamb.h"

namespace accel {
namespace {

ACCEL_ON_BOTH(
    kNumbers, struct LambNumbers {
      LambScalars scalars;
      Corrections corrections;
      float max_coeff, min_coeff;
      float correction;  // sqrt(c2) / c1 at the step that the call names
    };
    enum What : int32_t { kClear, kWiden, kCoefficients };
    struct Norms {
      Common common;
      LambNumbers numbers;
      uint32_t count;
      What what;
      uint64_t norms[64], coeffs[64];
    };)

constexpr char kKernels[] =
#include "lamb.sycl"
    ;

enum Kernel { kMoments, kApply, kNorms, kCount };

struct LambOnDevice : Lamb {
  using Numbers = LambNumbers;

  static Numbers numbers(const Args &a) {
    const bool correct = a.flags & ACCEL_LAMB_BIAS_CORRECTION;
    const AtStep unit_rate = {1.0, 0.0, static_cast<double>(a.step), 1.0f};
    return {scalars_of<Lamb>(a), corrections_of(a.beta1, a.beta2, a.step, correct),
            static_cast<float>(a.max_coeff), static_cast<float>(a.min_coeff),
            static_cast<float>(rate(Lamb::numbers(a), unit_rate))};
  }
};

void for_norms(sycl::queue &queue, const sycl::kernel &kernel, const accel_lamb_args &a,
               const Common &common, What what) {
  Norms table{common, LambOnDevice::numbers(a), 0, what, {}, {}};
  constexpr int64_t kMost = std::size(Norms{}.norms);
  for (int64_t first = 0; first < a.count; first += kMost) {
    table.count = static_cast<uint32_t>(std::min(a.count - first, kMost));
    for (uint32_t j = 0; j < table.count; ++j) {
      table.norms[j] = address(a.norms[first + j]);
      table.coeffs[j] = what == kCoefficients ? address(a.coeffs[first + j]) : 0;
    }
    launch(queue, kernel, 1, table);
  }
}

void run(sycl::queue &queue, Program &program, const accel_lamb_args &a) {
  const std::vector<sycl::kernel> &kernels = program.kernels_for(queue);
  const bool moments = a.flags & ACCEL_LAMB_MOMENTS, apply = a.flags & ACCEL_LAMB_APPLY;
  // A call that only applies comes after the one that counted.
  const Common common = common_of<Lamb>(a, moments ? 1.0f : 0.0f);
  if (moments) {
    for_norms(queue, kernels[kNorms], a, common, kClear);
    launch_steps<LambOnDevice>(queue, kernels[kMoments], a, common);
    for_norms(queue, kernels[kNorms], a, common, kWiden);
  }
  if (apply) {
    if (a.coeffs) for_norms(queue, kernels[kNorms], a, common, kCoefficients);
    launch_steps<LambOnDevice>(queue, kernels[kApply], a, common);
  }
  if (moments && a.steps) count_steps(queue, kernels[kCount], a, common);
}

}  // namespace
}  // namespace accel

int32_t accel_lamb_step(const accel_lamb_args *args, void *stream) {
  const int32_t status = accel::check<accel::Lamb>(args, true);
  if (status != ACCEL_OK || args->count == 0) return status;
  static accel::Program *const program =
      accel::make_program(std::string(accel::kLambText) + accel::kNumbers + accel::kKernels,
                          {"lamb_moments", "lamb_apply", "lamb_norms"});
  return accel::guarded(stream,
                        [args](sycl::queue &queue) { accel::run(queue, *program, *args); });
}
