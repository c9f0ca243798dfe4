// SPDX-License-Identifier: Apache-2.0
// Sums over a block and maxima over a warp. On the host a warp has one lane and a block adds thread
// by thread.
#pragma once

#include "runtime.h"

namespace accel {

#if defined(ACCEL_HOST_BUILD)

constexpr int kLanes = 1;
inline uint32_t max_over_warp(uint32_t x) { return x; }
inline void add_over_block(double *total, float x) { *total += static_cast<double>(x); }

#else

#if defined(__HIPCC__)
constexpr int kLanes = 32;  // half of a wavefront on CDNA
template <class T>
__device__ __forceinline__ T from_lane(T x, int offset) { return __shfl_xor(x, offset, kLanes); }
#else
constexpr int kLanes = 32;
template <class T>
__device__ __forceinline__ T from_lane(T x, int offset) {
  return __shfl_xor_sync(0xFFFFFFFFu, x, offset);
}
#endif

__device__ __forceinline__ uint32_t max_over_warp(uint32_t x) {
#pragma unroll
  for (int offset = kLanes / 2; offset > 0; offset /= 2) {
    const uint32_t other = from_lane(x, offset);
    x = other > x ? other : x;
  }
  return x;
}

__device__ __forceinline__ void atomic_add(double *to, double x) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 600
  unsigned long long *const at = reinterpret_cast<unsigned long long *>(to);
  unsigned long long seen = *at, before;
  do {
    before = seen;
    seen = atomicCAS(at, before, __double_as_longlong(x + __longlong_as_double(before)));
  } while (before != seen);
#else
  atomicAdd(to, x);
#endif
}

// Every thread of the block calls it.
__device__ __forceinline__ void add_over_block(double *total, float x) {
  __shared__ double of_warp[kThreads / kLanes];
  double sum = static_cast<double>(x);
#pragma unroll
  for (int offset = kLanes / 2; offset > 0; offset /= 2) sum += from_lane(sum, offset);
  if (threadIdx.x % kLanes == 0) of_warp[threadIdx.x / kLanes] = sum;
  __syncthreads();
  if (threadIdx.x == 0) {
    for (int warp = 1; warp < kThreads / kLanes; ++warp) sum += of_warp[warp];
    atomic_add(total, sum);
  }
  __syncthreads();
}

#endif

}  // namespace accel
