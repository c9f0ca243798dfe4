// SPDX-License-Identifier: Apache-2.0
#include "accel/lion8bit.h"

#include "accel/adam8bit.h"
#include "drive.h"

static void run(int32_t param, int32_t grad, int32_t, int32_t rounding, bool masters,
                int32_t threads) {
  Tensors p(bytes_of(param)), g(bytes_of(grad)), master(4), steps(4, true, 1);
  p.fill(1, bytes_of(param));
  g.fill(2, bytes_of(grad));
  std::vector<std::vector<uint8_t>> m;
  std::vector<std::vector<float>> scales;
  std::vector<uint8_t *> m_at;
  std::vector<float *> scales_at;
  for (int64_t numel : kNumels) {
    const size_t size = static_cast<size_t>(numel);
    const size_t blocks = (size + ACCEL_ADAM8BIT_BLOCK - 1) / ACCEL_ADAM8BIT_BLOCK;
    m.emplace_back(size, uint8_t{200});
    scales.emplace_back(blocks, 0.5f);
  }
  for (size_t i = 0; i < m.size(); ++i) {
    m_at.push_back(m[i].data());
    scales_at.push_back(scales[i].data());
  }
  accel_lion8bit_args args = {};
  fill_common(args, p, g, masters ? &master : nullptr, &steps);
  args.first_elements = nullptr;
  args.exp_avgs = m_at.data();
  args.exp_avg_scales = scales_at.data();
  args.beta1 = 0.9;
  args.beta2 = 0.99;
  args.param_dtype = param;
  args.grad_dtype = grad;
  args.rounding = rounding;
  args.num_threads = threads;
  args.flags = masters ? ACCEL_LION8BIT_MAXIMIZE : 0;
  REQUIRE(accel_lion8bit_step(&args, nullptr) == ACCEL_OK);
  REQUIRE(accel_lion8bit_step(&args, nullptr) == ACCEL_OK);
  accel_lion8bit_args part = args;
  part.first_elements = kStarts;
  REQUIRE(accel_lion8bit_step(&part, nullptr) == ACCEL_UNSUPPORTED);
  refuse_bad_arguments(accel_lion8bit_step, args);
}

int main() {
  every_case([](auto... given) { run(given...); });
  from_many_threads([] { run(0, 0, 0, 0, false, 3); });
}
