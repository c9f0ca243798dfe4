// SPDX-License-Identifier: Apache-2.0
// Lion on the CPU: see accel/lion.h for the arithmetic.

#ifdef ACCEL_TARGET

#include "convert-inl.h"
#include "stream-inl.h"

namespace ACCEL_TARGET {

static void lion_block(float *__restrict p, const float *__restrict grad, float *__restrict m,
                       int64_t n, const accel::LionScalars &given) {
  const accel::LionScalars s = given;
  const auto element = [=](int64_t i) __attribute__((always_inline)) {
    const float g = grad[i] * s.grad_factor;
    const float c = m[i] * s.beta1 + g * s.g_weight;
    const float signed_one = c > 0.0f ? 1.0f : (c < 0.0f ? -1.0f : c);
    m[i] = m[i] * s.beta2 + g * s.m_weight;
    p[i] = p[i] * s.keep - signed_one * s.lr;
  };
  for_elements(n, element, p, grad, m);
}

const accel::LionLevel lion_level = {lion_block, &convert};

}  // namespace ACCEL_TARGET

#else

#include "accel/lion.h"
#include "convert.h"

namespace accel {

struct LionScalars {
  float grad_factor, keep, lr;
  float beta1, g_weight;
  float beta2, m_weight;
};

struct LionLevel {
  void (*block)(float *p, const float *g, float *m, int64_t n, const LionScalars &s);
  const Convert *convert;
};

}  // namespace accel

#define ACCEL_SOURCE "optimizers/lion.cpp"
#define ACCEL_TABLE const accel::LionLevel lion_level
#include "foreach_target.h"

#ifdef ACCEL_PART_COMMON
#include "optimizer.h"
#include "simd.h"

namespace accel {
namespace {

int32_t lion_step(const accel_lion_args &a) {
  const LionLevel &level = ACCEL_FOR_LEVEL(lion_level);
  const Convert &c = *level.convert;
  const double lr = learning_rate(a);
  const LionScalars s = {grad_factor(a, a.flags & ACCEL_LION_MAXIMIZE),
                         static_cast<float>(1.0 - lr * a.weight_decay),
                         static_cast<float>(lr),
                         static_cast<float>(a.beta1),
                         static_cast<float>(1.0 - a.beta1),
                         static_cast<float>(a.beta2),
                         static_cast<float>(1.0 - a.beta2)};
  ScalarsByStep<LionScalars> scalars;
  if (!scalars.prepare(a, [&](double) { return s; })) return ACCEL_NO_MEMORY;
  for_blocks(a, [&](int64_t i, int64_t at, int64_t n) {
    alignas(64) float buffer[kBlock];
    ParamBlock<accel_lion_args> block(a, c, scalars.seed(i), i, at, n);
    const Block m(c, a.state_dtype, a.exp_avgs[i], at, n, buffer);
    level.block(block.param(), block.grad(), m.values, n, s);
    block.store();
    m.store(c, a.rounding, block.noise(1));
  });
  return ACCEL_OK;
}

}  // namespace
}  // namespace accel

int32_t accel_lion_step(const accel_lion_args *args, void *) {
  const int32_t status = accel::check_host_args(args, ACCEL_LION_MAXIMIZE);
  if (status != ACCEL_OK || accel::skipped(*args)) return status;
  if (!args->exp_avgs) return ACCEL_BAD_ARGUMENT;
  return accel::lion_step(*args);
}

#endif
#endif
