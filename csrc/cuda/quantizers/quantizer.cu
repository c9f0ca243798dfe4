// SPDX-License-Identifier: Apache-2.0
// Integer codes over groups on CUDA devices: see accel/quantizer.h for the format. A block encodes one
// group at a time.

// The device runtime first: the formulas use its keywords.
#include "elements.h"

#include "../../common/quantizers/groups_call.h"
#include "status.h"

namespace accel {
namespace {

constexpr int kVector = 4;                // elements of one access
constexpr int64_t kMostBlocks = 1 << 20;  // of a launch, whose threads go on at a stride

struct Call {
  const void *vals;
  void *out;
  const int8_t *quantized;
  int8_t *codes;
  const float *params;
  float *new_params;
  int64_t groups, count, numel;  // count: elements of a group
  int64_t in_count;              // elements of a group that is read
  int64_t grid;
  Swizzle swizzle;
  Reduction reduction;
  int32_t dtype;
  bool four, asymmetric;
};

// The least and the largest key of all threads of a block. On the host threads run one after another, so
// a thread that needs them reads all elements itself.
struct Ends {
  int32_t least = 0x7FFFFFFF, most = -0x7FFFFFFF - 1;

  ACCEL_DEVICE void add(float x) {
    const int32_t key = rising_key(bits_of(x));
    least = key < least ? key : least;
    most = key > most ? key : most;
  }
};

#if defined(ACCEL_HOST_BUILD)
constexpr int64_t kShare = 1;
inline int64_t first_of_share() { return 0; }
inline void over_block(Ends &) {}
#else
constexpr int64_t kShare = kThreads;
__device__ __forceinline__ int64_t first_of_share() { return threadIdx.x; }
__device__ __forceinline__ void over_block(Ends &ends) {
  __shared__ int32_t least[kThreads], most[kThreads];
  least[threadIdx.x] = ends.least;
  most[threadIdx.x] = ends.most;
  __syncthreads();
#pragma unroll
  for (int width = kThreads / 2; width > 0; width /= 2) {
    if (threadIdx.x < width) {
      const int other = threadIdx.x + width;
      least[threadIdx.x] = least[other] < least[threadIdx.x] ? least[other] : least[threadIdx.x];
      most[threadIdx.x] = most[other] > most[threadIdx.x] ? most[other] : most[threadIdx.x];
    }
    __syncthreads();
  }
  ends = {least[0], most[0]};
  __syncthreads();  // before the next group's
}
#endif

struct FromVals {
  const Call &call;
  ACCEL_DEVICE float operator()(int64_t i) const {
    float x[1];
    load(Any(), call.dtype, const_cast<void *>(call.vals), i, x);
    return x[0];
  }
};

ACCEL_DEVICE float element_at(const Call &call, const int8_t *codes, const float *params, int64_t i) {
  return group_element(codes, params, i, call.in_count, call.four, call.asymmetric);
}

struct FromSums {
  const Call &call;
  ACCEL_DEVICE float operator()(int64_t i) const {
    const Reduction &by = call.reduction;
    const int64_t per = call.asymmetric ? 2 : 1;
    float total = 0.0f;
    for (int64_t tensor = 0; tensor < by.devices; ++tensor) {
      const float x = element_at(call, call.quantized + tensor * by.tensor, call.params + tensor * by.in_groups * per, i);
      total = widen(Float16(), narrow(Float16(), total + widen(Float16(), narrow(Float16(), x))));
    }
    return total;
  }
};

template <class Source>
ACCEL_DEVICE void encode(const Call &call, const Source &source) {
  for (int64_t group = block_index(); group < call.groups; group += call.grid) {
    const int64_t first = group * call.count, to = swizzled(call.swizzle, group);
    Ends ends;
    for (int64_t i = first_of_share(); i < call.count; i += kShare) ends.add(source(first + i));
    over_block(ends);
    const Grid grid = grid_of_keys(ends.least, ends.most, call.four ? 4 : 8, call.asymmetric);
    if (thread_index() == 0) {
      float *const params = call.new_params + to * (call.asymmetric ? 2 : 1);
      params[0] = 1.0f / grid.scale;
      if (call.asymmetric) params[1] = grid.offset;
    }
    int8_t *const codes = call.codes + to * (call.four ? call.count / 2 : call.count);
    if (call.four) {
      for (int64_t pair = thread_index(); pair < call.count / 2; pair += kThreads) {
        const uint32_t low = code_on(source(first + 2 * pair), grid);
        const uint32_t high = code_on(source(first + 2 * pair + 1), grid);
        codes[pair] = static_cast<int8_t>((low & 15u) | high << 4);
      }
    } else {
      for (int64_t i = thread_index(); i < call.count; i += kThreads)
        codes[i] = static_cast<int8_t>(code_on(source(first + i), grid));
    }
  }
}

ACCEL_KERNEL quantize_kernel(const ACCEL_KERNEL_CONSTANT Call call) { encode(call, FromVals{call}); }

ACCEL_KERNEL reduce_kernel(const ACCEL_KERNEL_CONSTANT Call call) { encode(call, FromSums{call}); }

struct Decoder {
  const Call &call;

