// SPDX-License-Identifier: Apache-2.0
// The device runtime under one set of names: CUDA, HIP, or plain host C++ with ACCEL_HOST_BUILD,
// in which a launch is a loop over blocks and threads, so that index and element code run in tests.
#pragma once

#include <cstdint>

#include "accel/abi.h"

#if defined(ACCEL_HOST_BUILD)

#include "../common/shared.h"

#define ACCEL_KERNEL static void
#define ACCEL_KERNEL_CONSTANT
#define ACCEL_SHARED static thread_local
#define ACCEL_UNROLL
namespace accel {
using Stream = void *;
// Threads of a block run one after another, so a barrier has nothing to wait for.
inline void block_barrier() {}
inline thread_local uint32_t host_block = 0, host_thread = 0;
inline uint32_t block_index() { return host_block; }
inline uint32_t thread_index() { return host_thread; }
}  // namespace accel

#else

#if defined(__HIPCC__)
#include <hip/hip_runtime.h>
#define cudaError_t hipError_t
#define cudaErrorInvalidConfiguration hipErrorInvalidConfiguration
#define cudaGetErrorName hipGetErrorName
#define cudaLaunchKernel hipLaunchKernel
#define cudaStream_t hipStream_t
#define cudaSuccess hipSuccess
#else
#include <cuda_runtime.h>
#endif

#define ACCEL_DEVICE __device__ __forceinline__
#define ACCEL_BOTH __host__ __device__ __forceinline__
#define ACCEL_COPY memcpy
#define ACCEL_KERNEL static __global__ void __launch_bounds__(accel::kThreads)
// Keeps parameters in constant memory if an index into them is known only at run time. The keyword is
// an error for targets before Volta, and all targets of a build have one signature.
#if defined(__CUDACC__) && !defined(__HIPCC__) && !defined(ACCEL_SMALL_PARAMETERS)
#define ACCEL_KERNEL_CONSTANT __grid_constant__
#else
#define ACCEL_KERNEL_CONSTANT
#endif
#define ACCEL_SHARED __shared__
#define ACCEL_UNROLL _Pragma("unroll")
namespace accel {
using Stream = cudaStream_t;
__device__ __forceinline__ void block_barrier() { __syncthreads(); }
__device__ __forceinline__ uint32_t block_index() { return blockIdx.x; }
__device__ __forceinline__ uint32_t thread_index() { return threadIdx.x; }
constexpr uint32_t kPayload16 = 0;  // the bits of a NaN that its float16 keeps
ACCEL_BOTH float root(float x) { return sqrtf(x); }
ACCEL_BOTH double root(double x) { return sqrt(x); }
ACCEL_BOTH double power(double base, double exponent) { return pow(base, exponent); }
ACCEL_BOTH float choose(uint32_t mask, float first, float second) { return mask ? first : second; }
}  // namespace accel

#include "../common/shared.h"

#endif

namespace accel {

constexpr int32_t kThreads = 256;

// The limit on a kernel's parameters: 32764 bytes from CUDA 12.1 and Volta on, 4 KiB before.
#if !defined(ACCEL_SMALL_PARAMETERS) && \
    (defined(ACCEL_HOST_BUILD) || (defined(CUDART_VERSION) && CUDART_VERSION >= 12010))
constexpr int64_t kParameterBytes = 32764;
#else
constexpr int64_t kParameterBytes = 4096;
#endif

// Runs `kernel(argument)` over `blocks` blocks of kThreads; returns an accel_status.
#if defined(ACCEL_HOST_BUILD)
template <class Argument>
int32_t launch(void (*kernel)(Argument), int64_t blocks, Stream, const Argument &argument) {
  for (host_block = 0; host_block < blocks; ++host_block)
    for (host_thread = 0; host_thread < static_cast<uint32_t>(kThreads); ++host_thread)
      kernel(argument);
  return ACCEL_OK;
}
#else
template <class Argument>
int32_t launch(void (*kernel)(Argument), int64_t blocks, Stream stream, const Argument &argument) {
  void *arguments[] = {const_cast<Argument *>(&argument)};
  const cudaError_t error =
      cudaLaunchKernel(reinterpret_cast<const void *>(kernel), dim3(static_cast<unsigned>(blocks)),
                       dim3(kThreads), arguments, 0, stream);
  return error == cudaSuccess ? ACCEL_OK : ACCEL_DEVICE_ERROR + static_cast<int32_t>(error);
}
#endif

}  // namespace accel
