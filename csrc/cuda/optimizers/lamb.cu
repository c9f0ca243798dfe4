// SPDX-License-Identifier: Apache-2.0
// LAMB on CUDA devices: see accel/lamb.h for the phases. The sums of a tensor's blocks are added to
// `norms` atomically, in no fixed order.

#include "optimizer.h"
#include "reduce.h"
#include "status.h"

#include "../../common/optimizers/lamb.h"

namespace accel {
namespace {

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
    for (int k = 0; k < N; ++k) lamb_moments(g[k], m[k], v[k], s);
    this->store_state(0, i, m);
    this->store_state(1, i, v);
    if (this->table.common.state_dtype != ACCEL_FLOAT32) {
      this->load_state(0, i, m);
      this->load_state(1, i, v);
    }
    ACCEL_UNROLL
    for (int k = 0; k < N; ++k) {
      const float u = lamb_direction(p[k], m[k], v[k], s);
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
      p[k] = p[k] - this->scalars.rate * lamb_direction(p[k], m[k], v[k], this->scalars);
    this->store_param(i, p);
  }
};

template <bool APPLY>
struct LambPhase : Lamb {
  struct Scalars : LambScalars {
    float rate;  // lr * sqrt(c2) / c1 * coeff
  };

  template <class T, class Here>
  using Body = std::conditional_t<APPLY, ApplyBody<LambPhase, T, Here>, MomentsBody<LambPhase, T, Here>>;

  static ACCEL_DEVICE Scalars scalars(const Numbers &n, const AtStep &at, const void *norms) {
    const double coeff = APPLY ? coefficient(n, static_cast<const double *>(norms)) : 1.0;
    return {Lamb::scalars(n, at), static_cast<float>(rate(n, at) * coeff)};
  }
};

// One thread a tensor, the empty ones too: norms begin at zero, coefficients are written.
template <int CAPACITY>
struct NormTable {
  Common common;
  Lamb::Numbers numbers;
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
  else *table.coeffs[j] = static_cast<float>(Lamb::coefficient(table.numbers, norms));
}

int32_t for_norms(const accel_lamb_args &a, const Common &common, bool clear, Stream stream) {
  constexpr int64_t kBeside = sizeof(Common) + sizeof(Lamb::Numbers) + 24;
  constexpr int kCapacity = static_cast<int>((kParameterBytes - kBeside) / 16);
  NormTable<kCapacity> table;
  table.common = common;
  table.numbers = Lamb::numbers(a);
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
  const Common common = common_of<Lamb>(a, moments, moments);
  int32_t status = ACCEL_OK;
  if (moments) status = for_norms(a, common, true, stream);
  if (moments && status == ACCEL_OK) status = step_all<LambPhase<false>>(a, common, stream);
  if (apply && a.coeffs && status == ACCEL_OK) status = for_norms(a, common, false, stream);
  if (apply && status == ACCEL_OK) status = step_all<LambPhase<true>>(a, common, stream);
  if (moments && a.steps && status == ACCEL_OK) status = count_steps(a, common, stream);
  return status;
}

}  // namespace
}  // namespace accel

int32_t accel_lamb_step(const accel_lamb_args *args, void *stream) {
  const int32_t status = accel::check<accel::Lamb>(args, true);
  if (status != ACCEL_OK || args->count == 0) return status;
  return accel::run(*args, static_cast<accel::Stream>(stream));
}
