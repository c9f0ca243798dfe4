// SPDX-License-Identifier: Apache-2.0
// Adagrad on CUDA devices: see accel/adagrad.h for the arithmetic.

#include "accel/adagrad.h"
#include "optimizer.h"
#include "status.h"

namespace accel {
namespace {

struct Adagrad {
  using Args = accel_adagrad_args;
  static constexpr uint32_t kFlags = ACCEL_ADAGRAD_MAXIMIZE;
  static constexpr int kStates = 1, kUsualStates = 1, kExtra = 0;

  template <class T, class Here>
  using Body = Elements<Adagrad, T, Here>;

  struct Numbers {
    double lr_decay, eps;
  };

  struct Scalars {
    float grad_factor, l2, eps, step_size;
  };

  static Numbers numbers(const Args &a) { return {a.lr_decay, a.eps}; }
  static void *const *state(const Args &a, int) { return a.sums; }
  static void *const *extra(const Args &, int) { return nullptr; }
  static bool maximize(const Args &a) { return a.flags & ACCEL_ADAGRAD_MAXIMIZE; }
  static bool is_rare(const Args &) { return false; }

  static ACCEL_DEVICE Scalars scalars(const Numbers &n, const AtStep &at, void *) {
    const double rate = at.lr / (1.0 + (at.step - 1.0) * n.lr_decay);
    return {at.grad_factor, static_cast<float>(at.weight_decay), static_cast<float>(n.eps),
            static_cast<float>(rate)};
  }

  static ACCEL_DEVICE void update(const Scalars &s, float grad, float &p, float (&state)[1]) {
    float &sum = state[0];
    float g = grad * s.grad_factor;
    if (s.l2 != 0.0f) g = g + s.l2 * p;
    sum = sum + g * g;
    p = p - s.step_size * g / (sqrtf(sum) + s.eps);
  }
};

}  // namespace
}  // namespace accel

int32_t accel_adagrad_step(const accel_adagrad_args *args, void *stream) {
  const int32_t status = accel::check_device_args(args, accel::Adagrad::kFlags);
  if (status != ACCEL_OK) return status;
  if (args->count && !args->sums) return ACCEL_BAD_ARGUMENT;
  return accel::step<accel::Adagrad>(*args, stream);
}
