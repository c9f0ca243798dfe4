// SPDX-License-Identifier: Apache-2.0
// AdEMAMix on CUDA devices: see accel/ademamix.h for the arithmetic.

#include "accel/ademamix.h"
#include "optimizer.h"
#include "status.h"

namespace accel {
namespace {

// In how many steps a moment with this decay rate forgets half; 1e-8 lets it be 0.
double half_life(double beta) { return log(0.5) / log(beta + 1e-8); }

struct Ademamix {
  using Args = accel_ademamix_args;
  static constexpr uint32_t kFlags = ACCEL_ADEMAMIX_MAXIMIZE;
  static constexpr int kStates = 3, kUsualStates = 3, kExtra = 0;

  template <class T, class Here>
  struct Body : Elements<Ademamix, T, Here> {
    // Three states of eight elements take so many registers that fewer than 768 threads run.
    ACCEL_DEVICE void run(const Piece &piece) {
      for_share<(T::kVector < 4 ? T::kVector : 4)>(piece.begin, piece.end, this->aligned, *this);
    }
  };

  struct Numbers {
    double beta1, beta2, beta3, alpha, eps;
    double alpha_warmup, beta3_warmup;
    double first_life, last_life;  // half-lives of beta1 and beta3
  };

  struct Scalars {
    float grad_factor, keep, eps;
    float beta1, m_weight;
    float beta2, v_weight;
    float beta3, slow_weight;
    float step_size, slow_size;  // of the fast moment, and of the slow one
  };

  static Numbers numbers(const Args &a) {
    return {a.beta1,        a.beta2,        a.beta3,          a.alpha,           a.eps,
            a.alpha_warmup, a.beta3_warmup, half_life(a.beta1), half_life(a.beta3)};
  }

  static void *const *state(const Args &a, int which) {
    return which == 0 ? a.exp_avgs : which == 1 ? a.exp_avg_slows : a.exp_avg_sqs;
  }

  static void *const *extra(const Args &, int) { return nullptr; }
  static bool maximize(const Args &a) { return a.flags & ACCEL_ADEMAMIX_MAXIMIZE; }
  static bool is_rare(const Args &) { return false; }

  // How much of a warm-up is done, from above 0 to 1.
  static ACCEL_DEVICE double share(double step, double warmup) {
    const double steps = warmup > 1.0 ? warmup : 1.0;
    return step < steps ? step / steps : 1.0;
  }

  static ACCEL_DEVICE double slow_beta(const Numbers &n, double step) {
    const double done = share(step, n.beta3_warmup);
    if (done >= 1.0) return n.beta3;
    return pow(0.5, 1.0 / ((1.0 - done) * n.first_life + done * n.last_life));
  }

  static ACCEL_DEVICE Scalars scalars(const Numbers &n, const AtStep &at, void *) {
    const double beta3 = slow_beta(n, at.step);
    const double c1 = 1.0 - pow(n.beta1, at.step);
    const double root_c2 = sqrt(1.0 - pow(n.beta2, at.step));
    Scalars s;
    s.grad_factor = at.grad_factor;
    s.keep = static_cast<float>(1.0 - at.lr * at.weight_decay);
    s.eps = scaled_eps(n.eps, root_c2);
    s.beta1 = static_cast<float>(n.beta1);
    s.m_weight = static_cast<float>(1.0 - n.beta1);
    s.beta2 = static_cast<float>(n.beta2);
    s.v_weight = static_cast<float>(1.0 - n.beta2);
    s.beta3 = static_cast<float>(beta3);
    s.slow_weight = static_cast<float>(1.0 - beta3);
    s.step_size = static_cast<float>(at.lr * root_c2 / c1);
    s.slow_size = static_cast<float>(at.lr * root_c2 * (n.alpha * share(at.step, n.alpha_warmup)));
    return s;
  }

  static ACCEL_DEVICE void update(const Scalars &s, float grad, float &p, float (&state)[3]) {
    float &m = state[0], &slow = state[1], &v = state[2];
    const float g = grad * s.grad_factor;
    m = m * s.beta1 + g * s.m_weight;
    slow = slow * s.beta3 + g * s.slow_weight;
    v = v * s.beta2 + s.v_weight * g * g;
    const float change = m * s.step_size + slow * s.slow_size;
    p = p * s.keep - change / (sqrtf(v) + s.eps);
  }
};

}  // namespace
}  // namespace accel

int32_t accel_ademamix_step(const accel_ademamix_args *args, void *stream) {
  const int32_t status = accel::check_device_args(args, accel::Ademamix::kFlags);
  if (status != ACCEL_OK || args->count == 0) return status;
  if (!args->exp_avgs || !args->exp_avg_slows || !args->exp_avg_sqs) return ACCEL_BAD_ARGUMENT;
  return accel::step<accel::Ademamix>(*args, stream);
}
