// SPDX-License-Identifier: Apache-2.0
// Adam, AdamW and AMSGrad on CUDA devices: see accel/adam.h for the arithmetic.

#include "accel/adam.h"
#include "optimizer.h"
#include "status.h"

namespace accel {
namespace {

struct Adam {
  using Args = accel_adam_args;
  static constexpr uint32_t kFlags = 2 * ACCEL_ADAM_ROLLBACK - 1;
  static constexpr int kStates = 3, kUsualStates = 2, kExtra = 0;

  template <class T, class Here>
  using Body = Elements<Adam, T, Here>;

  struct Numbers {
    double beta1, beta2, eps;
    uint32_t flags;
  };

  struct Scalars {
    float grad_factor;
    float l2;         // weight decay of the L2 mode, else 0
    float keep;       // 1 - lr * weight_decay of the decoupled mode, else 1
    float m_weight, v_weight, beta2;
    float eps;        // eps * sqrt(c2)
    float step_size;  // lr * sqrt(c2) / c1
    bool from_grad;   // beta1 <= 0.5
    bool amsgrad, rollback;
  };

  static Numbers numbers(const Args &a) { return {a.beta1, a.beta2, a.eps, a.flags}; }

  static void *const *state(const Args &a, int which) {
    return which == 0 ? a.exp_avgs : which == 1 ? a.exp_avg_sqs : a.max_exp_avg_sqs;
  }

  static void *const *extra(const Args &, int) { return nullptr; }
  static bool maximize(const Args &a) { return a.flags & ACCEL_ADAM_MAXIMIZE; }
  static bool is_rare(const Args &a) {
    return a.flags & (ACCEL_ADAM_AMSGRAD | ACCEL_ADAM_ROLLBACK);
  }

  static ACCEL_DEVICE Scalars scalars(const Numbers &n, const AtStep &at, void *) {
    const bool decoupled = n.flags & ACCEL_ADAM_ADAMW;
    const bool correct = n.flags & ACCEL_ADAM_BIAS_CORRECTION;
    const double c1 = correct ? 1.0 - pow(n.beta1, at.step) : 1.0;
    const double root_c2 = correct ? sqrt(1.0 - pow(n.beta2, at.step)) : 1.0;
    Scalars s;
    s.grad_factor = at.grad_factor;
    s.l2 = decoupled ? 0.0f : static_cast<float>(at.weight_decay);
    s.keep = decoupled ? static_cast<float>(1.0 - at.lr * at.weight_decay) : 1.0f;
    s.from_grad = 1.0 - n.beta1 >= 0.5;
    s.m_weight = static_cast<float>(s.from_grad ? -n.beta1 : 1.0 - n.beta1);
    s.v_weight = static_cast<float>(1.0 - n.beta2);
    s.beta2 = static_cast<float>(n.beta2);
    s.eps = scaled_eps(n.eps, root_c2);
    s.step_size = static_cast<float>(at.lr * root_c2 / c1);
    s.amsgrad = n.flags & ACCEL_ADAM_AMSGRAD;
    s.rollback = n.flags & ACCEL_ADAM_ROLLBACK;
    return s;
  }

  template <int STATES>
  static ACCEL_DEVICE void update(const Scalars &s, float grad, float &p, float (&state)[STATES]) {
    float &m = state[0], &v = state[1];
    if constexpr (STATES == 3) {
      if (s.rollback) return undo(s, grad, p, m, v);
    }
    float g = grad * s.grad_factor;
    if (s.l2 != 0.0f) g = g + s.l2 * p;
    // torch's lerp: measured from the nearer end, so that a weight of 1 gives g exactly.
    m = (s.from_grad ? g : m) + s.m_weight * (g - m);
    v = s.beta2 * v + s.v_weight * g * g;
    float second = v;
    if constexpr (STATES == 3) {
      float &most = state[2];
      if (s.amsgrad) {
        if (most > v || most != most) second = most;
        most = second;
      }
    }
    p = p * s.keep - s.step_size * m / (sqrtf(second) + s.eps);
  }

  // Undoes a step in the reverse order.
  static ACCEL_DEVICE void undo(const Scalars &s, float grad, float &p, float &m, float &v) {
    const float beta1 = s.from_grad ? -s.m_weight : 1.0f - s.m_weight;
    p = (p + s.step_size * m / (sqrtf(v) + s.eps)) / s.keep;
    float g = grad * s.grad_factor;
    if (s.l2 != 0.0f) g = g + s.l2 * p;
    m = (m - (1.0f - beta1) * g) / beta1;
    const float old_v = (v - s.v_weight * g * g) / s.beta2;
    v = old_v < 0.0f ? 0.0f : old_v;
  }
};

int32_t check(const accel_adam_args *a) {
  const int32_t status = check_device_args(a, Adam::kFlags);
  if (status != ACCEL_OK || a->count == 0) return status;
  const bool amsgrad = a->flags & ACCEL_ADAM_AMSGRAD;
  if (!a->exp_avgs || !a->exp_avg_sqs || amsgrad != (a->max_exp_avg_sqs != nullptr))
    return ACCEL_BAD_ARGUMENT;
  if ((a->flags & ACCEL_ADAM_ROLLBACK) &&
      (amsgrad || a->rounding != ACCEL_ROUND_NEAREST || a->beta1 == 0.0 || a->beta2 == 0.0))
    return ACCEL_UNSUPPORTED;
  return ACCEL_OK;
}

}  // namespace
}  // namespace accel

int32_t accel_adam_step(const accel_adam_args *args, void *stream) {
  const int32_t status = accel::check(args);
  if (status != ACCEL_OK) return status;
  return accel::step<accel::Adam>(*args, stream, args->flags & ACCEL_ADAM_ROLLBACK);
}
