// SPDX-License-Identifier: Apache-2.0
// LAMB on SYCL devices: see accel/lamb.h for the arithmetic.

#include <cmath>

#include "accel/lamb.h"
#include "optimizer.h"

namespace accel {
namespace {

ACCEL_ON_BOTH(
    kNumbers, struct LambNumbers {
      float beta1, m_weight, beta2, v_weight;
      float eps_inside, eps_outside;  // one of them is 0
      float weight_decay, max_coeff, min_coeff;
      float correction, log_beta1, log_beta2;  // sqrt(c2) / c1, and its inputs
      int32_t correct;
    };
    enum What : int32_t { kClear, kWiden, kCoefficients };
    struct Norms {
      Common common;
      LambNumbers numbers;
      uint32_t count;
      What what;
      uint64_t norms[64], coeffs[64];
    });

constexpr char kKernels[] =
#include "lamb.sycl"
    ;

enum Kernel { kMoments, kApply, kNorms, kCount };

struct Lamb {
  using Args = accel_lamb_args;
  using Numbers = LambNumbers;

  static void *const *state(const Args &a, int which) {
    return which == 0 ? a.exp_avgs : which == 1 ? a.exp_avg_sqs : nullptr;
  }

  static const void *const *extra(const Args &a, int which) {
    return which == 0 ? reinterpret_cast<const void *const *>(a.norms) : nullptr;
  }

  static Numbers numbers(const Args &a) {
    const bool inside = a.flags & ACCEL_LAMB_EPS_INSIDE;
    const double step = static_cast<double>(a.step);
    Numbers n{};
    n.beta1 = static_cast<float>(a.beta1);
    n.m_weight = static_cast<float>(1.0 - a.beta1);
    n.beta2 = static_cast<float>(a.beta2);
    n.v_weight = static_cast<float>(1.0 - a.beta2);
    n.eps_inside = inside ? static_cast<float>(a.eps) : 0.0f;
    n.eps_outside = inside ? 0.0f : static_cast<float>(a.eps);
    n.weight_decay = static_cast<float>(a.weight_decay);
    n.max_coeff = static_cast<float>(a.max_coeff);
    n.min_coeff = static_cast<float>(a.min_coeff);
    n.correct = (a.flags & ACCEL_LAMB_BIAS_CORRECTION) != 0;
    n.correction = 1.0f;
    if (n.correct)
      n.correction = static_cast<float>(std::sqrt(1.0 - std::pow(a.beta2, step)) /
                                        (1.0 - std::pow(a.beta1, step)));
    n.log_beta1 = static_cast<float>(std::log(a.beta1));
    n.log_beta2 = static_cast<float>(std::log(a.beta2));
    return n;
  }
};

void for_norms(sycl::queue &queue, const sycl::kernel &kernel, const accel_lamb_args &a,
               const Common &common, What what) {
  Norms table{common, Lamb::numbers(a), 0, what, {}, {}};
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
  const Common common = common_of(a, a.flags & ACCEL_LAMB_MAXIMIZE, moments ? 1.0f : 0.0f);
  if (moments) {
    for_norms(queue, kernels[kNorms], a, common, kClear);
    launch_steps<Lamb>(queue, kernels[kMoments], a, common);
    for_norms(queue, kernels[kNorms], a, common, kWiden);
  }
  if (apply) {
    if (a.coeffs) for_norms(queue, kernels[kNorms], a, common, kCoefficients);
    launch_steps<Lamb>(queue, kernels[kApply], a, common);
  }
  if (moments && a.steps) count_steps(queue, kernels[kCount], a, common);
}

int32_t check(const accel_lamb_args *a) {
  const int32_t status = check_device_args(a, 2 * ACCEL_LAMB_APPLY - 1);
  if (status != ACCEL_OK) return status;
  if (!(a->flags & (ACCEL_LAMB_MOMENTS | ACCEL_LAMB_APPLY))) return ACCEL_BAD_ARGUMENT;
  if (a->count && (!a->exp_avgs || !a->exp_avg_sqs || !a->norms)) return ACCEL_BAD_ARGUMENT;
  return ACCEL_OK;
}

}  // namespace
}  // namespace accel

int32_t accel_lamb_step(const accel_lamb_args *args, void *stream) {
  const int32_t status = accel::check(args);
  if (status != ACCEL_OK || args->count == 0) return status;
  static accel::Program *const program =
      accel::make_program(std::string(accel::kNumbers) + accel::kKernels,
                          {"lamb_moments", "lamb_apply", "lamb_norms"});
  return accel::guarded(stream,
                        [args](sycl::queue &queue) { accel::run(queue, *program, *args); });
}
