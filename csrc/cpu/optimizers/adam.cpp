// SPDX-License-Identifier: Apache-2.0
// Adam, AdamW and AMSGrad on the CPU: with the loops that spare it memory and waiting.
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
                                                               const AdamScalars &s,
                                                               bool MAY_DECAY, bool AMSGRAD) {
  const float g = MAY_DECAY ? adam_gradient(grad, *p, s) : grad * s.grad_factor;
  const float new_m = adam_first(g, *m, s), new_v = adam_second(g, *v, s);
  float second = new_v;
  if (AMSGRAD) *max_v = second = amsgrad(*max_v, new_v);
  *m = new_m;
  *v = new_v;
  *p = adam_param(*p, new_m, root(second), s);
}

static inline __attribute__((always_inline)) void adam_loop(
    float *__restrict p, const float *__restrict grad, float *__restrict m, float *__restrict v,
    float *__restrict max_v, int64_t n, const AdamScalars &given, bool AMSGRAD) {
  const AdamScalars s = given;
  for (int64_t i = 0; i < n; ++i)
    adam_element(p + i, grad[i], m + i, v + i, max_v + i, s, true, AMSGRAD);
}

#ifndef ACCEL_LOWEST
// The whole portions of a step without L2 and AMSGrad; returns the number of their elements.
static int64_t adam_portions(const AdamArrays &now, const AdamArrays *next, int64_t n,
                             const AdamScalars &given) {
  const AdamScalars s = given;
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
static __attribute__((noinline)) void adam_block(const AdamArrays &now,
                                                 [[maybe_unused]] const AdamArrays *next,
                                                 int64_t n, const AdamScalars &s) {
  if (now.max_v) return adam_loop(now.p, now.g, now.m, now.v, now.max_v, n, s, true);
  int64_t done = 0;
#ifndef ACCEL_LOWEST
  if (!s.has_l2) done = adam_portions(now, next, n, s);
#endif
  adam_loop(now.p + done, now.g + done, now.m + done, now.v + done, nullptr, n - done, s, false);
}

#ifdef ACCEL_LOWEST
static constexpr AdamMixed adam_mixed = nullptr;
#else
// The usual mixed precision in one pass, without blocks in the cache: bfloat16 gradient and
// parameter, float32 master copy and states, no L2 decay.
static void adam_mixed(const AdamHalves &now, const AdamHalves *next, int64_t n,
                       const AdamScalars &given) {
  const AdamScalars s = given;
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
      param[j] = static_cast<uint16_t>(narrow_bfloat16(p[j]));
    }
  }
  float rest[kPortion] = {};
  const int64_t left = n - whole;
  load_bfloat16(rest, grad + whole, left);
  adam_block({p + whole, rest, m + whole, v + whole, nullptr}, nullptr, left, s);
  store_bfloat16(param + whole, p + whole, left, 0, 0);
}
#endif

const AdamLevel adam_level = {adam_block, adam_mixed, &convert};

}  // namespace ACCEL_TARGET

#else

#include "../../common/optimizers/adam.h"
#include "convert.h"

namespace accel {

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

// Plain and slow, as it is rarely called.
__attribute__((cold)) void rollback_block(const AdamArrays &now, const AdamArrays *, int64_t n,
                                          const AdamScalars &s) {
  for (int64_t i = 0; i < n; ++i) adam_undo(now.g[i], now.p[i], now.m[i], now.v[i], s, beta1_of(s));
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
  return all_float32(a) && !Adam::is_rare(a);
}

bool is_mixed(const accel_adam_args &a) {
  const bool l2 = !(a.flags & ACCEL_ADAM_ADAMW) && a.weight_decay != 0.0;
  return a.masters && a.param_dtype == ACCEL_BFLOAT16 && a.grad_dtype == ACCEL_BFLOAT16 &&
         a.state_dtype == ACCEL_FLOAT32 && a.rounding == ACCEL_ROUND_NEAREST && !l2 &&
         !Adam::is_rare(a);
}

// Steps tensors in place, and prefetches the next one during each.
template <class Update, class Arrays>
void step_pieces(const accel_adam_args &a, Update update, const Arrays &arrays,
                 const ScalarsByStep<Adam> &scalars) {
  for_pieces(a.numels, a.count, a.num_threads, [&](int64_t i, int64_t begin, int64_t end) {
    const bool last = i + 1 == a.count;
    const auto next = arrays(a, last ? i : i + 1, 0);
    update(arrays(a, i, begin), last ? nullptr : &next, end - begin, scalars[i]);
  });
}

int32_t adam_step(const accel_adam_args &a) {
  const AdamLevel &level = ACCEL_FOR_LEVEL(adam_level);
  const Convert &c = *level.convert;
  const bool back = Adam::undone(a);
  const AdamBlock update = back ? rollback_block : level.block;
  ScalarsByStep<Adam> scalars;
  if (!scalars.prepare(a, back ? Count::kBack : Count::kForward)) return ACCEL_NO_MEMORY;
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
  const int32_t status = accel::check<accel::Adam>(args, false);
  return status != ACCEL_OK || accel::skipped(*args) ? status : accel::adam_step(*args);
}

#endif
#endif
