// SPDX-License-Identifier: Apache-2.0
#include "accel/adam.h"

#include "drive.h"

static void run(int32_t param, int32_t grad, int32_t state, int32_t rounding, bool masters,
                int32_t threads, uint32_t flags) {
  Tensors p(bytes_of(param)), g(bytes_of(grad)), m(bytes_of(state)), v(bytes_of(state)),
      max_v(bytes_of(state)), master(4), steps(4, true, 1);
  p.fill(1, bytes_of(param));
  g.fill(2, bytes_of(grad));
  m.fill(3, bytes_of(state));
  v.fill(4, bytes_of(state), true);
  accel_adam_args args = {};
  fill_common(args, p, g, masters ? &master : nullptr, flags & ACCEL_ADAM_MAXIMIZE ? &steps : nullptr);
  args.exp_avgs = m.data();
  args.exp_avg_sqs = v.data();
  args.max_exp_avg_sqs = flags & ACCEL_ADAM_AMSGRAD ? max_v.data() : nullptr;
  args.beta1 = 0.9;
  args.beta2 = 0.999;
  args.eps = 1e-8;
  args.param_dtype = param;
  args.grad_dtype = grad;
  args.state_dtype = state;
  args.rounding = flags & ACCEL_ADAM_ROLLBACK ? ACCEL_ROUND_NEAREST : rounding;
  args.num_threads = threads;
  args.flags = flags;
  REQUIRE(accel_adam_step(&args, nullptr) == ACCEL_OK);
  const float inf_found = 1.0f;
  args.found_inf = &inf_found;
  REQUIRE(accel_adam_step(&args, nullptr) == ACCEL_OK);
  if (flags == ACCEL_ADAM_ADAMW) refuse_bad_arguments(accel_adam_step, args);
}

int main() {
  every_case([](auto... given) {
    for (uint32_t flags : {1u, 2u, 15u, 18u}) run(given..., flags);
  });
  from_many_threads([] { run(0, 0, 0, 0, false, 3, 3); });
}
