// SPDX-License-Identifier: Apache-2.0
// LAMB on CUDA devices: see accel/lamb.h for the arithmetic. The sums of a tensor's blocks are added
// to `norms` atomically, in no fixed order.

#include "accel/lamb.h"
#include "optimizer.h"
#include "reduce.h"
#include "status.h"

namespace accel {
namespace {

struct LambNumbers {
  double beta1, beta2, eps, max_coeff, min_coeff;
  uint32_t flags;
};

struct LambScalars {
  float grad_factor;
  float beta1, m_weight, beta2, v_weight;
  float eps_inside, eps_outside;  // one of them is 0
  float decay;
  float rate;                     // lr * sqrt(c2) / c1 * coeff
};

ACCEL_DEVICE double coefficient(const LambNumbers &n, const double *norms) {
  if (norms[0] == 0.0 || norms[1] == 0.0) return 1.0;
  const double ratio = sqrt(norms[0]) / sqrt(norms[1]);
  // In this order NaN stays NaN.
  return ratio > n.max_coeff ? n.max_coeff : (ratio < n.min_coeff ? n.min_coeff : ratio);
}

ACCEL_DEVICE float direction(float p, float m, float v, const LambScalars &s) {
  return m / (sqrtf(v + s.eps_inside) + s.eps_outside) + s.decay * p;
}

// First phase: moments, and the norms from their stored values.
template <class Op, class T, class Here>
struct MomentsBody : OnTensor<Op, T, Here> {
  float of_p = 0.0f, of_u = 0.0f;

  ACCEL_DEVICE MomentsBody(const OnTensor<Op, T, Here> &on) : OnTensor<Op, T, Here>(on) {}

  ACCEL_DEVICE void run(const Piece &piece) {
    for_share<T::kVector>(piece.begin, piece.end, this->aligned, *this);
    double *const norms = static_cast<double *>(this->place(Here::kExtra));
    add_over_block(&norms[0], of_p);
    add_over_block(&norms[1], of_u);
  }

  template <int N>
  ACCEL_DEVICE void at(int64_t i) {
    const LambScalars &s = this->scalars;
    float p[N], g[N], m[N], v[N];
    this->load_grad(i, g);
    this->load_state(0, i, m);
    this->load_state(1, i, v);
    this->load_param(i, p);
    ACCEL_UNROLL
    for (int k = 0; k < N; ++k) {
      const float grad = g[k] * s.grad_factor;
      m[k] = m[k] * s.beta1 + grad * s.m_weight;
      v[k] = v[k] * s.beta2 + s.v_weight * grad * grad;
    }
    this->store_state(0, i, m);
    this->store_state(1, i, v);
    if (this->table.common.state_dtype != ACCEL_FLOAT32) {
      this->load_state(0, i, m);
      this->load_state(1, i, v);
    }
    ACCEL_UNROLL
    for (int k = 0; k < N; ++k) {
      const float u = direction(p[k], m[k], v[k], s);
      of_p += p[k] * p[k];
      of_u += u * u;
    }
  }
};

// Second phase: the parameters, by the coefficient that the norms give.
template <class Op, class T, class Here>
struct ApplyBody : OnTensor<Op, T, Here> {
  ACCEL_DEVICE void run(const Piece &piece) {
    for_share<T::kVector>(piece.begin, piece.end, this->aligned, *this);
  }

  template <int N>
  ACCEL_DEVICE void at(int64_t i) {
    float p[N], m[N], v[N];
    this->load_state(0, i, m);
    this->load_state(1, i, v);
    this->load_param(i, p);
    ACCEL_UNROLL
    for (int k = 0; k < N; ++k)
      p[k] = p[k] - this->scalars.rate * direction(p[k], m[k], v[k], this->scalars);
    this->store_param(i, p);
  }
};

template <bool APPLY>
struct Lamb {
  using Args = accel_lamb_args;
  using Numbers = LambNumbers;
  using Scalars = LambScalars;
  static constexpr int kStates = 2, kUsualStates = 2, kExtra = 1;

  template <class T, class Here>
  using Body = std::conditional_t<APPLY, ApplyBody<Lamb, T, Here>, MomentsBody<Lamb, T, Here>>;

  static Numbers numbers(const Args &a) {
    return {a.beta1, a.beta2, a.eps, a.max_coeff, a.min_coeff, a.flags};
  }

  static void *const *state(const Args &a, int which) {
    return which == 0 ? a.exp_avgs : a.exp_avg_sqs;
  }

  static void *const *extra(const Args &a, int) {
    return reinterpret_cast<void *const *>(a.norms);
  }

  static bool maximize(const Args &a) { return a.flags & ACCEL_LAMB_MAXIMIZE; }
  static bool is_rare(const Args &) { return false; }

