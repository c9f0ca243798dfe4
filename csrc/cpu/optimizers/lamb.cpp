// SPDX-License-Identifier: Apache-2.0
// LAMB on the CPU: see accel/lamb.h for the arithmetic.

#ifdef ACCEL_TARGET

#include "convert-inl.h"

namespace ACCEL_TARGET {

static void lamb_moments(const float *__restrict grad, float *__restrict m, float *__restrict v,
                         int64_t n, const accel::LambScalars &given) {
  const accel::LambScalars s = given;
  for (int64_t i = 0; i < n; ++i) {
    const float g = grad[i] * s.grad_factor;
    m[i] = m[i] * s.beta1 + g * s.m_weight;
    v[i] = v[i] * s.beta2 + s.v_weight * g * g;
  }
}

static inline float direction(float p, float m, float v, const accel::LambScalars &s) {
  return m / (__builtin_sqrtf(v + s.eps_inside) + s.eps_outside) + s.decay * p;
}

// Sixteen sums side by side at every level, so that all levels add in the same order.
static void lamb_norms(const float *__restrict p, const float *__restrict m,
                       const float *__restrict v, int64_t n, const accel::LambScalars &given,
                       double *norms) {
  constexpr int64_t kLanes = 16;
  const accel::LambScalars s = given;
  float of_p[kLanes] = {}, of_u[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int64_t k = 0; k < kLanes; ++k) {
      const float u = direction(p[i + k], m[i + k], v[i + k], s);
      of_p[k] += p[i + k] * p[i + k];
      of_u[k] += u * u;
    }
  for (int64_t k = 0; i + k < n; ++k) {
    const float u = direction(p[i + k], m[i + k], v[i + k], s);
    of_p[k] += p[i + k] * p[i + k];
    of_u[k] += u * u;
  }
  norms[0] = norms[1] = 0.0;
  for (int64_t k = 0; k < kLanes; ++k) {
    norms[0] += static_cast<double>(of_p[k]);
    norms[1] += static_cast<double>(of_u[k]);
  }
}

static void lamb_apply(float *__restrict p, const float *__restrict m, const float *__restrict v,
                       int64_t n, const accel::LambScalars &given, float rate) {
  const accel::LambScalars s = given;
  for (int64_t i = 0; i < n; ++i) p[i] = p[i] - rate * direction(p[i], m[i], v[i], s);
}

const accel::LambLevel lamb_level = {lamb_moments, lamb_norms, lamb_apply, &convert};

}  // namespace ACCEL_TARGET

#else

#include "accel/lamb.h"
#include "convert.h"

namespace accel {

struct LambScalars {
  float grad_factor;
  float beta1, m_weight, beta2, v_weight;
  float eps_inside, eps_outside;  // one of them is 0
  float decay;
  double rate;  // lr * sqrt(c2) / c1
};

struct LambLevel {
  void (*moments)(const float *g, float *m, float *v, int64_t n, const LambScalars &s);
  void (*norms)(const float *p, const float *m, const float *v, int64_t n, const LambScalars &s,
                double *norms);
  void (*apply)(float *p, const float *m, const float *v, int64_t n, const LambScalars &s, float rate);
  const Convert *convert;
};

}  // namespace accel

#define ACCEL_SOURCE "optimizers/lamb.cpp"
#define ACCEL_TABLE const accel::LambLevel lamb_level
#include "foreach_target.h"

#ifdef ACCEL_PART_COMMON
#include "optimizer.h"
#include "simd.h"

namespace accel {
namespace {

// A tensor of at most this many elements is stepped by one thread from end to end, while it is in
// that thread's cache. A larger one is cut into parts of this size, and its norms are summed between.
constexpr int64_t kPart = 1 << 15;

LambScalars scalars_at(const accel_lamb_args &a, double step) {
  const bool correct = a.flags & ACCEL_LAMB_BIAS_CORRECTION;
  const bool inside = a.flags & ACCEL_LAMB_EPS_INSIDE;
  const double c1 = correct ? 1.0 - __builtin_pow(a.beta1, step) : 1.0;
  const double c2 = correct ? 1.0 - __builtin_pow(a.beta2, step) : 1.0;
  const float eps = static_cast<float>(a.eps);
  return {grad_factor(a, a.flags & ACCEL_LAMB_MAXIMIZE),
          static_cast<float>(a.beta1),
          static_cast<float>(1.0 - a.beta1),
          static_cast<float>(a.beta2),
          static_cast<float>(1.0 - a.beta2),
          inside ? eps : 0.0f,
          inside ? 0.0f : eps,
          static_cast<float>(a.weight_decay),
          learning_rate(a) * __builtin_sqrt(c2) / c1};
}

double coefficient(const accel_lamb_args &a, const double *norms) {
  if (norms[0] == 0.0 || norms[1] == 0.0) return 1.0;
  const double ratio = __builtin_sqrt(norms[0]) / __builtin_sqrt(norms[1]);
  // In this order NaN stays NaN.
  return ratio > a.max_coeff ? a.max_coeff : (ratio < a.min_coeff ? a.min_coeff : ratio);
}

class LambStep {
 public:
  explicit LambStep(const accel_lamb_args &args)
      : a_(args), level_(ACCEL_FOR_LEVEL(lamb_level)), c_(*level_.convert) {}

