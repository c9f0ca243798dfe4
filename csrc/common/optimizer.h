// SPDX-License-Identifier: Apache-2.0
// What every device takes from an optimizer's arguments: checks, and the numbers of a step.
//
// The argument structs are different types with the same field names, hence the templates.
#pragma once

#include "accel/abi.h"
#include "dtypes.h"
#include "random.h"
#include "rounding.h"

namespace accel {

// An optimizer, as all devices see it, is a class derived from this with
//   kStates, kUsualStates    the most states, and those that must be given
//   state(args, which)       the pointer array of a state, null if there is none
//   Numbers, numbers(args)   inputs of the scalars beyond `AtStep`
//   Scalars                  inputs of one element's update at a step; scalars(numbers, at) makes them
template <class A, uint32_t FLAGS, uint32_t MAXIMIZE>
struct Optimizer {
  using Args = A;
  static constexpr uint32_t kFlags = FLAGS;  // the sum of all
  static constexpr int kExtra = 0;           // further pointer arrays, which must be given
  static void *const *extra(const Args &, int) { return nullptr; }
  static bool maximize(const Args &a) { return a.flags & MAXIMIZE; }
  static bool undone(const Args &) { return false; }   // whether a step is undone
  static bool is_rare(const Args &) { return false; }  // whether kUsualStates do not suffice
  static int32_t check(const Args &) { return ACCEL_OK; }
};

template <class Args>
int32_t check_args(const Args *a, uint32_t known_flags) {
  if (!a) return ACCEL_BAD_ARGUMENT;
  if (a->struct_size != sizeof *a) return ACCEL_BAD_STRUCT;
  if (a->count < 0 || (a->flags & ~known_flags)) return ACCEL_BAD_ARGUMENT;
  if (!is_dtype(a->param_dtype) || !is_dtype(a->grad_dtype) || !is_dtype(a->state_dtype))
    return ACCEL_BAD_DTYPE;
  if (a->rounding < ACCEL_ROUND_NEAREST || a->rounding > ACCEL_ROUND_STOCHASTIC)
    return ACCEL_BAD_ARGUMENT;
  if (a->count == 0) return ACCEL_OK;
  if (!a->numels || !a->params || !a->grads) return ACCEL_BAD_ARGUMENT;
  for (int64_t i = 0; i < a->count; ++i)
    if (a->numels[i] < 0) return ACCEL_BAD_ARGUMENT;
  return ACCEL_OK;
}

// All checks of a call, on a host and on a device, whose kernels know whole tensors only.
template <class Op>
int32_t check(const typename Op::Args *a, bool on_device) {
  int32_t status = check_args(a, Op::kFlags);
  if (status != ACCEL_OK) return status;
  if (on_device && a->first_elements) return ACCEL_UNSUPPORTED;
  if (!on_device && a->num_threads < 1) return ACCEL_BAD_ARGUMENT;
  status = Op::check(*a);
  if (status != ACCEL_OK || a->count == 0) return status;
  for (int which = 0; which < Op::kUsualStates; ++which)
    if (!Op::state(*a, which)) return ACCEL_BAD_ARGUMENT;
  for (int which = 0; which < Op::kExtra; ++which)
    if (!Op::extra(*a, which)) return ACCEL_BAD_ARGUMENT;
  return ACCEL_OK;
}

// The numbers of a step for one tensor.
struct AtStep {
  double lr, weight_decay, step;
  float grad_factor;  // 1 / grad_scale, negative to maximize
};

template <class Call>
ACCEL_DEVICE AtStep at_step(const Call &call, bool maximize, double step) {
  const double scale = call.grad_scale ? 1.0 / static_cast<double>(*call.grad_scale) : 1.0;
  return {call.lr_tensor ? static_cast<double>(*call.lr_tensor) : call.lr, call.weight_decay, step,
          static_cast<float>(maximize ? -scale : scale)};
}

template <class Call>
ACCEL_DEVICE bool is_skipped(const Call &call) {
  return (call.noop_flag && *call.noop_flag != 0) || (call.found_inf && *call.found_inf != 0.0f);
}

// 1 - beta^t, the weight of a decaying mean that began as 0.
ACCEL_BOTH double bias_correction(double beta, double step) { return 1.0 - power(beta, step); }

ACCEL_ON_BOTH(kOptimizerText,

// `eps` times the root of a bias correction, not 0 if float32 has an eps: 0 / 0 then stays 0.
template <class Real>
ACCEL_DEVICE float scaled_eps(Real eps, Real root) {
  const float scaled = (float)(eps * root);
  return scaled == 0.0f && (float)eps != 0.0f ? 0x1p-149f : scaled;
}

)

}  // namespace accel
