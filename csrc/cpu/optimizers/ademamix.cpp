// SPDX-License-Identifier: Apache-2.0
// AdEMAMix on the CPU: see accel/ademamix.h for the arithmetic.

#ifdef ACCEL_TARGET

#include "convert-inl.h"
#include "stream-inl.h"

namespace ACCEL_TARGET {

static void ademamix_block(float *__restrict p, const float *__restrict grad, float *__restrict m,
                           float *__restrict slow, float *__restrict v, int64_t n,
                           const accel::AdemamixScalars &given) {
  const accel::AdemamixScalars s = given;
  const auto element = [=](int64_t i) __attribute__((always_inline)) {
    const float g = grad[i] * s.grad_factor;
    const float new_m = m[i] * s.beta1 + g * s.m_weight;
    const float new_slow = slow[i] * s.beta3 + g * s.slow_weight;
    const float new_v = v[i] * s.beta2 + s.v_weight * g * g;
    m[i] = new_m;
    slow[i] = new_slow;
    v[i] = new_v;
    const float change = new_m * s.step_size + new_slow * s.slow_size;
    p[i] = p[i] * s.keep - change / (__builtin_sqrtf(new_v) + s.eps);
  };
  for_elements(n, element, p, grad, m, slow, v);
}

const accel::AdemamixLevel ademamix_level = {ademamix_block, &convert};

}  // namespace ACCEL_TARGET

#else

#include "accel/ademamix.h"
#include "convert.h"

namespace accel {

struct AdemamixScalars {
  float grad_factor, keep, eps;
  float beta1, m_weight;
  float beta2, v_weight;
  float beta3, slow_weight;
  float step_size, slow_size;  // of the fast moment, and of the slow one
};

struct AdemamixLevel {
  void (*block)(float *p, const float *g, float *m, float *slow, float *v, int64_t n,
                const AdemamixScalars &s);
  const Convert *convert;
};

}  // namespace accel

#define ACCEL_SOURCE "optimizers/ademamix.cpp"
#define ACCEL_TABLE const accel::AdemamixLevel ademamix_level
#include "foreach_target.h"

#ifdef ACCEL_PART_COMMON
#include "optimizer.h"
#include "simd.h"

namespace accel {
namespace {

// How much of a warm-up is done, from above 0 to 1.
double share(double step, double warmup) {
  const double steps = warmup > 1.0 ? warmup : 1.0;
  return step < steps ? step / steps : 1.0;
}

// In how many steps a moment with this decay rate forgets half; 1e-8 lets it be 0.
double half_life(double beta) { return __builtin_log(0.5) / __builtin_log(beta + 1e-8); }

double slow_beta(const accel_ademamix_args &a, double step) {
  const double done = share(step, a.beta3_warmup);
  if (done >= 1.0) return a.beta3;
  const double life = (1.0 - done) * half_life(a.beta1) +
                      done * half_life(a.beta3);
  return __builtin_pow(0.5, 1.0 / life);
}

AdemamixScalars scalars_at(const accel_ademamix_args &a, double step) {
  const double lr = learning_rate(a), beta3 = slow_beta(a, step);
  const double c1 = 1.0 - __builtin_pow(a.beta1, step);
  const double root_c2 = __builtin_sqrt(1.0 - __builtin_pow(a.beta2, step));
  AdemamixScalars s;
  s.grad_factor = grad_factor(a, a.flags & ACCEL_ADEMAMIX_MAXIMIZE);
  s.keep = static_cast<float>(1.0 - lr * a.weight_decay);
  s.eps = scaled_eps(a.eps, root_c2);
  s.beta1 = static_cast<float>(a.beta1);
  s.m_weight = static_cast<float>(1.0 - a.beta1);
  s.beta2 = static_cast<float>(a.beta2);
  s.v_weight = static_cast<float>(1.0 - a.beta2);
  s.beta3 = static_cast<float>(beta3);
  s.slow_weight = static_cast<float>(1.0 - beta3);
  s.step_size = static_cast<float>(lr * root_c2 / c1);
  s.slow_size = static_cast<float>(lr * root_c2 * (a.alpha * share(step, a.alpha_warmup)));
  return s;
}

int32_t ademamix_step(const accel_ademamix_args &a) {
  const AdemamixLevel &level = ACCEL_FOR_LEVEL(ademamix_level);
  const Convert &c = *level.convert;
  ScalarsByStep<AdemamixScalars> scalars;
  if (!scalars.prepare(a, [&](double step) { return scalars_at(a, step); })) return ACCEL_NO_MEMORY;
  for_blocks(a, [&](int64_t i, int64_t at, int64_t n) {
    alignas(64) float buffers[3][kBlock];
    ParamBlock<accel_ademamix_args> block(a, c, scalars.seed(i), i, at, n);
    const Block m(c, a.state_dtype, a.exp_avgs[i], at, n, buffers[0]);
    const Block slow(c, a.state_dtype, a.exp_avg_slows[i], at, n, buffers[1]);
    const Block v(c, a.state_dtype, a.exp_avg_sqs[i], at, n, buffers[2]);
    level.block(block.param(), block.grad(), m.values, slow.values, v.values, n, scalars[i]);
    block.store();
    m.store(c, a.rounding, block.noise(1));
    slow.store(c, a.rounding, block.noise(2));
    v.store(c, a.rounding, block.noise(3));
  });
  return ACCEL_OK;
}

}  // namespace
}  // namespace accel

int32_t accel_ademamix_step(const accel_ademamix_args *args, void *) {
  const int32_t status = accel::check_host_args(args, ACCEL_ADEMAMIX_MAXIMIZE);
  if (status != ACCEL_OK || accel::skipped(*args)) return status;
  if (!args->exp_avgs || !args->exp_avg_slows || !args->exp_avg_sqs) return ACCEL_BAD_ARGUMENT;
  return accel::ademamix_step(*args);
}

#endif
#endif
