// SPDX-License-Identifier: Apache-2.0
// AdEMAMix on SYCL devices.

#include "optimizer.h"

#include "../../common/optimizers/ademamix.h"

namespace accel {
namespace {

ACCEL_ON_BOTH(kNumbers, struct AdemamixNumbers {
  AdemamixScalars scalars;
  Corrections corrections;
  float eps, decay;
  float alpha, alpha_warmup, beta3, slow_weight, beta3_warmup;
  float first_life, last_life;  // half-lives of beta1 and beta3
};)

constexpr char kKernel[] = R"sycl(
struct Ademamix {
  using Numbers = AdemamixNumbers;
  using Scalars = AdemamixScalars;
  static constexpr int kUsedStates = 3;

  // How much of a warm-up is done, from above 0 to 1.
  static float share(float step, float warmup) {
    return sycl::fmin(step / sycl::fmax(warmup, 1.0f), 1.0f);
  }

  static AdemamixScalars scalars(const Numbers &n, const AtStep &at) {
    const Corrections c = corrections_at(n.corrections, at);
    AdemamixScalars s = n.scalars;
    s.beta3 = n.beta3;
    s.slow_weight = n.slow_weight;
    const float done = share(at.step, n.beta3_warmup);
    if (done < 1.0f) {
      const float log_beta3 =
          -0.693147181f / ((1.0f - done) * n.first_life + done * n.last_life);
      s.beta3 = sycl::exp(log_beta3);
      s.slow_weight = -sycl::expm1(log_beta3);
    }
    const float root_c2 = root(c.c2);
    const float rate = at.lr * root_c2, alpha = n.alpha * share(at.step, n.alpha_warmup);
    s.grad_factor = at.grad_factor;
    s.keep = 1.0f - at.lr * n.decay;
    s.eps = scaled_eps(n.eps, root_c2);
    s.step_size = rate / c.c1;
    s.slow_size = rate * alpha;
    return s;
  }

  static void update(const Numbers &, const AdemamixScalars &s, float grad, float &p, float (&state)[3]) {
    ademamix(grad, p, state[0], state[1], state[2], s);
  }
};

ACCEL_KERNEL ademamix(Table<AdemamixNumbers> table) { step_group<Ademamix>(table); }
)sycl";

struct AdemamixOnDevice : Ademamix {
  using Numbers = AdemamixNumbers;

  static Numbers numbers(const Args &a) {
    const auto narrow = [](double x) { return static_cast<float>(x); };
    return {scalars_of<Ademamix>(a),
            corrections_of(a.beta1, a.beta2, a.step, true),
            narrow(a.eps),
            narrow(a.weight_decay),
            narrow(a.alpha),
            narrow(a.alpha_warmup),
            narrow(a.beta3),
            narrow(1.0 - a.beta3),
            narrow(a.beta3_warmup),
            narrow(half_life(a.beta1)),
            narrow(half_life(a.beta3))};
  }
};

}  // namespace
}  // namespace accel

int32_t accel_ademamix_step(const accel_ademamix_args *args, void *stream) {
  using namespace accel;
  return step<AdemamixOnDevice>(args, stream, [] {
    return make_program(std::string(kAdemamixText) + kNumbers + kKernel, {"ademamix"});
  });
}
