// SPDX-License-Identifier: Apache-2.0
#include "accel/lamb.h"

#include "drive.h"

static void run(int32_t param, int32_t grad, int32_t state, int32_t rounding, bool masters,
                int32_t threads, uint32_t flags) {
  Tensors p(bytes_of(param)), g(bytes_of(grad)), m(bytes_of(state)), v(bytes_of(state)), master(4),
      steps(4, true, 1), coeffs(4, true, 1);
  p.fill(1, bytes_of(param));
  g.fill(2, bytes_of(grad));
  m.fill(3, bytes_of(state));
  v.fill(4, bytes_of(state), true);
  std::vector<double> norms(2 * kCount);
  std::vector<double *> norms_of;
  for (int64_t i = 0; i < kCount; ++i) norms_of.push_back(&norms[static_cast<size_t>(2 * i)]);
  accel_lamb_args args = {};
  fill_common(args, p, g, masters ? &master : nullptr, &steps);
  args.exp_avgs = m.data();
  args.exp_avg_sqs = v.data();
  args.norms = norms_of.data();
  args.coeffs = reinterpret_cast<float *const *>(coeffs.data());
  args.beta1 = 0.9;
  args.beta2 = 0.99;
  args.eps = 1e-6;
  args.max_coeff = 10.0;
  args.min_coeff = 0.01;
  args.param_dtype = param;
  args.grad_dtype = grad;
  args.state_dtype = state;
  args.rounding = rounding;
  args.num_threads = threads;
  args.flags = flags | ACCEL_LAMB_MOMENTS;
  REQUIRE(accel_lamb_step(&args, nullptr) == ACCEL_OK);
  args.flags = flags | ACCEL_LAMB_APPLY;
  REQUIRE(accel_lamb_step(&args, nullptr) == ACCEL_OK);
  REQUIRE(*reinterpret_cast<float *>(steps[0]) == 1.0f);
  args.flags = flags | ACCEL_LAMB_MOMENTS | ACCEL_LAMB_APPLY;
  REQUIRE(accel_lamb_step(&args, nullptr) == ACCEL_OK);
  refuse_bad_arguments(accel_lamb_step, args);
  args.flags = flags;
  REQUIRE(accel_lamb_step(&args, nullptr) == ACCEL_BAD_ARGUMENT);
}

int main() {
  every_case([](auto... given) {
    run(given..., ACCEL_LAMB_BIAS_CORRECTION);
    run(given..., ACCEL_LAMB_EPS_INSIDE);
  });
  from_many_threads([] { run(0, 0, 0, 0, false, 3, ACCEL_LAMB_BIAS_CORRECTION); });
}
