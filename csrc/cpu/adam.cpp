// SPDX-License-Identifier: Apache-2.0
// Adam, AdamW and AMSGrad on the CPU: see accel/adam.h for the arithmetic.
//
// The first half is one SIMD level's loops, included once per level by foreach_target.h; the second
// half is compiled once.

#ifdef ACCEL_TARGET

#include "convert-inl.h"

namespace ACCEL_TARGET {

// `L2` and `AMSGRAD` are constants in every call, so each becomes a loop of its own without branches.
static inline __attribute__((always_inline)) void adam_loop(
    float *__restrict p, const float *__restrict grad, float *__restrict m, float *__restrict v,
    float *__restrict max_v, int64_t n, const accel::AdamScalars &given, bool L2, bool AMSGRAD) {
  const accel::AdamScalars s = given;
  for (int64_t i = 0; i < n; ++i) {
    float g = grad[i] * s.grad_factor;
    if (L2) g = g + s.l2 * p[i];
    const float decayed = p[i] * s.keep;
    // torch's lerp: measured from the nearer end, so that a weight of 1 gives g exactly.
    const float base = s.from_grad ? g : m[i];
    const float new_m = base + s.m_weight * (g - m[i]);
    const float new_v = s.beta2 * v[i] + s.v_weight * g * g;
    float second = new_v;
    if (AMSGRAD) {
      second = max_v[i] > new_v || max_v[i] != max_v[i] ? max_v[i] : new_v;
      max_v[i] = second;
    }
    const float denominator = __builtin_sqrtf(second) * s.root_factor + s.eps;
    m[i] = new_m;
    v[i] = new_v;
    p[i] = decayed - s.step_size * new_m / denominator;
  }
}

static void adam_block(float *p, const float *g, float *m, float *v, float *max_v, int64_t n,
                       const accel::AdamScalars &s) {
  if (s.l2 != 0.0f) {
    if (max_v) adam_loop(p, g, m, v, max_v, n, s, true, true);
    else adam_loop(p, g, m, v, nullptr, n, s, true, false);
  } else {
    if (max_v) adam_loop(p, g, m, v, max_v, n, s, false, true);
    else adam_loop(p, g, m, v, nullptr, n, s, false, false);
  }
}

static const accel::AdamLevel adam_level = {adam_block, &convert};

}  // namespace ACCEL_TARGET

#else

#include <cmath>
#include <cstddef>
#include <new>
#include <vector>

#include "accel/adam.h"
#include "convert.h"
#include "parallel.h"
#include "simd.h"

namespace accel {

// What a loop needs of the hyper-parameters at one step, prepared in double.
struct AdamScalars {
  float grad_factor;  // 1 / grad_scale, negative to maximize
  float l2;           // weight decay of the L2 mode, else 0
  float keep;         // 1 - lr * weight_decay of the decoupled mode, else 1
  float m_weight, v_weight, beta2;
  float root_factor;  // 1 / sqrt(c2)
  float eps;
  float step_size;    // lr / c1
  bool from_grad;     // beta1 <= 0.5
};

using AdamBlock = void (*)(float *p, const float *g, float *m, float *v, float *max_v, int64_t n,
                           const AdamScalars &s);

struct AdamLevel {
  AdamBlock block;
  const Convert *convert;
};

}  // namespace accel

#define ACCEL_SOURCE "adam.cpp"
#include "foreach_target.h"

