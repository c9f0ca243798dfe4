// SPDX-License-Identifier: Apache-2.0
// Adam, AdamW and AMSGrad on the CPU: see accel/adam.h for the arithmetic.
//
// The first half is one SIMD level's loops, included once per level by foreach_target.h; the second
// half is compiled once.

#ifdef ACCEL_TARGET

#include "convert-inl.h"
#include "stream-inl.h"

namespace ACCEL_TARGET {

// One element; `MAY_DECAY` (there may be an L2 decay) and `AMSGRAD` are constants in every
// call, so each becomes a loop of its own without branches.
static inline __attribute__((always_inline)) void adam_element(float *p, float grad, float *m,
                                                               float *v, float *max_v,
                                                               const accel::AdamScalars &s,
                                                               bool MAY_DECAY, bool AMSGRAD) {
  float g = grad * s.grad_factor;
  if (MAY_DECAY) g = choose(s.has_l2, g + s.l2 * *p, g);
  const float decayed = *p * s.keep;
  // torch's lerp: measured from the nearer end, so that a weight of 1 gives g exactly.
  const float base = choose(s.from_grad, g, *m);
  const float new_m = base + s.m_weight * (g - *m);
  const float new_v = s.beta2 * *v + s.v_weight * g * g;
  float second = new_v;
  if (AMSGRAD) {
    second = *max_v > new_v || *max_v != *max_v ? *max_v : new_v;
    *max_v = second;
  }
  const float denominator = __builtin_sqrtf(second) + s.eps;
  *m = new_m;
  *v = new_v;
  *p = decayed - s.step_size * new_m / denominator;
}

static inline __attribute__((always_inline)) void adam_loop(
    float *__restrict p, const float *__restrict grad, float *__restrict m, float *__restrict v,
    float *__restrict max_v, int64_t n, const accel::AdamScalars &given, bool AMSGRAD) {
  const accel::AdamScalars s = given;
  for (int64_t i = 0; i < n; ++i)
    adam_element(p + i, grad[i], m + i, v + i, max_v + i, s, true, AMSGRAD);
}

#ifndef ACCEL_LOWEST
// The whole portions of a step without L2 and AMSGrad; returns the number of their elements.
static int64_t adam_portions(const accel::AdamArrays &now, const accel::AdamArrays *next, int64_t n,
                             const accel::AdamScalars &given) {
  const accel::AdamScalars s = given;
  float *__restrict p = now.p, *__restrict m = now.m, *__restrict v = now.v;
  const float *__restrict grad = now.g;
  const int64_t whole = n / kPortion * kPortion;
  for (int64_t i = 0; i < whole; i += kPortion) {
    const int64_t at = i + kAhead;
    if (at < whole) ask_for(at, p, grad, m, v);
    else if (next) ask_for(beginning(i, whole), next->p, next->g, next->m, next->v);
    ACCEL_INDEPENDENT
#pragma GCC unroll 8
    for (int64_t j = i; j < i + kPortion; ++j)
      adam_element(p + j, grad[j], m + j, v + j, nullptr, s, false, false);
  }
  return whole;
}
#endif

// Not inlined, since every caller would get a copy of its loops.
static __attribute__((noinline)) void adam_block(const accel::AdamArrays &now,
                                                 [[maybe_unused]] const accel::AdamArrays *next,
                                                 int64_t n, const accel::AdamScalars &s) {
  if (now.max_v) return adam_loop(now.p, now.g, now.m, now.v, now.max_v, n, s, true);
  int64_t done = 0;
#ifndef ACCEL_LOWEST
  if (!s.has_l2) done = adam_portions(now, next, n, s);
#endif
  adam_loop(now.p + done, now.g + done, now.m + done, now.v + done, nullptr, n - done, s, false);
}

#ifdef ACCEL_LOWEST
static constexpr accel::AdamMixed adam_mixed = nullptr;
#else
// The usual mixed precision in one pass, without blocks in the cache: bfloat16 gradient and
// parameter, float32 master copy and states, no L2 decay.
static void adam_mixed(const accel::AdamHalves &now, const accel::AdamHalves *next, int64_t n,
                       const accel::AdamScalars &given) {
  const accel::AdamScalars s = given;
  uint16_t *__restrict param = now.param;
  const uint16_t *__restrict grad = now.g;
  float *__restrict p = now.p, *__restrict m = now.m, *__restrict v = now.v;
  const int64_t whole = n / kPortion * kPortion;
  for (int64_t i = 0; i < whole; i += kPortion) {
    const int64_t at = i + kAhead;
    if (at < whole) ask_for(at, param, grad, p, m, v);
    else if (next) ask_for(beginning(i, whole), next->param, next->g, next->p, next->m, next->v);
    ACCEL_INDEPENDENT
#pragma GCC unroll 8
    for (int64_t j = i; j < i + kPortion; ++j) {
      adam_element(p + j, widen_bfloat16(grad[j]), m + j, v + j, nullptr, s, false, false);
      param[j] = narrow_bfloat16(p[j]);
    }
  }
  float rest[kPortion] = {};
  const int64_t left = n - whole;
  load_bfloat16(rest, grad + whole, left);
  adam_block({p + whole, rest, m + whole, v + whole, nullptr}, nullptr, left, s);
  store_bfloat16(param + whole, p + whole, left, 0, 0);
}
#endif

const accel::AdamLevel adam_level = {adam_block, adam_mixed, &convert};

}  // namespace ACCEL_TARGET

