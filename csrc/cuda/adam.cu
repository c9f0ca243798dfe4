// SPDX-License-Identifier: Apache-2.0
// Adam, AdamW and AMSGrad on CUDA devices: see accel/adam.h for the arithmetic. Nothing here waits
// for the device, so that a step can be captured in a graph.

#include <cmath>
#include <cstddef>

#include "accel/adam.h"
#include "elements.h"
#include "pieces.h"
#include "status.h"

namespace accel {
namespace {

enum Role { kParam, kGrad, kExpAvg, kExpAvgSq, kMaxExpAvgSq, kMaster, kStep, kRoles };

// What a call has in common for all its tensors.
struct AdamCall {
  double lr, beta1, beta2, eps, weight_decay, step;
  const float *grad_scale, *found_inf, *lr_tensor;
  const int32_t *noop_flag;
  uint64_t seed;
  int32_t param_dtype, grad_dtype, state_dtype;
  uint32_t flags;
  bool stochastic;
};

// What the loop needs of the hyper-parameters at one step, prepared in double.
struct AdamScalars {
  float grad_factor;  // 1 / grad_scale, negative to maximize
  float l2;           // weight decay of the L2 mode, else 0
  float keep;         // 1 - lr * weight_decay of the decoupled mode, else 1
  float m_weight, v_weight, beta2;
  float root_factor;  // 1 / sqrt(c2)
  float eps;
  float step_size;    // lr / c1
  bool from_grad;     // beta1 <= 0.5
};

ACCEL_DEVICE AdamScalars scalars_at(const AdamCall &a, const float *step_tensor) {
  const bool back = a.flags & ACCEL_ADAM_ROLLBACK, decoupled = a.flags & ACCEL_ADAM_ADAMW;
  const double lr = a.lr_tensor ? *a.lr_tensor : a.lr;
  const double step = step_tensor ? *step_tensor + (back ? 0.0 : 1.0) : a.step;
  const bool correct = a.flags & ACCEL_ADAM_BIAS_CORRECTION;
  const double c1 = correct ? 1.0 - pow(a.beta1, step) : 1.0;
  const double c2 = correct ? 1.0 - pow(a.beta2, step) : 1.0;
  const double scale = a.grad_scale ? 1.0 / static_cast<double>(*a.grad_scale) : 1.0;
  AdamScalars s;
  s.grad_factor = static_cast<float>(a.flags & ACCEL_ADAM_MAXIMIZE ? -scale : scale);
  s.l2 = decoupled ? 0.0f : static_cast<float>(a.weight_decay);
  s.keep = decoupled ? static_cast<float>(1.0 - lr * a.weight_decay) : 1.0f;
  s.from_grad = 1.0 - a.beta1 >= 0.5;
  s.m_weight = static_cast<float>(s.from_grad ? -a.beta1 : 1.0 - a.beta1);
  s.v_weight = static_cast<float>(1.0 - a.beta2);
  s.beta2 = static_cast<float>(a.beta2);
  s.root_factor = static_cast<float>(1.0 / sqrt(c2));
  s.eps = static_cast<float>(a.eps);
  s.step_size = static_cast<float>(lr / c1);
  return s;
}

ACCEL_DEVICE bool is_skipped(const AdamCall &a) {
  return (a.noop_flag && *a.noop_flag != 0) || (a.found_inf && *a.found_inf != 0.0f);
}

ACCEL_DEVICE void adam(const AdamScalars &s, float grad, float &p, float &m, float &v, float *max_v) {
  float g = grad * s.grad_factor;
  if (s.l2 != 0.0f) g = g + s.l2 * p;
  // torch's lerp: measured from the nearer end, so that a weight of 1 gives g exactly.
  m = (s.from_grad ? g : m) + s.m_weight * (g - m);
  v = s.beta2 * v + s.v_weight * g * g;
  float second = v;
  if (max_v) {
    if (*max_v > v || *max_v != *max_v) second = *max_v;
    *max_v = second;
  }
  p = p * s.keep - s.step_size * m / (sqrtf(second) * s.root_factor + s.eps);
}

// Undoes a step in the order in which it was done backwards.
ACCEL_DEVICE void adam_back(const AdamScalars &s, float grad, float &p, float &m, float &v) {
  const float beta1 = s.from_grad ? -s.m_weight : 1.0f - s.m_weight;
  p = (p + s.step_size * m / (sqrtf(v) * s.root_factor + s.eps)) / s.keep;
  float g = grad * s.grad_factor;
  if (s.l2 != 0.0f) g = g + s.l2 * p;
  m = (m - (1.0f - beta1) * g) / beta1;
  const float old_v = (v - s.v_weight * g * g) / s.beta2;
  v = old_v < 0.0f ? 0.0f : old_v;
}

// A kernel's element types, and the elements that one access of 16 bytes (two for float32 beside a
// 16-bit type) takes. RARE adds AMSGrad and rollback, whose registers the others need not have.
template <class P, class G, class S, int N, bool RARE>
struct AdamTypes {
  using Param = P;
  using Grad = G;
  using State = S;
  static constexpr int kVector = N;
  static constexpr bool kRare = RARE;
};

template <int CAPACITY>
struct AdamTable {
  AdamCall call;
  Tensors<kRoles, CAPACITY> tensors;
};

template <class Types, class Table>
struct AdamBody {
  const Table &table;
  const AdamScalars &s;
  int32_t slot;

