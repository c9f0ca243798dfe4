// SPDX-License-Identifier: Apache-2.0
#include "accel/lion.h"

#include "drive.h"

static void run(int32_t param, int32_t grad, int32_t state, int32_t rounding, bool masters,
                int32_t threads) {
  Tensors p(bytes_of(param)), g(bytes_of(grad)), m(bytes_of(state)), master(4), steps(4, true, 1);
  p.fill(1, bytes_of(param));
  g.fill(2, bytes_of(grad));
  m.fill(3, bytes_of(state));
  accel_lion_args args = {};
  fill_common(args, p, g, masters ? &master : nullptr, &steps);
  args.exp_avgs = m.data();
  args.beta1 = 0.9;
  args.beta2 = 0.99;
  args.param_dtype = param;
  args.grad_dtype = grad;
  args.state_dtype = state;
  args.rounding = rounding;
  args.num_threads = threads;
  REQUIRE(accel_lion_step(&args, nullptr) == ACCEL_OK);
  REQUIRE(*reinterpret_cast<float *>(steps[0]) == 1.0f);
  refuse_bad_arguments(accel_lion_step, args);
}

int main() {
  every_case([](auto... given) { run(given...); });
  from_many_threads([] { run(0, 0, 0, 0, false, 3); });
}
