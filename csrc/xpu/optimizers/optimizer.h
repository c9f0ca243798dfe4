// SPDX-License-Identifier: Apache-2.0
// Code shared by all element-wise optimizer ops on SYCL devices: checks, tables of tensors, launches.
// The kernels' half is optimizer.sycl. Nothing here waits for the device.
//
// An op is a class of common/optimizers, or derived from one, with
//   Numbers, numbers(args)   inputs of its kernel beyond `Common`
#pragma once

#include <algorithm>
#include <cmath>
#include <iterator>

#include "kernels.h"

#include "../../common/optimizer.h"

namespace accel {

static constexpr char kOptimizerSource[] =
#include "optimizer.sycl"
    ;

ACCEL_ON_BOTH(
    kTables, enum Limits : int32_t {
      kVector = 4,    // elements of one access, if every tensor is aligned to 16 bytes
      kChunk = 4096,  // elements of one group
      kBatch = 8,     // tensors of one launch
      kStates = 3,    // of one tensor, at most
      kExtras = 2     // further arrays of one tensor, at most
    };
    // The numbers of a call for all its tensors; scalars on the device are addresses, or 0.
    struct Common {
      uint64_t grad_scale, found_inf, noop_flag, lr_tensor;
      uint64_t seed;  // includes the step, unless tensors have their own
      float grad_sign, lr, step;
      float ahead;     // from a step tensor's value to the number of this step
      float count_by;  // the amount added to step tensors
      int32_t param_dtype, grad_dtype, state_dtype, stochastic;
    };
    // The addresses of one tensor; 0 for absent ones.
    struct Slot {
      uint64_t param, grad, master, step, states[kStates], extras[kExtras];
      int64_t numel, chunk;
      uint32_t first_group, index;
    };
    template <class Numbers> struct Table {
      Common common;
      Numbers numbers;
      uint32_t count;
      Slot tensors[kBatch];
    };
    struct Steps {
      Common common;
      uint32_t count;
      uint64_t steps[kGroup / 2];
    };
    // 1 - beta^t at the step that the call names, and what they are made of at others.
    struct Corrections {
      float c1, c2, log_beta1, log_beta2;
      int32_t correct;  // or else they are 1
    };)

// Groups of one tensor: with kBatch tensors, work-items stay below the 2^31 that kernels can count.
constexpr int64_t kMostGroups = 1 << 19;


inline Corrections corrections_of(double beta1, double beta2, int64_t step, bool correct) {
  const auto at = [&](double beta) {
    return correct ? static_cast<float>(bias_correction(beta, static_cast<double>(step))) : 1.0f;
  };
  return {at(beta1), at(beta2), static_cast<float>(std::log(beta1)), static_cast<float>(std::log(beta2)),
          correct};
}

// Scalars with all that does not depend on the device's memory, which need no double there.
template <class Op>
typename Op::Scalars scalars_of(const typename Op::Args &a) {
  return Op::scalars(Op::numbers(a), {a.lr, a.weight_decay, static_cast<double>(a.step), 1.0f});
}

template <class Op>
Common common_of(const typename Op::Args &a, float ahead = 1.0f, float count_by = 1.0f) {
  Common c{};
  c.grad_scale = address(a.grad_scale);
  c.found_inf = address(a.found_inf);
  c.noop_flag = address(a.noop_flag);
  c.lr_tensor = address(a.lr_tensor);
  c.seed = a.steps ? a.seed : accel_random_seed(a.seed, a.step);
  c.grad_sign = Op::maximize(a) ? -1.0f : 1.0f;
  c.lr = static_cast<float>(a.lr);
  c.step = static_cast<float>(a.step);
  c.ahead = ahead;
  c.count_by = count_by;
  c.param_dtype = a.param_dtype;
  c.grad_dtype = a.grad_dtype;
  c.state_dtype = a.state_dtype;
  c.stochastic = a.rounding == ACCEL_ROUND_STOCHASTIC;
  return c;
}

template <class Op>
void place(Slot &slot, const typename Op::Args &a, int64_t i) {
  slot.index = a.tensor_numbers ? a.tensor_numbers[i] : static_cast<uint32_t>(i);
  slot.numel = a.numels[i];
  slot.param = address(a.params[i]);
  slot.grad = address(a.grads[i]);
  slot.master = a.masters ? address(a.masters[i]) : 0;
  slot.step = a.steps ? address(a.steps[i]) : 0;
  const auto entry = [i](const void *const *array) { return array ? address(array[i]) : 0; };
  for (int which = 0; which < kStates; ++which) slot.states[which] = entry(Op::state(a, which));
  for (int which = 0; which < kExtras; ++which) slot.extras[which] = entry(Op::extra(a, which));
}

template <class Op>
void launch_steps(sycl::queue &queue, const sycl::kernel &kernel, const typename Op::Args &a,
                  const Common &common) {
  Table<typename Op::Numbers> table{common, Op::numbers(a), 0, {}};
  uint32_t groups = 0;
  const auto flush = [&] {
    // Slots that are not in use begin after every group.
    for (uint32_t j = table.count; j < kBatch; ++j) table.tensors[j].first_group = UINT32_MAX;
    if (table.count) launch(queue, kernel, groups, table);
    groups = table.count = 0;
  };
  for (int64_t i = 0; i < a.count; ++i) {
    if (a.numels[i] == 0) continue;
    Slot &slot = table.tensors[table.count++];
    place<Op>(slot, a, i);
    slot.first_group = groups;
    slot.chunk = kChunk;
    while ((slot.numel - 1) / slot.chunk >= kMostGroups) slot.chunk *= 2;
    groups += static_cast<uint32_t>((slot.numel - 1) / slot.chunk + 1);
    if (table.count == kBatch) flush();
  }
  flush();
}

template <class Args>
void count_steps(sycl::queue &queue, const sycl::kernel &kernel, const Args &a, const Common &common) {
  Steps table{common, 0, {}};
  constexpr int64_t kMost = std::size(Steps{}.steps);
  for (int64_t first = 0; first < a.count; first += kMost) {
    table.count = static_cast<uint32_t>(std::min(a.count - first, kMost));
    for (uint32_t j = 0; j < table.count; ++j) table.steps[j] = address(a.steps[first + j]);
    launch(queue, kernel, 1, table);
  }
}

// An op's kernels, `names` and count_steps, from its half of the source.
inline Program *make_program(const std::string &source, std::vector<std::string> names) {
  names.push_back("count_steps");
  return new Program(common_source() + kTables + kOptimizerText + kOptimizerSource + source, std::move(names));
}

// The entry point of an op with one kernel, whose program make() makes. A step that is undone counts
// backwards.
template <class Op, class Make>
int32_t step(const typename Op::Args *args, void *stream, const Make &make) {
  const int32_t status = check<Op>(args, true);
  if (status != ACCEL_OK || args->count == 0) return status;
  static Program *const program = make();
  const bool undone = Op::undone(*args);
  const Common common = common_of<Op>(*args, undone ? 0.0f : 1.0f, undone ? -1.0f : 1.0f);
  return guarded(stream, [&](sycl::queue &queue) {
    const std::vector<sycl::kernel> &kernels = program->kernels_for(queue);
    launch_steps<Op>(queue, kernels[0], *args, common);
    if (args->steps) count_steps(queue, kernels[1], *args, common);
  });
}

}  // namespace accel