  ACCEL_DEVICE void *place(Role role) const { return table.tensors.at[role][slot]; }

  ACCEL_DEVICE Rounding rounding(uint64_t stream) const {
    return {table.call.stochastic,
            table.call.stochastic
                ? accel_random_key(table.call.seed, table.tensors.index[slot], stream)
                : 0};
  }

  template <int N>
  ACCEL_DEVICE void at(int64_t i) const {
    const typename Types::Param P{};
    const typename Types::Grad G{};
    const typename Types::State S{};
    const AdamCall &a = table.call;
    void *const master = place(kMaster);
    float p[N], g[N], m[N], v[N], max_v[N];
    const bool amsgrad = Types::kRare && (a.flags & ACCEL_ADAM_AMSGRAD);
    load(G, a.grad_dtype, place(kGrad), i, g);
    load(S, a.state_dtype, place(kExpAvg), i, m);
    load(S, a.state_dtype, place(kExpAvgSq), i, v);
    if (master) load(Float32(), ACCEL_FLOAT32, master, i, p);
    else load(P, a.param_dtype, place(kParam), i, p);
    if (amsgrad) load(S, a.state_dtype, place(kMaxExpAvgSq), i, max_v);
    if (Types::kRare && (a.flags & ACCEL_ADAM_ROLLBACK)) {
      ACCEL_UNROLL
      for (int k = 0; k < N; ++k) adam_back(s, g[k], p[k], m[k], v[k]);
    } else {
      ACCEL_UNROLL
      for (int k = 0; k < N; ++k) adam(s, g[k], p[k], m[k], v[k], amsgrad ? &max_v[k] : nullptr);
    }
    if (master) store(Float32(), ACCEL_FLOAT32, master, i, p, rounding(0));
    store(P, a.param_dtype, place(kParam), i, p, rounding(0));
    store(S, a.state_dtype, place(kExpAvg), i, m, rounding(1));
    store(S, a.state_dtype, place(kExpAvgSq), i, v, rounding(2));
    if (amsgrad) store(S, a.state_dtype, place(kMaxExpAvgSq), i, max_v, rounding(3));
  }
};

template <class Types, class Table>
ACCEL_KERNEL adam_kernel(const ACCEL_KERNEL_CONSTANT Table table) {
  if (is_skipped(table.call)) return;
  const Piece piece = piece_of(table.tensors, block_index());
  ACCEL_SHARED AdamScalars s;
  if (thread_index() == 0)
    s = scalars_at(table.call, static_cast<const float *>(table.tensors.at[kStep][piece.slot]));
  block_barrier();
  const AdamBody<Types, Table> body{table, s, piece.slot};
  for_share<Types::kVector>(piece.begin, piece.end, is_aligned(table.tensors, piece.slot, kStep), body);
}

// One thread a step tensor: after the kernels that read it, on the same stream.
template <int CAPACITY>
struct StepTable {
  AdamCall call;
  int32_t count;
  float *steps[CAPACITY];
};

template <class Table>
ACCEL_KERNEL advance_kernel(const ACCEL_KERNEL_CONSTANT Table table) {
  const int32_t j = static_cast<int32_t>(block_index()) * kThreads + static_cast<int32_t>(thread_index());
  if (j >= table.count || is_skipped(table.call)) return;
  *table.steps[j] += table.call.flags & ACCEL_ADAM_ROLLBACK ? -1.0f : 1.0f;
}

int32_t advance(const accel_adam_args &a, const AdamCall &call, Stream stream) {
  constexpr int kCapacity = static_cast<int>((kParameterBytes - sizeof(AdamCall) - 16) / 8);
  StepTable<kCapacity> table;
  table.call = call;
  for (int64_t first = 0; first < a.count; first += kCapacity) {
    table.count = static_cast<int32_t>(a.count - first < kCapacity ? a.count - first : kCapacity);
    for (int32_t j = 0; j < table.count; ++j) table.steps[j] = a.steps[first + j];
    const int32_t blocks = (table.count + kThreads - 1) / kThreads;
    const int32_t status = launch(advance_kernel<decltype(table)>, blocks, stream, table);
    if (status != ACCEL_OK) return status;
  }
  return ACCEL_OK;
}

template <class Types, int CAPACITY>
int32_t run(const accel_adam_args &a, const AdamCall &call, Stream stream) {
  AdamTable<CAPACITY> table;
  table.call = call;
  const auto place = [&a](int role, int64_t i) -> void * {
    switch (role) {
      case kParam: return a.params[i];
      case kGrad: return const_cast<void *>(a.grads[i]);
      case kExpAvg: return a.exp_avgs[i];
      case kExpAvgSq: return a.exp_avg_sqs[i];
      case kMaxExpAvgSq: return a.max_exp_avg_sqs ? a.max_exp_avg_sqs[i] : nullptr;
      case kMaster: return a.masters ? a.masters[i] : nullptr;
      default: return a.steps ? a.steps[i] : nullptr;
    }
  };
  const auto flush = [&](const Tensors<kRoles, CAPACITY> &, int64_t blocks) {
    return launch(adam_kernel<Types, AdamTable<CAPACITY>>, blocks, stream, table);
  };
  return for_launches(table.tensors, a.numels, a.count, place, flush);
}

// A launch copies all its parameters, so few tensors travel in a small table.
template <class Types>
int32_t run(const accel_adam_args &a, const AdamCall &call, Stream stream) {
  constexpr int kFew = capacity_for(kRoles, sizeof(AdamCall), 1024);
  constexpr int kMany = capacity_for(kRoles, sizeof(AdamCall));
  return a.count <= kFew ? run<Types, kFew>(a, call, stream) : run<Types, kMany>(a, call, stream);
}

int32_t dispatch(const accel_adam_args &a, const AdamCall &call, Stream stream) {
  using F = Float32;
  using B = BFloat16;
  using H = Float16;
  const auto are = [&a](int32_t param, int32_t grad, int32_t state) {
    return a.param_dtype == param && a.grad_dtype == grad && a.state_dtype == state;
  };
  const bool rare = a.flags & (ACCEL_ADAM_AMSGRAD | ACCEL_ADAM_ROLLBACK);
  if (!rare && are(ACCEL_FLOAT32, ACCEL_FLOAT32, ACCEL_FLOAT32))
    return run<AdamTypes<F, F, F, 4, false>>(a, call, stream);
  if (!rare && are(ACCEL_BFLOAT16, ACCEL_BFLOAT16, ACCEL_FLOAT32))
    return run<AdamTypes<B, B, F, 8, false>>(a, call, stream);
  if (!rare && are(ACCEL_FLOAT16, ACCEL_FLOAT16, ACCEL_FLOAT32))
    return run<AdamTypes<H, H, F, 8, false>>(a, call, stream);
  if (!rare && are(ACCEL_BFLOAT16, ACCEL_BFLOAT16, ACCEL_BFLOAT16))
    return run<AdamTypes<B, B, B, 8, false>>(a, call, stream);
  return run<AdamTypes<Any, Any, Any, 8, true>>(a, call, stream);
}

bool is_dtype(int32_t dtype) { return dtype >= ACCEL_FLOAT32 && dtype <= ACCEL_FLOAT16; }

int32_t check(const accel_adam_args *a) {
  if (!a) return ACCEL_BAD_ARGUMENT;
  if (a->struct_size != sizeof *a) return ACCEL_BAD_STRUCT;
  constexpr uint32_t kFlags = 2 * ACCEL_ADAM_ROLLBACK - 1;
  if (a->count < 0 || a->flags > kFlags) return ACCEL_BAD_ARGUMENT;
  if (!is_dtype(a->param_dtype) || !is_dtype(a->grad_dtype) || !is_dtype(a->state_dtype))
    return ACCEL_BAD_DTYPE;
  if (a->rounding < ACCEL_ROUND_NEAREST || a->rounding > ACCEL_ROUND_STOCHASTIC)
    return ACCEL_BAD_ARGUMENT;
  if (a->count == 0) return ACCEL_OK;
  if (!a->numels || !a->params || !a->grads || !a->exp_avgs || !a->exp_avg_sqs)
    return ACCEL_BAD_ARGUMENT;
  const bool amsgrad = a->flags & ACCEL_ADAM_AMSGRAD;
  if (amsgrad != (a->max_exp_avg_sqs != nullptr)) return ACCEL_BAD_ARGUMENT;
  if ((a->flags & ACCEL_ADAM_ROLLBACK) &&
      (amsgrad || a->rounding != ACCEL_ROUND_NEAREST || a->beta1 == 0.0 || a->beta2 == 0.0))
    return ACCEL_UNSUPPORTED;
  for (int64_t i = 0; i < a->count; ++i)
    if (a->numels[i] < 0) return ACCEL_BAD_ARGUMENT;
  return ACCEL_OK;
}

}  // namespace
}  // namespace accel

int32_t accel_adam_step(const accel_adam_args *args, void *stream) {
  const int32_t status = accel::check(args);
  if (status != ACCEL_OK || args->count == 0) return status;
  const accel_adam_args &a = *args;
  const accel::AdamCall call = {
      a.lr,        a.beta1,       a.beta2,      a.eps,         a.weight_decay,
      static_cast<double>(a.step), a.grad_scale, a.found_inf,   a.lr_tensor,
      a.noop_flag, a.seed,        a.param_dtype, a.grad_dtype,  a.state_dtype,
      a.flags,     a.rounding == ACCEL_ROUND_STOCHASTIC};
  const accel::Stream on = static_cast<accel::Stream>(stream);
  const int32_t done = accel::dispatch(a, call, on);
  return done == ACCEL_OK && a.steps ? accel::advance(a, call, on) : done;
}