#else

#include "accel/adam.h"
#include "convert.h"

namespace accel {

// A loop's scalars at one step, prepared in double.
struct AdamScalars {
  float grad_factor;   // 1 / grad_scale, negative to maximize
  float l2;            // weight decay of the L2 mode, else 0
  float keep;          // 1 - lr * weight_decay of the decoupled mode, else 1
  float m_weight, v_weight, beta2;
  float eps;           // eps * sqrt(c2)
  float step_size;     // lr * sqrt(c2) / c1
  uint32_t has_l2;     // all ones if l2 is not 0, else 0
  uint32_t from_grad;  // all ones if beta1 <= 0.5, else 0
};

// The memory that one tensor's step reads and writes.
struct AdamArrays {
  float *p;
  const float *g;
  float *m, *v;
  float *max_v;  // null without AMSGrad
};

// The same in mixed precision, with p the master copy.
struct AdamHalves {
  uint16_t *param;
  const uint16_t *g;
  float *p, *m, *v;
};

// `next` is stepped after these `n` elements and may be null.
using AdamBlock = void (*)(const AdamArrays &now, const AdamArrays *next, int64_t n,
                           const AdamScalars &s);
using AdamMixed = void (*)(const AdamHalves &now, const AdamHalves *next, int64_t n,
                           const AdamScalars &s);

struct AdamLevel {
  AdamBlock block;
  AdamMixed mixed;  // null if blocks are used
  const Convert *convert;
};

}  // namespace accel

#define ACCEL_SOURCE "optimizers/adam.cpp"
#define ACCEL_TABLE const accel::AdamLevel adam_level
#include "foreach_target.h"

#ifdef ACCEL_PART_COMMON
#include "optimizer.h"
#include "simd.h"