  template <int N>
  ACCEL_DEVICE void at(int64_t i) {
    float x[N];
    ACCEL_UNROLL
    for (int k = 0; k < N; ++k) x[k] = element_at(call, call.quantized, call.params, i + k);
    store(Any(), call.dtype, call.out, i, x, Rounding{false, 0});
  }
};

ACCEL_KERNEL dequantize_kernel(const ACCEL_KERNEL_CONSTANT Call call) {
  Decoder decoder{call};
  const bool aligned = (reinterpret_cast<uintptr_t>(call.out) & 15u) == 0;
  const int64_t threads = call.grid * kThreads;
  const int64_t thread = static_cast<int64_t>(block_index()) * kThreads + thread_index();
  const int64_t whole = aligned ? call.numel / kVector * kVector : 0;
  for (int64_t i = thread * kVector; i < whole; i += threads * kVector) decoder.at<kVector>(i);
  for (int64_t i = whole + thread; i < call.numel; i += threads) decoder.at<1>(i);
}

int32_t run(void (*kernel)(Call), Call &call, int64_t blocks, void *stream) {
  call.grid = blocks < kMostBlocks ? blocks : kMostBlocks;
  return blocks ? launch(kernel, call.grid, static_cast<Stream>(stream), call) : ACCEL_OK;
}

}  // namespace
}  // namespace accel

int32_t accel_group_quantize(const void *vals, int8_t *codes, float *params, int64_t groups, int64_t bits,
                             int32_t asymmetric, int64_t pipeline, int64_t nodes, int64_t devices,
                             int64_t numel, int64_t, int32_t dtype, void *stream) {
  using namespace accel;
  Call call{};
  const int32_t status = quantize_call(call, vals, codes, params, groups, bits, asymmetric != 0,
                                       {pipeline, nodes, devices, 0}, numel, dtype);
  return status == ACCEL_OK ? run(quantize_kernel, call, call.groups, stream) : status;
}

int32_t accel_group_dequantize(const int8_t *quantized, const float *params, void *out, int64_t groups,
                               int64_t bits, int32_t asymmetric, int32_t out_dtype, int64_t bytes, int64_t,
                               int32_t dtype, void *stream) {
  using namespace accel;
  Call call{};
  const int32_t status = dequantize_call(call, quantized, params, out, groups, bits, asymmetric != 0, out_dtype,
                                         bytes, dtype);
  if (status != ACCEL_OK) return status;
  const int64_t per_block = kThreads * kVector;
  return run(dequantize_kernel, call, (call.numel + per_block - 1) / per_block, stream);
}

int32_t accel_group_reduce(const int8_t *quantized, const float *params, int8_t *codes, float *new_params,
                           int64_t in_groups, int64_t out_groups, int64_t bits, int32_t asymmetric,
                           int64_t devices, int64_t bytes, int64_t, int32_t dtype, void *stream) {
  using namespace accel;
  Call call{};
  const int32_t status = reduce_call(call, quantized, params, codes, new_params, in_groups, out_groups, bits,
                                     asymmetric != 0, devices, bytes, dtype);
  return status == ACCEL_OK ? run(reduce_kernel, call, call.groups, stream) : status;
}
