// SPDX-License-Identifier: Apache-2.0
// Code shared by all optimizer ops on the CPU: checks, scalars by step, blocks of one tensor.
//
// The argument structs are different types with the same field names, hence the templates.
#pragma once

#include <cstddef>
#include <cstdint>

#include "../../common/optimizer_args.h"
#include "array.h"
#include "convert.h"
#include "parallel.h"
#include "tensors.h"

namespace accel {

template <class Args>
int32_t check_host_args(const Args *a, uint32_t known_flags) {
  const int32_t status = check_args(a, known_flags);
  return status == ACCEL_OK && a->num_threads < 1 ? ACCEL_BAD_ARGUMENT : status;
}

// True if there is nothing to do: no tensors, or a flag on the device is set.
template <class Args>
bool skipped(const Args &a) {
  return a.count == 0 || (a.noop_flag && *a.noop_flag != 0) || (a.found_inf && *a.found_inf != 0.0f);
}

template <class Args>
double learning_rate(const Args &a) {
  return a.lr_tensor ? static_cast<double>(*a.lr_tensor) : a.lr;
}

// The factor of gradients: 1 / grad_scale, negative to maximize.
template <class Args>
float grad_factor(const Args &a, bool maximize) {
  const double scale = a.grad_scale ? 1.0 / static_cast<double>(*a.grad_scale) : 1.0;
  return static_cast<float>(maximize ? -scale : scale);
}

// `eps` times the root of a bias correction, not 0 if float32 has an eps: 0 / 0 then stays 0.
inline float scaled_eps(double eps, double root) {
  const float scaled = static_cast<float>(eps * root);
  return scaled == 0.0f && static_cast<float>(eps) != 0.0f ? 0x1p-149f : scaled;
}

// The way a call counts a tensor's steps.
enum class Count { kForward, kBack, kNot };

// An op's scalars and the seed of its random bits: one set if all tensors are at the same step, else
// one for each.
template <class Scalars>
class ScalarsByStep {
 public:
  // Calls make(step) with the number of this step (of the last one unless it counts forward), and
  // counts it in `steps` if they are given. Returns false, and has written nothing, if there is no
  // memory.
  template <class Args, class Make>
  [[nodiscard]] bool prepare(const Args &a, const Make &make, Count count = Count::kForward) {
    const int64_t distinct = a.steps && !same_step(a) ? a.count : 1;
    if (!sets_.reserve(distinct)) return false;
    const float ahead = count == Count::kForward ? 1.0f : 0.0f;
    for (int64_t i = 0; i < distinct; ++i) {
      const double step = a.steps ? static_cast<double>(*a.steps[i] + ahead) : static_cast<double>(a.step);
      sets_.add({make(step), accel_random_seed(a.seed, static_cast<int64_t>(step))});
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

  template <class Args>
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

}  // namespace accel