namespace accel {
namespace {

// Undoes a step in the reverse order; plain and slow, as it is rarely called.
__attribute__((cold)) void rollback_block(const AdamArrays &now, const AdamArrays *, int64_t n,
                                          const AdamScalars &s) {
  float *const p = now.p, *const m = now.m, *const v = now.v;
  const float *const grad = now.g;
  const float beta1 = s.from_grad ? -s.m_weight : 1.0f - s.m_weight;
  for (int64_t i = 0; i < n; ++i) {
    const float denominator = __builtin_sqrtf(v[i]) + s.eps;
    const float before = (p[i] + s.step_size * m[i] / denominator) / s.keep;
    float g = grad[i] * s.grad_factor;
    if (s.l2 != 0.0f) g = g + s.l2 * before;
    m[i] = (m[i] - (1.0f - beta1) * g) / beta1;
    const float old_v = (v[i] - s.v_weight * g * g) / s.beta2;
    v[i] = old_v < 0.0f ? 0.0f : old_v;
    p[i] = before;
  }
}

AdamScalars scalars_at(const accel_adam_args &a, double step) {
  const double lr = learning_rate(a);
  const bool correct = a.flags & ACCEL_ADAM_BIAS_CORRECTION;
  const bool decoupled = a.flags & ACCEL_ADAM_ADAMW;
  const double c1 = correct ? 1.0 - __builtin_pow(a.beta1, step) : 1.0;
  const double root_c2 = correct ? __builtin_sqrt(1.0 - __builtin_pow(a.beta2, step)) : 1.0;
  AdamScalars s;
  s.grad_factor = grad_factor(a, a.flags & ACCEL_ADAM_MAXIMIZE);
  s.l2 = decoupled ? 0.0f : static_cast<float>(a.weight_decay);
  s.has_l2 = s.l2 != 0.0f ? ~0u : 0u;
  s.keep = decoupled ? static_cast<float>(1.0 - lr * a.weight_decay) : 1.0f;
  s.from_grad = 1.0 - a.beta1 >= 0.5 ? ~0u : 0u;
  s.m_weight = static_cast<float>(s.from_grad ? -a.beta1 : 1.0 - a.beta1);
  s.v_weight = static_cast<float>(1.0 - a.beta2);
  s.beta2 = static_cast<float>(a.beta2);
  s.eps = scaled_eps(a.eps, root_c2);
  s.step_size = static_cast<float>(lr * root_c2 / c1);
  return s;
}

int32_t check(const accel_adam_args *a) {
  const int32_t status = check_host_args(a, 2 * ACCEL_ADAM_ROLLBACK - 1);
  if (status != ACCEL_OK || a->count == 0) return status;
  const bool amsgrad = a->flags & ACCEL_ADAM_AMSGRAD;
  if (!a->exp_avgs || !a->exp_avg_sqs || amsgrad != (a->max_exp_avg_sqs != nullptr))
    return ACCEL_BAD_ARGUMENT;
  if ((a->flags & ACCEL_ADAM_ROLLBACK) &&
      (amsgrad || a->rounding != ACCEL_ROUND_NEAREST || a->beta1 == 0.0 || a->beta2 == 0.0))
    return ACCEL_UNSUPPORTED;
  return ACCEL_OK;
}

// The tensor from its element `at` on, in float32.
AdamArrays arrays_of(const accel_adam_args &a, int64_t tensor, int64_t at) {
  const auto from = [at](void *array) { return static_cast<float *>(array) + at; };
  return {from(a.params[tensor]), static_cast<const float *>(a.grads[tensor]) + at,
          from(a.exp_avgs[tensor]), from(a.exp_avg_sqs[tensor]), nullptr};
}

AdamHalves halves_of(const accel_adam_args &a, int64_t tensor, int64_t at) {
  return {static_cast<uint16_t *>(a.params[tensor]) + at,
          static_cast<const uint16_t *>(a.grads[tensor]) + at, a.masters[tensor] + at,
          static_cast<float *>(a.exp_avgs[tensor]) + at,
          static_cast<float *>(a.exp_avg_sqs[tensor]) + at};
}

bool is_plain(const accel_adam_args &a) {
  return all_float32(a) && !(a.flags & (ACCEL_ADAM_AMSGRAD | ACCEL_ADAM_ROLLBACK));
}

bool is_mixed(const accel_adam_args &a) {
  const bool l2 = !(a.flags & ACCEL_ADAM_ADAMW) && a.weight_decay != 0.0;
  return a.masters && a.param_dtype == ACCEL_BFLOAT16 && a.grad_dtype == ACCEL_BFLOAT16 &&
         a.state_dtype == ACCEL_FLOAT32 && a.rounding == ACCEL_ROUND_NEAREST && !l2 &&
         !(a.flags & (ACCEL_ADAM_AMSGRAD | ACCEL_ADAM_ROLLBACK));
}

// Steps tensors in place, and prefetches the next one during each.
template <class Update, class Arrays>
void step_pieces(const accel_adam_args &a, Update update, const Arrays &arrays,
                 const ScalarsByStep<AdamScalars> &scalars) {
  for_pieces(a.numels, a.count, a.num_threads, [&](int64_t i, int64_t begin, int64_t end) {
    const bool last = i + 1 == a.count;
    const auto next = arrays(a, last ? i : i + 1, 0);
    update(arrays(a, i, begin), last ? nullptr : &next, end - begin, scalars[i]);
  });
}

int32_t adam_step(const accel_adam_args &a) {
  const AdamLevel &level = ACCEL_FOR_LEVEL(adam_level);
  const Convert &c = *level.convert;
  const bool back = a.flags & ACCEL_ADAM_ROLLBACK;
  const AdamBlock update = back ? rollback_block : level.block;
  ScalarsByStep<AdamScalars> scalars;
  const auto make = [&](double step) { return scalars_at(a, step); };
  if (!scalars.prepare(a, make, back ? Count::kBack : Count::kForward)) return ACCEL_NO_MEMORY;
  if (is_plain(a)) {
    step_pieces(a, level.block, arrays_of, scalars);
  } else if (level.mixed && is_mixed(a)) {
    step_pieces(a, level.mixed, halves_of, scalars);
  } else {
    for_blocks(a, [&](int64_t i, int64_t at, int64_t n) {
      alignas(64) float buffers[3][kBlock];
      ParamBlock<accel_adam_args> block(a, c, scalars.seed(i), i, at, n);
      const Block m(c, a.state_dtype, a.exp_avgs[i], at, n, buffers[0]);
      const Block v(c, a.state_dtype, a.exp_avg_sqs[i], at, n, buffers[1]);
      void *const max_tensor = a.max_exp_avg_sqs ? a.max_exp_avg_sqs[i] : nullptr;
      const Block max_v(c, a.state_dtype, max_tensor, at, n, buffers[2]);
      update({block.param(), block.grad(), m.values, v.values, max_v.values}, nullptr, n, scalars[i]);
      block.store();
      m.store(c, a.rounding, block.noise(1));
      v.store(c, a.rounding, block.noise(2));
      max_v.store(c, a.rounding, block.noise(3));
    });
  }
  return ACCEL_OK;
}

}  // namespace
}  // namespace accel

int32_t accel_adam_step(const accel_adam_args *args, void *) {
  const int32_t status = accel::check(args);
  return status != ACCEL_OK || accel::skipped(*args) ? status : accel::adam_step(*args);
}

#endif
#endif
