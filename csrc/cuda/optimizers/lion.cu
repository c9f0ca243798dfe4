// SPDX-License-Identifier: Apache-2.0
// Lion on CUDA devices: see accel/lion.h for the arithmetic.

#include "accel/lion.h"
#include "optimizer.h"
#include "status.h"

namespace accel {
namespace {

struct Lion {
  using Args = accel_lion_args;
  static constexpr uint32_t kFlags = ACCEL_LION_MAXIMIZE;
  static constexpr int kStates = 1, kUsualStates = 1, kExtra = 0;

  template <class T, class Here>
  using Body = Elements<Lion, T, Here>;

  struct Numbers {
    double beta1, beta2;
  };

  struct Scalars {
    float grad_factor, keep, lr;
    float beta1, g_weight;
    float beta2, m_weight;
  };

  static Numbers numbers(const Args &a) { return {a.beta1, a.beta2}; }
  static void *const *state(const Args &a, int) { return a.exp_avgs; }
  static void *const *extra(const Args &, int) { return nullptr; }
  static bool maximize(const Args &a) { return a.flags & ACCEL_LION_MAXIMIZE; }
  static bool is_rare(const Args &) { return false; }

  static ACCEL_DEVICE Scalars scalars(const Numbers &n, const AtStep &at, void *) {
    return {at.grad_factor,
            static_cast<float>(1.0 - at.lr * at.weight_decay),
            static_cast<float>(at.lr),
            static_cast<float>(n.beta1),
            static_cast<float>(1.0 - n.beta1),
            static_cast<float>(n.beta2),
            static_cast<float>(1.0 - n.beta2)};
  }

  static ACCEL_DEVICE void update(const Scalars &s, float grad, float &p, float (&state)[1]) {
    float &m = state[0];
    const float g = grad * s.grad_factor;
    const float c = m * s.beta1 + g * s.g_weight;
    const float signed_one = c > 0.0f ? 1.0f : (c < 0.0f ? -1.0f : c);
    m = m * s.beta2 + g * s.m_weight;
    p = p * s.keep - signed_one * s.lr;
  }
};

}  // namespace
}  // namespace accel

int32_t accel_lion_step(const accel_lion_args *args, void *stream) {
  const int32_t status = accel::check_device_args(args, accel::Lion::kFlags);
  if (status != ACCEL_OK) return status;
  if (args->count && !args->exp_avgs) return ACCEL_BAD_ARGUMENT;
  return accel::step<accel::Lion>(*args, stream);
}
