// SPDX-License-Identifier: Apache-2.0
// AdEMAMix on SYCL devices: see accel/ademamix.h for the arithmetic.

#include "accel/ademamix.h"

#include <cmath>

#include "optimizer.h"

namespace accel {
namespace {

ACCEL_ON_BOTH(kNumbers, struct AdemamixNumbers {
  float beta1, m_weight, beta2, v_weight, beta3, slow_weight, eps, decay;
  float c1, c2, log_beta1, log_beta2;  // bias corrections, and what they are made of
  float alpha, alpha_warmup, beta3_warmup;
  float first_life, last_life;  // half-lives of beta1 and beta3
});

constexpr char kKernel[] = R"sycl(
struct Ademamix {
  using Numbers = AdemamixNumbers;
  static constexpr int kUsedStates = 3;

  struct Scalars {
    float grad_factor, keep, eps, beta3, slow_weight;
    float step_size, slow_size;  // of the fast moment, and of the slow one
  };

  // How much of a warm-up is done, from above 0 to 1.
  static float share(float step, float warmup) {
    return sycl::fmin(step / sycl::fmax(warmup, 1.0f), 1.0f);
  }

  static Scalars scalars(const Numbers &n, const AtStep &at) {
    float c1 = n.c1, c2 = n.c2;
    if (at.counted) {
      // 1 - beta^t without double: expm1 keeps what the subtraction would cancel.
      c1 = -sycl::expm1(at.step * n.log_beta1);
      c2 = -sycl::expm1(at.step * n.log_beta2);
    }
    float beta3 = n.beta3, slow_weight = n.slow_weight;
    const float done = share(at.step, n.beta3_warmup);
    if (done < 1.0f) {
      const float log_beta3 =
          -0.693147181f / ((1.0f - done) * n.first_life + done * n.last_life);
      beta3 = sycl::exp(log_beta3);
      slow_weight = -sycl::expm1(log_beta3);
    }
    const float root_c2 = sycl::sqrt(c2);
    // Not 0 if there is an eps: 0 / 0 then stays 0.
    float eps = n.eps * root_c2;
    if (eps == 0.0f && n.eps != 0.0f) eps = 0x1p-149f;
    const float rate = at.lr * root_c2, alpha = n.alpha * share(at.step, n.alpha_warmup);
    return {at.grad_factor, 1.0f - at.lr * n.decay, eps, beta3, slow_weight, rate / c1, rate * alpha};
  }

  static void update(const Numbers &n, const Scalars &s, float grad, float &p, float (&state)[3]) {
    float &m = state[0], &slow = state[1], &v = state[2];
    const float g = grad * s.grad_factor;
    m = m * n.beta1 + g * n.m_weight;
    slow = slow * s.beta3 + g * s.slow_weight;
    v = v * n.beta2 + n.v_weight * g * g;
    const float change = m * s.step_size + slow * s.slow_size;
    p = p * s.keep - change / (sycl::sqrt(v) + s.eps);
  }
};

ACCEL_KERNEL ademamix(Table<AdemamixNumbers> table) { step_group<Ademamix>(table); }
)sycl";

// In how many steps a moment with this decay rate forgets half; 1e-8 lets it be 0.
double half_life(double beta) { return std::log(0.5) / std::log(beta + 1e-8); }

struct Ademamix {
  using Args = accel_ademamix_args;
  using Numbers = AdemamixNumbers;

  static void *const *state(const Args &a, int which) {
    return which == 0 ? a.exp_avgs : which == 1 ? a.exp_avg_slows : a.exp_avg_sqs;
  }

  static void *const *extra(const Args &, int) { return nullptr; }

  static Numbers numbers(const Args &a) {
    const double step = static_cast<double>(a.step);
    const auto narrow = [](double x) { return static_cast<float>(x); };
    Numbers n{};
    n.beta1 = narrow(a.beta1);
    n.m_weight = narrow(1.0 - a.beta1);
    n.beta2 = narrow(a.beta2);
    n.v_weight = narrow(1.0 - a.beta2);
    n.beta3 = narrow(a.beta3);
    n.slow_weight = narrow(1.0 - a.beta3);
    n.eps = narrow(a.eps);
    n.decay = narrow(a.weight_decay);
    n.c1 = narrow(1.0 - std::pow(a.beta1, step));
    n.c2 = narrow(1.0 - std::pow(a.beta2, step));
    n.log_beta1 = narrow(std::log(a.beta1));
    n.log_beta2 = narrow(std::log(a.beta2));
    n.alpha = narrow(a.alpha);
    n.alpha_warmup = narrow(a.alpha_warmup);
    n.beta3_warmup = narrow(a.beta3_warmup);
    n.first_life = narrow(half_life(a.beta1));
    n.last_life = narrow(half_life(a.beta3));
    return n;
  }
};

}  // namespace
}  // namespace accel

int32_t accel_ademamix_step(const accel_ademamix_args *args, void *stream) {
  const int32_t status = accel::check_device_args(args, ACCEL_ADEMAMIX_MAXIMIZE);
  if (status != ACCEL_OK || args->count == 0) return status;
  if (!args->exp_avgs || !args->exp_avg_slows || !args->exp_avg_sqs) return ACCEL_BAD_ARGUMENT;
  static accel::Program *const program =
      accel::make_program(std::string(accel::kNumbers) + accel::kKernel, {"ademamix"});
  const accel::Common common = accel::common_of(*args, args->flags & ACCEL_ADEMAMIX_MAXIMIZE);
  return accel::step<accel::Ademamix>(*program, *args, common, stream);
}
