// SPDX-License-Identifier: Apache-2.0
// Adagrad on the CPU: see accel/adagrad.h for the arithmetic.

#ifdef ACCEL_TARGET

#include "convert-inl.h"
#include "stream-inl.h"

namespace ACCEL_TARGET {

// `L2` is a constant in every call, so each becomes a loop of its own without branches.
static inline __attribute__((always_inline)) void adagrad_loop(float *__restrict p,
                                                               const float *__restrict grad,
                                                               float *__restrict sum, int64_t n,
                                                               const accel::AdagradScalars &given,
                                                               bool L2) {
  const accel::AdagradScalars s = given;
  const auto element = [=](int64_t i) __attribute__((always_inline)) {
    float g = grad[i] * s.grad_factor;
    if (L2) g = g + s.l2 * p[i];
    const float total = sum[i] + g * g;
    sum[i] = total;
    p[i] = p[i] - s.step_size * g / (__builtin_sqrtf(total) + s.eps);
  };
  for_elements(n, element, p, grad, sum);
}

static void adagrad_block(float *p, const float *g, float *sum, int64_t n,
                          const accel::AdagradScalars &s) {
  if (s.l2 != 0.0f) adagrad_loop(p, g, sum, n, s, true);
  else adagrad_loop(p, g, sum, n, s, false);
}

const accel::AdagradLevel adagrad_level = {adagrad_block, &convert};

}  // namespace ACCEL_TARGET

#else

#include "accel/adagrad.h"
#include "convert.h"

namespace accel {

struct AdagradScalars {
  float grad_factor, l2, eps, step_size;
};

struct AdagradLevel {
  void (*block)(float *p, const float *g, float *sum, int64_t n, const AdagradScalars &s);
  const Convert *convert;
};

}  // namespace accel

#define ACCEL_SOURCE "optimizers/adagrad.cpp"
#define ACCEL_TABLE const accel::AdagradLevel adagrad_level
#include "foreach_target.h"

#ifdef ACCEL_PART_COMMON
#include "optimizer.h"
#include "simd.h"

namespace accel {
namespace {

int32_t adagrad_step(const accel_adagrad_args &a) {
  const AdagradLevel &level = ACCEL_FOR_LEVEL(adagrad_level);
  const Convert &c = *level.convert;
  ScalarsByStep<AdagradScalars> scalars;
  const auto make = [&](double step) {
    const double rate = learning_rate(a) / (1.0 + (step - 1.0) * a.lr_decay);
    return AdagradScalars{grad_factor(a, a.flags & ACCEL_ADAGRAD_MAXIMIZE),
                          static_cast<float>(a.weight_decay), static_cast<float>(a.eps),
                          static_cast<float>(rate)};
  };
  if (!scalars.prepare(a, make)) return ACCEL_NO_MEMORY;
  for_blocks(a, [&](int64_t i, int64_t at, int64_t n) {
    alignas(64) float buffer[kBlock];
    ParamBlock<accel_adagrad_args> block(a, c, scalars.seed(i), i, at, n);
    const Block sum(c, a.state_dtype, a.sums[i], at, n, buffer);
    level.block(block.param(), block.grad(), sum.values, n, scalars[i]);
    block.store();
    sum.store(c, a.rounding, block.noise(1));
  });
  return ACCEL_OK;
}

}  // namespace
}  // namespace accel

int32_t accel_adagrad_step(const accel_adagrad_args *args, void *) {
  const int32_t status = accel::check_host_args(args, ACCEL_ADAGRAD_MAXIMIZE);
  if (status != ACCEL_OK || accel::skipped(*args)) return status;
  if (!args->sums) return ACCEL_BAD_ARGUMENT;
  return accel::adagrad_step(*args);
}

#endif
#endif
