// SPDX-License-Identifier: Apache-2.0
// Code shared by all element-wise optimizer ops on CUDA devices: checks, the kernel, its launches.
// Nothing here waits for the device, so that a step can be captured in a graph.
//
// An op is a class derived from `OnDevice` below, with
//   update(scalars, grad, p, state)   one element's update, in the default body
//   Body<T, Table>                    the work of one thread on one piece
//   scalars(numbers, at, extra)       made on the device; `extra` is the first further array's pointer
#pragma once

#include <cmath>
#include <type_traits>

#include "elements.h"

#include "../../common/optimizer.h"
#include "pieces.h"

namespace accel {

// The numbers of a call that all ops have, the same for all tensors.
struct Common {
  double lr, weight_decay, step;
  const float *grad_scale, *found_inf, *lr_tensor;
  const int32_t *noop_flag;
  uint64_t seed;
  int32_t param_dtype, grad_dtype, state_dtype;
  bool stochastic, maximize;
  int8_t ahead;     // of the steps done before: 1, or 0 if a step is undone or half done
  int8_t count_by;  // the amount that the kernels of this call add to the steps
};

template <class Op>
Common common_of(const typename Op::Args &a, int ahead, int count_by) {
  return {a.lr,         a.weight_decay, static_cast<double>(a.step),
          a.grad_scale, a.found_inf,    a.lr_tensor,
          a.noop_flag,  a.seed,         a.param_dtype,
          a.grad_dtype, a.state_dtype,  a.rounding == ACCEL_ROUND_STOCHASTIC,
          Op::maximize(a), static_cast<int8_t>(ahead),
          static_cast<int8_t>(count_by)};
}

// A kernel's element types, the elements that one access of 16 bytes (two for float32 beside a
// 16-bit type) takes, and how many states it handles.
template <class P, class G, class S, int N, int STATES>
struct Types {
  using Param = P;
  using Grad = G;
  using State = S;
  static constexpr int kVector = N;
  static constexpr int kStates = STATES;
};

template <class Op, int CAPACITY>
struct Table {
  static constexpr int kMaster = 2 + Op::kStates;
  static constexpr int kStep = 3 + Op::kStates;
  static constexpr int kExtra = 4 + Op::kStates;
  // Parameter, gradient, states, master, step, extra.
  static constexpr int kRoles = kExtra + Op::kExtra;
  Common common;
  typename Op::Numbers numbers;
  Tensors<kRoles, CAPACITY> tensors;
};

// The base of every body, which finds its tensors.
template <class Op, class T, class Here>
struct OnTensor {
  const Here &table;
  const typename Op::Scalars &scalars;
  uint64_t seed;  // of the tensor's step
  int32_t slot;
  bool aligned;

  ACCEL_DEVICE void *place(int role) const { return table.tensors.at[role][slot]; }
  ACCEL_DEVICE void *master() const { return place(Here::kMaster); }

  ACCEL_DEVICE Rounding rounding(uint64_t stream) const {
    const Common &a = table.common;
    return {a.stochastic, a.stochastic ? key(stream) : 0};
  }

  ACCEL_DEVICE uint64_t key(uint64_t stream) const {
    return accel_random_key(seed, table.tensors.index[slot], stream);
  }

  template <int N>
  ACCEL_DEVICE void load_param(int64_t i, float (&p)[N]) const {
    if (master()) load(Float32(), ACCEL_FLOAT32, master(), i, p);
    else load(typename T::Param(), table.common.param_dtype, place(0), i, p);
  }

  template <int N>
  ACCEL_DEVICE void store_param(int64_t i, const float (&p)[N]) const {
    if (master()) store(Float32(), ACCEL_FLOAT32, master(), i, p, rounding(0));
    store(typename T::Param(), table.common.param_dtype, place(0), i, p, rounding(0));
  }

  template <int N>
  ACCEL_DEVICE void load_grad(int64_t i, float (&g)[N]) const {
    load(typename T::Grad(), table.common.grad_dtype, place(1), i, g);
  }

  template <int N>
  ACCEL_DEVICE void load_state(int which, int64_t i, float (&x)[N]) const {
    load(typename T::State(), table.common.state_dtype, place(2 + which), i, x);
  }

