// SPDX-License-Identifier: Apache-2.0
// Adam, AdamW and AMSGrad on SYCL devices: fills tables and launches the kernels of adam.sycl.
// Nothing here waits for the device.

#include <algorithm>
#include <cmath>
#include <iterator>

#include "accel/adam.h"
#include "kernels.h"

namespace accel {
namespace {

ACCEL_ON_BOTH(
    kTables,
    // What a call has in common for all its tensors; tensors on the device are addresses, or 0.
    struct AdamCall {
      uint64_t grad_scale, found_inf, noop_flag, lr_tensor, seed;
      float grad_sign, lr, beta1, beta2, eps;
      float l2;     // weight decay of the L2 mode, else 0
      float decay;  // weight decay of the decoupled mode, else 0
      float m_weight, v_weight;
      float c1, c2, log_beta1, log_beta2;  // bias corrections, and what they are made of
      int32_t param_dtype, grad_dtype, state_dtype;
      int32_t correct, from_grad, amsgrad, rollback, stochastic;
    };
    struct AdamSlot {
      uint64_t param, grad, exp_avg, exp_avg_sq, max_exp_avg_sq, master, step;
      int64_t numel, chunk;
      uint32_t first_group, index;
    };
    struct AdamTable {
      AdamCall call;
      uint32_t count;
      AdamSlot tensors[kBatch];
    };
    struct AdamSteps {
      AdamCall call;
      uint32_t count;
      uint64_t steps[kGroup / 2];
    });

constexpr char kSource[] =
#include "adam.sycl"
    ;

Program &program() {
  static Program *const kept =
      new Program(std::string(kElements) + kGrid + kTables + kSource, {"adam", "adam_advance"});
  return *kept;
}

int32_t check(const accel_adam_args *a) {
  if (!a) return ACCEL_BAD_ARGUMENT;
  if (a->struct_size != sizeof *a) return ACCEL_BAD_STRUCT;
  constexpr uint32_t kFlags = 2 * ACCEL_ADAM_ROLLBACK - 1;
  if (a->count < 0 || a->flags > kFlags) return ACCEL_BAD_ARGUMENT;
  if (!is_dtype(a->param_dtype) || !is_dtype(a->grad_dtype) || !is_dtype(a->state_dtype))
    return ACCEL_BAD_DTYPE;
  if (a->rounding < ACCEL_ROUND_NEAREST || a->rounding > ACCEL_ROUND_STOCHASTIC)
    return ACCEL_BAD_ARGUMENT;
  if (a->count == 0) return ACCEL_OK;
  if (!a->numels || !a->params || !a->grads || !a->exp_avgs || !a->exp_avg_sqs)
    return ACCEL_BAD_ARGUMENT;
  const bool amsgrad = a->flags & ACCEL_ADAM_AMSGRAD;
  if (amsgrad != (a->max_exp_avg_sqs != nullptr)) return ACCEL_BAD_ARGUMENT;
  if ((a->flags & ACCEL_ADAM_ROLLBACK) &&
      (amsgrad || a->rounding != ACCEL_ROUND_NEAREST || a->beta1 == 0.0 || a->beta2 == 0.0))
    return ACCEL_UNSUPPORTED;
  for (int64_t i = 0; i < a->count; ++i)
    if (a->numels[i] < 0) return ACCEL_BAD_ARGUMENT;
  return ACCEL_OK;
}

AdamCall call_of(const accel_adam_args &a) {
  const bool decoupled = a.flags & ACCEL_ADAM_ADAMW;
  const double step = static_cast<double>(a.step);
  AdamCall call{};
  call.grad_scale = address(a.grad_scale);
  call.found_inf = address(a.found_inf);
  call.noop_flag = address(a.noop_flag);
  call.lr_tensor = address(a.lr_tensor);
  call.seed = a.seed;
  call.grad_sign = a.flags & ACCEL_ADAM_MAXIMIZE ? -1.0f : 1.0f;
  call.lr = static_cast<float>(a.lr);
  call.beta1 = static_cast<float>(a.beta1);
  call.beta2 = static_cast<float>(a.beta2);
  call.eps = static_cast<float>(a.eps);
  call.l2 = decoupled ? 0.0f : static_cast<float>(a.weight_decay);
  call.decay = decoupled ? static_cast<float>(a.weight_decay) : 0.0f;
  call.correct = (a.flags & ACCEL_ADAM_BIAS_CORRECTION) != 0;
  call.from_grad = 1.0 - a.beta1 >= 0.5;
  call.m_weight = static_cast<float>(call.from_grad ? -a.beta1 : 1.0 - a.beta1);
  call.v_weight = static_cast<float>(1.0 - a.beta2);
  call.c1 = call.correct ? static_cast<float>(1.0 - std::pow(a.beta1, step)) : 1.0f;
  call.c2 = call.correct ? static_cast<float>(1.0 - std::pow(a.beta2, step)) : 1.0f;
  call.log_beta1 = static_cast<float>(std::log(a.beta1));
  call.log_beta2 = static_cast<float>(std::log(a.beta2));
  call.param_dtype = a.param_dtype;
  call.grad_dtype = a.grad_dtype;
  call.state_dtype = a.state_dtype;
  call.amsgrad = (a.flags & ACCEL_ADAM_AMSGRAD) != 0;
  call.rollback = (a.flags & ACCEL_ADAM_ROLLBACK) != 0;
  call.stochastic = a.rounding == ACCEL_ROUND_STOCHASTIC;
  return call;
}

void advance(const accel_adam_args &a, const AdamCall &call, sycl::queue &queue,
             const sycl::kernel &kernel) {
  AdamSteps table{};
  table.call = call;
  constexpr int64_t kMost = std::size(table.steps);
  for (int64_t first = 0; first < a.count; first += kMost) {
    table.count = static_cast<uint32_t>(std::min(a.count - first, kMost));
    for (uint32_t j = 0; j < table.count; ++j) table.steps[j] = address(a.steps[first + j]);
    launch(queue, kernel, 1, table);
  }
}

void run(const accel_adam_args &a, sycl::queue &queue) {
  const std::vector<sycl::kernel> &kernels = program().kernels_for(queue);
  AdamTable table{};
  table.call = call_of(a);
  const auto place = [&a](AdamSlot &slot, int64_t i) {
    slot.param = address(a.params[i]);
    slot.grad = address(a.grads[i]);
    slot.exp_avg = address(a.exp_avgs[i]);
    slot.exp_avg_sq = address(a.exp_avg_sqs[i]);
    slot.max_exp_avg_sq = a.max_exp_avg_sqs ? address(a.max_exp_avg_sqs[i]) : 0;
    slot.master = a.masters ? address(a.masters[i]) : 0;
    slot.step = a.steps ? address(a.steps[i]) : 0;
  };
  for_launches(table, a.numels, a.count, place,
               [&](uint32_t groups) { launch(queue, kernels[0], groups, table); });
  if (a.steps) advance(a, table.call, queue, kernels[1]);
}

}  // namespace
}  // namespace accel

int32_t accel_adam_step(const accel_adam_args *args, void *stream) {
  const int32_t status = accel::check(args);
  if (status != ACCEL_OK || args->count == 0) return status;
  return accel::guarded(stream, [args](sycl::queue &queue) { accel::run(*args, queue); });
}