namespace accel {
namespace {

// Undoes a step in the order in which it was done backwards; slow and plain, it is rarely called.
void rollback_block(float *p, const float *grad, float *m, float *v, float *, int64_t n,
                    const AdamScalars &s) {
  const float beta1 = s.from_grad ? -s.m_weight : 1.0f - s.m_weight;
  for (int64_t i = 0; i < n; ++i) {
    const float denominator = __builtin_sqrtf(v[i]) * s.root_factor + s.eps;
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
  const double lr = a.lr_tensor ? *a.lr_tensor : a.lr;
  const bool correct = a.flags & ACCEL_ADAM_BIAS_CORRECTION;
  const bool decoupled = a.flags & ACCEL_ADAM_ADAMW;
  const double c1 = correct ? 1.0 - std::pow(a.beta1, step) : 1.0;
  const double c2 = correct ? 1.0 - std::pow(a.beta2, step) : 1.0;
  const double scale = a.grad_scale ? 1.0 / static_cast<double>(*a.grad_scale) : 1.0;
  AdamScalars s;
  s.grad_factor = static_cast<float>(a.flags & ACCEL_ADAM_MAXIMIZE ? -scale : scale);
  s.l2 = decoupled ? 0.0f : static_cast<float>(a.weight_decay);
  s.keep = decoupled ? static_cast<float>(1.0 - lr * a.weight_decay) : 1.0f;
  s.from_grad = 1.0 - a.beta1 >= 0.5;
  s.m_weight = static_cast<float>(s.from_grad ? -a.beta1 : 1.0 - a.beta1);
  s.v_weight = static_cast<float>(1.0 - a.beta2);
  s.beta2 = static_cast<float>(a.beta2);
  s.root_factor = static_cast<float>(1.0 / std::sqrt(c2));
  s.eps = static_cast<float>(a.eps);
  s.step_size = static_cast<float>(lr / c1);
  return s;
}

int32_t check(const accel_adam_args *a) {
  if (!a) return ACCEL_BAD_ARGUMENT;
  if (a->struct_size != sizeof *a) return ACCEL_BAD_STRUCT;
  constexpr uint32_t kFlags = 2 * ACCEL_ADAM_ROLLBACK - 1;
  if (a->count < 0 || a->num_threads < 1 || a->flags > kFlags) return ACCEL_BAD_ARGUMENT;
  if (!is_dtype(a->param_dtype) || !is_dtype(a->grad_dtype) || !is_dtype(a->state_dtype))
    return ACCEL_BAD_DTYPE;
  if (a->rounding < ACCEL_ROUND_NEAREST || a->rounding > ACCEL_ROUND_STOCHASTIC)
    return ACCEL_BAD_ARGUMENT;
  if (a->count == 0) return ACCEL_OK;
  if (!a->numels || !a->params || !a->grads || !a->exp_avgs || !a->exp_avg_sqs)
    return ACCEL_BAD_ARGUMENT;
  const bool amsgrad = a->flags & ACCEL_ADAM_AMSGRAD;
  if (amsgrad != (a->max_exp_avg_sqs != nullptr)) return ACCEL_BAD_ARGUMENT;
  if ((a->flags & ACCEL_ADAM_ROLLBACK) &&
      (amsgrad || a->rounding != ACCEL_ROUND_NEAREST || a->beta1 == 0.0 || a->beta2 == 0.0))
    return ACCEL_UNSUPPORTED;
  for (int64_t i = 0; i < a->count; ++i)
    if (a->numels[i] < 0) return ACCEL_BAD_ARGUMENT;
  return ACCEL_OK;
}

class AdamStep {
 public:
  explicit AdamStep(const accel_adam_args &args)
      : a_(args), level_(ACCEL_FOR_LEVEL(adam_level)),
        block_(args.flags & ACCEL_ADAM_ROLLBACK ? rollback_block : level_.block) {}

  // One set of scalars where all tensors are at the same step, else one per tensor. Throws
  // std::bad_alloc before anything is written.
  void prepare() {
    if (!a_.steps) {
      scalars_.assign(1, scalars_at(a_, static_cast<double>(a_.step)));
      return;
    }
    const bool back = a_.flags & ACCEL_ADAM_ROLLBACK;
    bool same = true;
    for (int64_t i = 1; i < a_.count && same; ++i) {
      if (i + 8 < a_.count) __builtin_prefetch(a_.steps[i + 8], 1);
      same = *a_.steps[i] == *a_.steps[0];
    }
    const int64_t distinct = same ? 1 : a_.count;
    scalars_.reserve(static_cast<size_t>(distinct));
    for (int64_t i = 0; i < distinct; ++i)
      scalars_.push_back(scalars_at(a_, static_cast<double>(*a_.steps[i]) + (back ? 0.0 : 1.0)));
    for (int64_t i = 0; i < a_.count; ++i) *a_.steps[i] += back ? -1.0f : 1.0f;
  }

  void run() const {
    for_pieces(a_.numels, a_.count, a_.num_threads,
               [this](int64_t i, int64_t begin, int64_t end) { piece(i, begin, end); });
  }

 private:
  void piece(int64_t i, int64_t begin, int64_t end) const {
    const AdamScalars &s = scalars_[scalars_.size() == 1 ? 0 : static_cast<size_t>(i)];
    const bool whole = a_.grad_dtype == ACCEL_FLOAT32 && a_.state_dtype == ACCEL_FLOAT32 &&
                       a_.param_dtype == ACCEL_FLOAT32 && !a_.masters;
    const int64_t stride = whole ? end - begin : kBlock;
    for (int64_t at = begin; at < end; at += stride) block(i, at, std::min(stride, end - at), s);
  }

  void block(int64_t i, int64_t at, int64_t n, const AdamScalars &s) const {
    alignas(64) float buffers[5][kBlock];
    const Convert &c = *level_.convert;
    const uint64_t tensor = static_cast<uint64_t>(i);
    const int32_t rounding = a_.rounding;
    const auto key = [&](uint64_t stream) { return accel_random_key(a_.seed, tensor, stream); };
    const Block g(c, a_.grad_dtype, const_cast<void *>(a_.grads[i]), at, n, buffers[0]);
    const Block m(c, a_.state_dtype, a_.exp_avgs[i], at, n, buffers[1]);
    const Block v(c, a_.state_dtype, a_.exp_avg_sqs[i], at, n, buffers[2]);
    void *const max_tensor = a_.max_exp_avg_sqs ? a_.max_exp_avg_sqs[i] : nullptr;
    const Block max_v(c, a_.state_dtype, max_tensor, at, n, buffers[3]);
    const bool master = a_.masters != nullptr;
    const Block p(c, master ? ACCEL_FLOAT32 : a_.param_dtype, master ? a_.masters[i] : a_.params[i], at,
                  n, buffers[4]);
    block_(p.values, g.values, m.values, v.values, max_v.values, n, s);
    p.store(c, rounding, key(0));
    m.store(c, rounding, key(1));
    v.store(c, rounding, key(2));
    max_v.store(c, rounding, key(3));
    if (master)
      c.store[rounding][a_.param_dtype](
          static_cast<char *>(a_.params[i]) + at * element_size(a_.param_dtype), p.values, n, key(0), at);
  }

  const accel_adam_args &a_;
  const AdamLevel &level_;
  AdamBlock block_;
  std::vector<AdamScalars> scalars_;
};

}  // namespace
}  // namespace accel

int32_t accel_adam_step(const accel_adam_args *args, void *) {
  const int32_t status = accel::check(args);
  if (status != ACCEL_OK || args->count == 0) return status;
  if (args->noop_flag && *args->noop_flag != 0) return ACCEL_OK;
  if (args->found_inf && *args->found_inf != 0.0f) return ACCEL_OK;
  try {
    accel::AdamStep step(*args);
    step.prepare();
    step.run();
  } catch (const std::bad_alloc &) {
    return ACCEL_NO_MEMORY;
  }
  return ACCEL_OK;
}

#endif
