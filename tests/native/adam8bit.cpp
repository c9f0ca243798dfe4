// SPDX-License-Identifier: Apache-2.0
#include "accel/adam8bit.h"

#include "drive.h"

static void run(int32_t param, int32_t grad, int32_t, int32_t rounding, bool masters,
                int32_t threads) {
  Tensors p(bytes_of(param)), g(bytes_of(grad)), master(4), steps(4, true, 1);
  p.fill(1, bytes_of(param));
  g.fill(2, bytes_of(grad));
  std::vector<std::vector<uint8_t>> m, v;
  std::vector<std::vector<float>> m_scales, v_scales;
  std::vector<uint8_t *> m_at, v_at;
  std::vector<float *> m_scales_at, v_scales_at;
  for (int64_t numel : kNumels) {
    const size_t size = static_cast<size_t>(numel);
    const size_t blocks = (size + ACCEL_ADAM8BIT_BLOCK - 1) / ACCEL_ADAM8BIT_BLOCK;
    m.emplace_back(size, uint8_t{200});
    v.emplace_back(size, uint8_t{200});
    m_scales.emplace_back(blocks, 0.5f);
    v_scales.emplace_back(blocks, 0.25f);
  }
  for (size_t i = 0; i < m.size(); ++i) {
    m_at.push_back(m[i].data());
    v_at.push_back(v[i].data());
    m_scales_at.push_back(m_scales[i].data());
    v_scales_at.push_back(v_scales[i].data());
  }
  accel_adam8bit_args args = {};
  fill_common(args, p, g, masters ? &master : nullptr, &steps);
  args.first_elements = nullptr;
  args.exp_avgs = m_at.data();
  args.exp_avg_sqs = v_at.data();
  args.exp_avg_scales = m_scales_at.data();
  args.exp_avg_sq_scales = v_scales_at.data();
  args.beta1 = 0.9;
  args.beta2 = 0.999;
  args.eps = 1e-8;
  args.param_dtype = param;
  args.grad_dtype = grad;
  args.rounding = rounding;
  args.num_threads = threads;
  args.flags = masters ? ACCEL_ADAM8BIT_ADAMW : ACCEL_ADAM8BIT_BIAS_CORRECTION;
  REQUIRE(accel_adam8bit_step(&args, nullptr) == ACCEL_OK);
  REQUIRE(accel_adam8bit_step(&args, nullptr) == ACCEL_OK);
  accel_adam8bit_args part = args;
  part.first_elements = kStarts;
  REQUIRE(accel_adam8bit_step(&part, nullptr) == ACCEL_UNSUPPORTED);
  refuse_bad_arguments(accel_adam8bit_step, args);
}

int main() {
  every_case([](auto... given) { run(given...); });
  from_many_threads([] { run(0, 0, 0, 0, false, 3); });
}