  // False, and nothing is written, if there is no memory.
  [[nodiscard]] bool prepare() {
    int64_t parts = 0;
    for (int64_t i = 0; i < a_.count; ++i) parts += parts_of(a_.numels[i]);
    if (!parts_.reserve(parts) || !first_part_.reserve(a_.count + 1)) return false;
    for (int64_t i = 0; i < a_.count; ++i) {
      first_part_.add(parts_.size());
      const int64_t numel = a_.numels[i];
      for (int64_t k = 0; k < parts_of(numel); ++k)
        parts_.add({i, k * kPart, lesser((k + 1) * kPart, numel), {0.0, 0.0}});
    }
    first_part_.add(parts_.size());
    const auto make = [&](double step) { return scalars_at(a_, step); };
    return scalars_.prepare(a_, make, a_.flags & ACCEL_LAMB_MOMENTS ? Count::kForward : Count::kNot);
  }

  void run() {
    const bool moments = a_.flags & ACCEL_LAMB_MOMENTS, apply = a_.flags & ACCEL_LAMB_APPLY;
    if (moments)
      each_part([&](Part &part) {
        this->moments(part);
        if (!whole(part)) return;
        finish_norms(part.tensor);
        if (apply) this->apply(part);
      });
    for (int64_t i = 0; i < a_.count; ++i) {
      const bool cut = first_part_[i + 1] - first_part_[i] > 1;
      if (moments && cut) finish_norms(i);
      if (apply && a_.coeffs) *a_.coeffs[i] = static_cast<float>(coefficient(a_, a_.norms[i]));
    }
    const bool all_done = moments && parts_.size() == a_.count;
    if (apply && !all_done)
      each_part([&](const Part &part) {
        if (!moments || !whole(part)) this->apply(part);
      });
  }

 private:
  struct Part {
    int64_t tensor, begin, end;
    double norms[2];
  };

  // At least one, whose norms are those of nothing.
  static int64_t parts_of(int64_t numel) { return numel == 0 ? 1 : (numel - 1) / kPart + 1; }

  bool whole(const Part &part) const {
    return part.begin == 0 && part.end == a_.numels[part.tensor];
  }

  template <class Body>
  void each_part(const Body &body) {
    int64_t elements = 0;
    for (int64_t i = 0; i < a_.count; ++i) elements += a_.numels[i];
    const int64_t threads = lesser(a_.num_threads, 1 + elements / kWorthAThread);
    for_items(parts_.size(), static_cast<int32_t>(threads),
              [&](int64_t i) { body(parts_[i]); });
  }

  void moments(Part &part) const {
    const int64_t i = part.tensor;
    for (int64_t at = part.begin; at < part.end; at += kBlock) {
      const int64_t n = lesser(kBlock, part.end - at);
      alignas(64) float buffers[2][kBlock];
      ParamBlock<accel_lamb_args> block(a_, c_, scalars_.seed(i), i, at, n);
      Block m(c_, a_.state_dtype, a_.exp_avgs[i], at, n, buffers[0]);
      Block v(c_, a_.state_dtype, a_.exp_avg_sqs[i], at, n, buffers[1]);
      level_.moments(block.grad(), m.values, v.values, n, scalars_[i]);
      m.store(c_, a_.rounding, block.noise(1));
      v.store(c_, a_.rounding, block.noise(2));
      m.load(c_);
      v.load(c_);
      double norms[2];
      level_.norms(block.param(), m.values, v.values, n, scalars_[i], norms);
      part.norms[0] += norms[0];
      part.norms[1] += norms[1];
    }
  }

  // In the order of the parts, whichever thread did them.
  void finish_norms(int64_t tensor) const {
    double *const norms = a_.norms[tensor];
    norms[0] = norms[1] = 0.0;
    for (int64_t k = first_part_[tensor]; k < first_part_[tensor + 1]; ++k) {
      norms[0] += parts_[k].norms[0];
      norms[1] += parts_[k].norms[1];
    }
  }

  void apply(const Part &part) const {
    const int64_t i = part.tensor;
    const double rate = scalars_[i].rate * coefficient(a_, a_.norms[i]);
    for (int64_t at = part.begin; at < part.end; at += kBlock) {
      const int64_t n = lesser(kBlock, part.end - at);
      alignas(64) float buffers[2][kBlock];
      ParamBlock<accel_lamb_args> block(a_, c_, scalars_.seed(i), i, at, n);
      const Block m(c_, a_.state_dtype, a_.exp_avgs[i], at, n, buffers[0]);
      const Block v(c_, a_.state_dtype, a_.exp_avg_sqs[i], at, n, buffers[1]);
      level_.apply(block.param(), m.values, v.values, n, scalars_[i], static_cast<float>(rate));
      block.store();
    }
  }

  const accel_lamb_args &a_;
  const LambLevel &level_;
  const Convert &c_;
  ScalarsByStep<LambScalars> scalars_;
  Array<Part> parts_;
  Array<int64_t> first_part_;
};

int32_t check(const accel_lamb_args *a) {
  constexpr uint32_t kPhases = ACCEL_LAMB_MOMENTS | ACCEL_LAMB_APPLY;
  const int32_t status = check_host_args(a, 2 * ACCEL_LAMB_APPLY - 1);
  if (status != ACCEL_OK) return status;
  if (!(a->flags & kPhases)) return ACCEL_BAD_ARGUMENT;
  if (a->count && (!a->exp_avgs || !a->exp_avg_sqs || !a->norms)) return ACCEL_BAD_ARGUMENT;
  return ACCEL_OK;
}

}  // namespace
}  // namespace accel

int32_t accel_lamb_step(const accel_lamb_args *args, void *) {
  const int32_t status = accel::check(args);
  if (status != ACCEL_OK || accel::skipped(*args)) return status;
  accel::LambStep step(*args);
  if (!step.prepare()) return ACCEL_NO_MEMORY;
  step.run();
  return ACCEL_OK;
}

#endif
#endif
