// SPDX-License-Identifier: Apache-2.0
// LAMB on the CPU: see accel/lamb.h for the phases.

#ifdef ACCEL_TARGET

#include "convert-inl.h"

namespace ACCEL_TARGET {

static void moments(const float *__restrict grad, float *__restrict m, float *__restrict v, int64_t n,
                    const LambScalars &given) {
  const LambScalars s = given;
  for (int64_t i = 0; i < n; ++i) lamb_moments(grad[i], m[i], v[i], s);
}

// Sixteen sums side by side at every level, so that all levels add in the same order.
static void norms(const float *__restrict p, const float *__restrict m, const float *__restrict v,
                  int64_t n, const LambScalars &given, double *norms) {
  constexpr int64_t kLanes = 16;
  const LambScalars s = given;
  float of_p[kLanes] = {}, of_u[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int64_t k = 0; k < kLanes; ++k) {
      const float u = lamb_direction(p[i + k], m[i + k], v[i + k], s);
      of_p[k] += p[i + k] * p[i + k];
      of_u[k] += u * u;
    }
  for (int64_t k = 0; i + k < n; ++k) {
    const float u = lamb_direction(p[i + k], m[i + k], v[i + k], s);
    of_p[k] += p[i + k] * p[i + k];
    of_u[k] += u * u;
  }
  norms[0] = norms[1] = 0.0;
  for (int64_t k = 0; k < kLanes; ++k) {
    norms[0] += static_cast<double>(of_p[k]);
    norms[1] += static_cast<double>(of_u[k]);
  }
}

static void apply(float *__restrict p, const float *__restrict m, const float *__restrict v, int64_t n,
                  const LambScalars &given, float rate) {
  const LambScalars s = given;
  for (int64_t i = 0; i < n; ++i) p[i] = p[i] - rate * lamb_direction(p[i], m[i], v[i], s);
}

const LambLevel lamb_level = {moments, norms, apply, &convert};

}  // namespace ACCEL_TARGET

#else

#include "../../common/optimizers/lamb.h"
#include "convert.h"

namespace accel {

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

struct LambOnHost : Lamb {
  struct Scalars : LambScalars {
    double rate;
  };

  static Scalars scalars(const Numbers &n, const AtStep &at) {
    return {Lamb::scalars(n, at), Lamb::rate(n, at)};
  }
};

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
    return scalars_.prepare(a_, a_.flags & ACCEL_LAMB_MOMENTS ? Count::kForward : Count::kNot);
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
      if (apply && a_.coeffs) *a_.coeffs[i] = static_cast<float>(Lamb::coefficient(a_, a_.norms[i]));
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
    const double rate = scalars_[i].rate * Lamb::coefficient(a_, a_.norms[i]);
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
  ScalarsByStep<LambOnHost> scalars_;
  Array<Part> parts_;
  Array<int64_t> first_part_;
};

}  // namespace
}  // namespace accel

int32_t accel_lamb_step(const accel_lamb_args *args, void *) {
  const int32_t status = accel::check<accel::Lamb>(args, false);
  if (status != ACCEL_OK || accel::skipped(*args)) return status;
  accel::LambStep step(*args);
  if (!step.prepare()) return ACCEL_NO_MEMORY;
  step.run();
  return ACCEL_OK;
}

#endif
#endif
