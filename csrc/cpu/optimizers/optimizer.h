// SPDX-License-Identifier: Apache-2.0
// Code shared by all optimizer ops on the CPU: checks, scalars by step, blocks of one tensor.
//
// The argument structs are different types with the same field names, hence the templates.
#pragma once

#include <cstddef>
#include <cstdint>

#include "../../common/optimizer.h"
#include "array.h"
#include "convert.h"
#include "parallel.h"
#include "tensors.h"

namespace accel {

// True if there is nothing to do: no tensors, or a flag on the device is set.
template <class Args>
bool skipped(const Args &a) {
  return a.count == 0 || is_skipped(a);
}

// The way a call counts a tensor's steps.
enum class Count { kForward, kBack, kNot };

// An op's scalars and the seed of its random bits: one set if all tensors are at the same step, else
// one for each.
template <class Op>
class ScalarsByStep {
  using Args = typename Op::Args;
  using Scalars = typename Op::Scalars;

 public:
  // Makes them for this step (the last one unless it counts forward), and counts it in `steps` if
  // they are given. Returns false, and has written nothing, if there is no memory.
  [[nodiscard]] bool prepare(const Args &a, Count count) {
    const int64_t distinct = a.steps && !same_step(a) ? a.count : 1;
    if (!sets_.reserve(distinct)) return false;
    const auto numbers = Op::numbers(a);
    const float ahead = count == Count::kForward ? 1.0f : 0.0f;
    for (int64_t i = 0; i < distinct; ++i) {
      const double step = a.steps ? static_cast<double>(*a.steps[i] + ahead) : static_cast<double>(a.step);
      sets_.add({Op::scalars(numbers, at_step(a, Op::maximize(a), step)),
                 accel_random_seed(a.seed, static_cast<int64_t>(step))});
    }
    const float by = count == Count::kBack ? -1.0f : ahead;
    for (int64_t i = 0; a.steps && by != 0.0f && i < a.count; ++i) *a.steps[i] += by;
    return true;
  }

  const Scalars &operator[](int64_t tensor) const { return at(tensor).scalars; }
  uint64_t seed(int64_t tensor) const { return at(tensor).seed; }

 private:
  struct Set {
    Scalars scalars;
    uint64_t seed;
  };

  static bool same_step(const Args &a) {
    constexpr int64_t kAhead = 8;
    for (int64_t i = 1; i < a.count; ++i) {
      if (i + kAhead < a.count) __builtin_prefetch(a.steps[i + kAhead], 1);
      if (*a.steps[i] != *a.steps[0]) return false;
    }
    return true;
  }

  const Set &at(int64_t tensor) const {
    return sets_[sets_.size() == 1 ? 0 : tensor];
  }

  Array<Set> sets_;
};

// Gradient and parameter (or master copy) of one block, as float32.
template <class Args>
class ParamBlock {
 public:
  ParamBlock(const Args &a, const Convert &convert, uint64_t seed, int64_t tensor, int64_t first,
             int64_t n)
      : args_(a), convert_(convert), seed_(seed), tensor_(tensor), first_(first), n_(n),
        grad_(convert, a.grad_dtype, const_cast<void *>(a.grads[tensor]), first, n, buffers_[0]),
        main_(convert, a.masters ? ACCEL_FLOAT32 : a.param_dtype,
              a.masters ? a.masters[tensor] : a.params[tensor], first, n, buffers_[1]) {}

  const float *grad() const { return grad_.values; }
  float *param() { return main_.values; }

  Noise noise(uint64_t stream) const {
    const auto place = static_cast<uint64_t>(tensor_);
    const uint64_t number = args_.tensor_numbers ? args_.tensor_numbers[tensor_] : place;
    return {accel_random_key(seed_, number, stream),
            args_.first_elements ? args_.first_elements[tensor_] : 0};
  }

  void store() const {
    if (!args_.masters) {
      main_.store(convert_, args_.rounding, noise(0));
      return;
    }
    char *const at =
        static_cast<char *>(args_.params[tensor_]) + first_ * element_size(args_.param_dtype);
    narrow_to(convert_, args_.rounding, args_.param_dtype, at, main_.values, first_, n_, noise(0));
  }

 private:
  const Args &args_;
  const Convert &convert_;
  const uint64_t seed_;
  const int64_t tensor_, first_, n_;
  alignas(64) float buffers_[2][kBlock];
  const Block grad_, main_;
};

// True if a tensor can be updated in place from end to end.
template <class Args>
bool all_float32(const Args &a) {
  return a.grad_dtype == ACCEL_FLOAT32 && a.state_dtype == ACCEL_FLOAT32 &&
         a.param_dtype == ACCEL_FLOAT32 && !a.masters;
}

// Calls body(tensor, first, n) for every piece, cut into blocks if a type has to be converted.
template <class Args, class Body>
void for_blocks(const Args &a, const Body &body) {
  const bool whole = all_float32(a);
  for_pieces(a.numels, a.count, a.num_threads, [&](int64_t tensor, int64_t begin, int64_t end) {
    const int64_t stride = whole ? end - begin : kBlock;
    for (int64_t at = begin; at < end; at += stride) body(tensor, at, lesser(stride, end - at));
  });
}

// The entry point of an optimizer whose elements are updated by themselves.
template <class Op>
int32_t step_elements(const typename Op::Args *args, const ElementLevel<Op> &level) {
  const int32_t status = check<Op>(args, false);
  if (status != ACCEL_OK || skipped(*args)) return status;
  const typename Op::Args &a = *args;
  ScalarsByStep<Op> scalars;
  if (!scalars.prepare(a, Count::kForward)) return ACCEL_NO_MEMORY;
  const Convert &c = *level.convert;
  for_blocks(a, [&](int64_t i, int64_t at, int64_t n) {
    static_assert(Op::kStates <= 3, "as many as here");
    alignas(64) float buffers[Op::kStates][kBlock];
    ParamBlock<typename Op::Args> block(a, c, scalars.seed(i), i, at, n);
    // One by one: a compiler keeps no array of them in registers.
    const auto state = [&](int which) __attribute__((always_inline)) {
      if (which >= Op::kStates) return Block();
      return Block(c, a.state_dtype, Op::state(a, which)[i], at, n, buffers[which]);
    };
    const Block first = state(0), second = state(1), third = state(2);
    float *const states[] = {first.values, second.values, third.values};
    level.block(block.param(), block.grad(), states, n, scalars[i]);
    block.store();
    first.store(c, a.rounding, block.noise(1));
    second.store(c, a.rounding, block.noise(2));
    third.store(c, a.rounding, block.noise(3));
  });
  return ACCEL_OK;
}

}  // namespace accel
