// SPDX-License-Identifier: Apache-2.0
// Any optimizer that has no driver of its own: OP is its name. All structs have one frame, so what
// is between two of its fields are the optimizer's own.
#define ACCEL_TEXT_OF(x) #x
#define ACCEL_TEXT(x) ACCEL_TEXT_OF(x)
#define ACCEL_JOIN_OF(a, b, c) a##b##c
#define ACCEL_JOIN(a, b, c) ACCEL_JOIN_OF(a, b, c)
#include ACCEL_TEXT(accel/OP.h)

#include <cstddef>
#include <cstring>

#include "drive.h"

using Args = ACCEL_JOIN(accel_, OP, _args);
static constexpr auto kStep = ACCEL_JOIN(accel_, OP, _step);

constexpr size_t kFirstState = offsetof(Args, grads) + sizeof(void *);
constexpr size_t kFirstNumber = offsetof(Args, lr) + sizeof(double);
constexpr size_t kStates = (offsetof(Args, masters) - kFirstState) / sizeof(void *);
static_assert(kStates > 0 && offsetof(Args, grad_scale) == offsetof(Args, steps) + sizeof(void *),
              "tensors of other shapes need a driver of their own");

template <class Value>
static void set(Args &args, size_t offset, Value value) {
  std::memcpy(reinterpret_cast<char *>(&args) + offset, &value, sizeof value);
}

static void run(int32_t param, int32_t grad, int32_t state, int32_t rounding, bool masters,
                int32_t threads) {
  Tensors p(bytes_of(param)), g(bytes_of(grad)), master(4), steps(4, true, 1);
  p.fill(1, bytes_of(param));
  g.fill(2, bytes_of(grad));
  Args args = {};
  fill_common(args, p, g, masters ? &master : nullptr, &steps);
  std::vector<Tensors> states;
  for (size_t which = 0; which < kStates; ++which) states.emplace_back(bytes_of(state));
  for (size_t which = 0; which < kStates; ++which) {
    // No state is negative: which ones are squares is not told.
    states[which].fill(static_cast<uint32_t>(3 + which), bytes_of(state), true);
    set(args, kFirstState + which * sizeof(void *), states[which].data());
  }
  // A value that every kind of number takes: a decay rate, a weight, what is added to a root.
  for (size_t at = kFirstNumber; at < offsetof(Args, step); at += sizeof(double)) set(args, at, 0.9);
  args.weight_decay = masters ? 0.0 : 0.1;
  args.param_dtype = param;
  args.grad_dtype = grad;
  args.state_dtype = state;
  args.rounding = rounding;
  args.num_threads = threads;
  REQUIRE(kStep(&args, nullptr) == ACCEL_OK);
  REQUIRE(*reinterpret_cast<float *>(steps[0]) == 1.0f);
  refuse_bad_arguments(kStep, args);
  for (size_t which = 0; which < kStates; ++which) {
    Args without = args;
    set(without, kFirstState + which * sizeof(void *), nullptr);
    REQUIRE(kStep(&without, nullptr) == ACCEL_BAD_ARGUMENT);
  }
}

int main() {
  every_case([](auto... given) { run(given...); });
  from_many_threads([] { run(0, 0, 0, 0, false, 3); });
}
