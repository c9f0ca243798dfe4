// SPDX-License-Identifier: Apache-2.0
#include "accel/adagrad.h"

#include "drive.h"

static void run(int32_t param, int32_t grad, int32_t state, int32_t rounding, bool masters,
                int32_t threads) {
  Tensors p(bytes_of(param)), g(bytes_of(grad)), sum(bytes_of(state)), master(4), steps(4, true, 1);
  p.fill(1, bytes_of(param));
  g.fill(2, bytes_of(grad));
  sum.fill(3, bytes_of(state), true);
  accel_adagrad_args args = {};
  fill_common(args, p, g, masters ? &master : nullptr, &steps);
  args.sums = sum.data();
  args.lr_decay = 0.1;
  args.eps = 1e-10;
  args.weight_decay = masters ? 0.0 : 0.1;
  args.param_dtype = param;
  args.grad_dtype = grad;
  args.state_dtype = state;
  args.rounding = rounding;
  args.num_threads = threads;
  REQUIRE(accel_adagrad_step(&args, nullptr) == ACCEL_OK);
  refuse_bad_arguments(accel_adagrad_step, args);
}

int main() {
  every_case([](auto... given) { run(given...); });
  from_many_threads([] { run(0, 0, 0, 0, false, 3); });
}