  template <int N>
  ACCEL_DEVICE void store_state(int which, int64_t i, const float (&x)[N]) const {
    const uint64_t stream = static_cast<uint64_t>(1 + which);
    store(typename T::State(), table.common.state_dtype, place(2 + which), i, x, rounding(stream));
  }
};

// The body of an op that updates every element by itself.
template <class Op, class T, class Here>
struct Elements : OnTensor<Op, T, Here> {
  ACCEL_DEVICE void run(const Piece &piece) {
    for_share<T::kVector>(piece.begin, piece.end, this->aligned, *this);
  }

  template <int N>
  ACCEL_DEVICE void at(int64_t i) {
    float p[N], g[N], states[T::kStates][N] = {};
    this->load_grad(i, g);
    ACCEL_UNROLL
    for (int r = 0; r < T::kStates; ++r)
      if (this->place(2 + r)) this->load_state(r, i, states[r]);
    this->load_param(i, p);
    ACCEL_UNROLL
    for (int k = 0; k < N; ++k) {
      float state[T::kStates];
      ACCEL_UNROLL
      for (int r = 0; r < T::kStates; ++r) state[r] = states[r][k];
      Op::update(this->scalars, g[k], p[k], state);
      ACCEL_UNROLL
      for (int r = 0; r < T::kStates; ++r) states[r][k] = state[r];
    }
    this->store_param(i, p);
    ACCEL_UNROLL
    for (int r = 0; r < T::kStates; ++r)
      if (this->place(2 + r)) this->store_state(r, i, states[r]);
  }
};

template <class Op, class Shared>
struct OnDevice : Shared {
  template <class T, class Here>
  using Body = Elements<Op, T, Here>;