  static ACCEL_DEVICE Scalars scalars(const Numbers &n, const AtStep &at, const void *norms) {
    const bool correct = n.flags & ACCEL_LAMB_BIAS_CORRECTION;
    const bool inside = n.flags & ACCEL_LAMB_EPS_INSIDE;
    const double c1 = correct ? 1.0 - pow(n.beta1, at.step) : 1.0;
    const double c2 = correct ? 1.0 - pow(n.beta2, at.step) : 1.0;
    const double coeff = APPLY ? coefficient(n, static_cast<const double *>(norms)) : 1.0;
    const float eps = static_cast<float>(n.eps);
    return {at.grad_factor,
            static_cast<float>(n.beta1),
            static_cast<float>(1.0 - n.beta1),
            static_cast<float>(n.beta2),
            static_cast<float>(1.0 - n.beta2),
            inside ? eps : 0.0f,
            inside ? 0.0f : eps,
            static_cast<float>(at.weight_decay),
            static_cast<float>(at.lr * sqrt(c2) / c1 * coeff)};
  }
};

// One thread a tensor, the empty ones too: norms begin at zero, coefficients are written.
template <int CAPACITY>
struct NormTable {
  Common common;
  LambNumbers numbers;
  int32_t count;
  bool clear;
  double *norms[CAPACITY];
  float *coeffs[CAPACITY];
};

template <int CAPACITY>
ACCEL_KERNEL norm_kernel(const ACCEL_KERNEL_CONSTANT NormTable<CAPACITY> table) {
  const uint32_t j = block_index() * static_cast<uint32_t>(kThreads) + thread_index();
  if (j >= static_cast<uint32_t>(table.count) || is_skipped(table.common)) return;
  double *const norms = table.norms[j];
  if (table.clear) norms[0] = norms[1] = 0.0;
  else *table.coeffs[j] = static_cast<float>(coefficient(table.numbers, norms));
}

int32_t for_norms(const accel_lamb_args &a, const Common &common, bool clear, Stream stream) {
  constexpr int64_t kBeside = sizeof(Common) + sizeof(LambNumbers) + 24;
  constexpr int kCapacity = static_cast<int>((kParameterBytes - kBeside) / 16);
  NormTable<kCapacity> table;
  table.common = common;
  table.numbers = Lamb<true>::numbers(a);
  table.clear = clear;
  for (int64_t first = 0; first < a.count; first += kCapacity) {
    table.count = static_cast<int32_t>(a.count - first < kCapacity ? a.count - first : kCapacity);
    for (int32_t j = 0; j < table.count; ++j) {
      table.norms[j] = a.norms[first + j];
      table.coeffs[j] = clear ? nullptr : a.coeffs[first + j];
    }
    const int32_t blocks = (table.count + kThreads - 1) / kThreads;
    const int32_t status = launch(norm_kernel<kCapacity>, blocks, stream, table);
    if (status != ACCEL_OK) return status;
  }
  return ACCEL_OK;
}

int32_t run(const accel_lamb_args &a, Stream stream) {
  const bool moments = a.flags & ACCEL_LAMB_MOMENTS, apply = a.flags & ACCEL_LAMB_APPLY;
  // A call that only applies comes after the one that counted.
  const Common common = common_of(a, a.flags & ACCEL_LAMB_MAXIMIZE, moments, moments);
  int32_t status = ACCEL_OK;
  if (moments) status = for_norms(a, common, true, stream);
  if (moments && status == ACCEL_OK) status = step_all<Lamb<false>>(a, common, stream);
  if (apply && a.coeffs && status == ACCEL_OK) status = for_norms(a, common, false, stream);
  if (apply && status == ACCEL_OK) status = step_all<Lamb<true>>(a, common, stream);
  if (moments && a.steps && status == ACCEL_OK) status = count_steps(a, common, stream);
  return status;
}

int32_t check(const accel_lamb_args *a) {
  constexpr uint32_t kPhases = ACCEL_LAMB_MOMENTS | ACCEL_LAMB_APPLY;
  const int32_t status = check_device_args(a, 2 * ACCEL_LAMB_APPLY - 1);
  if (status != ACCEL_OK) return status;
  if (!(a->flags & kPhases)) return ACCEL_BAD_ARGUMENT;
  if (a->count && (!a->exp_avgs || !a->exp_avg_sqs || !a->norms)) return ACCEL_BAD_ARGUMENT;
  return ACCEL_OK;
}

}  // namespace
}  // namespace accel

int32_t accel_lamb_step(const accel_lamb_args *args, void *stream) {
  const int32_t status = accel::check(args);
  if (status != ACCEL_OK || args->count == 0) return status;
  return accel::run(*args, static_cast<accel::Stream>(stream));
}