  static ACCEL_DEVICE typename Shared::Scalars scalars(const typename Shared::Numbers &numbers,
                                                       const AtStep &at, const void *) {
    return Shared::scalars(numbers, at);
  }
};

template <class Op, class T, int CAPACITY>
ACCEL_KERNEL step_kernel(const ACCEL_KERNEL_CONSTANT Table<Op, CAPACITY> table) {
  using Here = Table<Op, CAPACITY>;
  if (is_skipped(table.common)) return;
  const Piece piece = piece_of(table.tensors, block_index());
  ACCEL_SHARED typename Op::Scalars scalars;
  ACCEL_SHARED uint64_t seed;
  if (thread_index() == 0) {
    const float *const step = static_cast<const float *>(table.tensors.at[Here::kStep][piece.slot]);
    void *const extra = Op::kExtra ? table.tensors.at[Here::kRoles - Op::kExtra][piece.slot] : nullptr;
    const Common &common = table.common;
    const double number =
        step ? static_cast<double>(*step + static_cast<float>(common.ahead)) : common.step;
    scalars = Op::scalars(table.numbers, at_step(common, common.maximize, number), extra);
    seed = accel_random_seed(common.seed, static_cast<int64_t>(number));
  }
  block_barrier();
  const bool aligned = is_aligned(table.tensors, piece.slot, Here::kStep);
  typename Op::template Body<T, Here> body{{table, scalars, seed, piece.slot, aligned}};
  body.run(piece);
}

template <class Op, class T, int CAPACITY>
int32_t launch_steps(const typename Op::Args &a, const Common &common, Stream stream) {
  using Here = Table<Op, CAPACITY>;
  Here table;
  table.common = common;
  table.numbers = Op::numbers(a);
  const auto place = [&a](int role, int64_t i) -> void * {
    if (role == 0) return a.params[i];
    if (role == 1) return const_cast<void *>(a.grads[i]);
    if (role == Here::kMaster) return a.masters ? a.masters[i] : nullptr;
    if (role == Here::kStep) return a.steps ? a.steps[i] : nullptr;
    void *const *const listed =
        role < Here::kMaster ? Op::state(a, role - 2) : Op::extra(a, role - Here::kExtra);
    return listed ? listed[i] : nullptr;
  };
  const auto flush = [&](const Tensors<Here::kRoles, CAPACITY> &, int64_t blocks) {
    return launch(step_kernel<Op, T, CAPACITY>, blocks, stream, table);
  };
  return for_launches(table.tensors, a.numels, a.count, place, flush, a.tensor_numbers);
}

// A launch copies all its parameters, so a few tensors use a small table.
template <class Op, class T>
int32_t step_as(const typename Op::Args &a, const Common &common, Stream stream) {
  constexpr int64_t kBeside = sizeof(Common) + sizeof(typename Op::Numbers) + 16;
  constexpr int kRoles = Table<Op, 1>::kRoles;
  constexpr int kFew = capacity_for(kRoles, kBeside, 1024);
  constexpr int kMany = capacity_for(kRoles, kBeside);
  return a.count <= kFew ? launch_steps<Op, T, kFew>(a, common, stream)
                         : launch_steps<Op, T, kMany>(a, common, stream);
}

// The usual element types have kernels of their own; the others are told apart at run time.
template <class Op>
int32_t step_all(const typename Op::Args &a, const Common &common, Stream stream) {
  constexpr int kUsual = Op::kUsualStates;
  const auto are = [&a](int32_t param, int32_t grad, int32_t state) {
    return a.param_dtype == param && a.grad_dtype == grad && a.state_dtype == state;
  };
  if (!Op::is_rare(a)) {
    if (are(ACCEL_FLOAT32, ACCEL_FLOAT32, ACCEL_FLOAT32))
      return step_as<Op, Types<Float32, Float32, Float32, 4, kUsual>>(a, common, stream);
    if (are(ACCEL_BFLOAT16, ACCEL_BFLOAT16, ACCEL_FLOAT32))
      return step_as<Op, Types<BFloat16, BFloat16, Float32, 8, kUsual>>(a, common, stream);
    if (are(ACCEL_FLOAT16, ACCEL_FLOAT16, ACCEL_FLOAT32))
      return step_as<Op, Types<Float16, Float16, Float32, 8, kUsual>>(a, common, stream);
    if (are(ACCEL_BFLOAT16, ACCEL_BFLOAT16, ACCEL_BFLOAT16))
      return step_as<Op, Types<BFloat16, BFloat16, BFloat16, 8, kUsual>>(a, common, stream);
  }
  return step_as<Op, Types<Any, Any, Any, 8, Op::kStates>>(a, common, stream);
}

// Step tensors are counted after the kernels that read them, on the same stream.
template <int CAPACITY>
struct StepTable {
  Common common;
  int32_t count;
  float *steps[CAPACITY];
};

template <int CAPACITY>
ACCEL_KERNEL count_kernel(const ACCEL_KERNEL_CONSTANT StepTable<CAPACITY> table) {
  const uint32_t j = block_index() * static_cast<uint32_t>(kThreads) + thread_index();
  if (j >= static_cast<uint32_t>(table.count) || is_skipped(table.common)) return;
  *table.steps[j] += static_cast<float>(table.common.count_by);
}

template <class Args>
int32_t count_steps(const Args &a, const Common &common, Stream stream) {
  constexpr int kCapacity = static_cast<int>((kParameterBytes - sizeof(Common) - 16) / 8);
  StepTable<kCapacity> table;
  table.common = common;
  for (int64_t first = 0; first < a.count; first += kCapacity) {
    table.count = static_cast<int32_t>(a.count - first < kCapacity ? a.count - first : kCapacity);
    for (int32_t j = 0; j < table.count; ++j) table.steps[j] = a.steps[first + j];
    const int32_t blocks = (table.count + kThreads - 1) / kThreads;
    const int32_t status = launch(count_kernel<kCapacity>, blocks, stream, table);
    if (status != ACCEL_OK) return status;
  }
  return ACCEL_OK;
}

// The entry point of a one-kernel op. A step that is undone counts backwards.
template <class Op>
int32_t step(const typename Op::Args *args, void *stream) {
  int32_t status = check<Op>(args, true);
  if (status != ACCEL_OK || args->count == 0) return status;
  const bool undone = Op::undone(*args);
  const Common common = common_of<Op>(*args, undone ? 0 : 1, undone ? -1 : 1);
  const Stream on = static_cast<Stream>(stream);
  status = step_all<Op>(*args, common, on);
  return status == ACCEL_OK && args->steps ? count_steps(*args, common, on) : status;
}

}  // namespace accel
