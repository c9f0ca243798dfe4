// SPDX-License-Identifier: Apache-2.0
// Floating-point codes over groups on CUDA devices: see accel/fp_quantizer.h for the format. A block
// encodes one group at a time, a thread as many adjacent codes as fill bytes.

// The device runtime first: the formulas use its keywords.
#include "elements.h"

#include "../../common/quantizers/floats_call.h"
#include "status.h"

namespace accel {
namespace {

constexpr int64_t kMostBlocks = 1 << 20;  // of a launch, whose threads go on at a stride

struct Call {
  void *val;
  uint8_t *rows;
  const int32_t *indexes;  // of a selection, or null
  int64_t groups, each;    // each: groups of an index
  int64_t known;           // groups that there are codes of
  int64_t grid;
  uint64_t key;
  FloatFormat format;
  FloatRows row;
  int32_t dtype, several;  // several: codes that fill bytes
  bool stochastic;
};

// On the host threads run one after another, so one that needs the maximum reads all elements itself.
#if defined(ACCEL_HOST_BUILD)
constexpr int64_t kShare = 1;
inline int64_t first_of_share() { return 0; }
inline uint32_t over_block(uint32_t found) { return found; }
#else
constexpr int64_t kShare = kThreads;
__device__ __forceinline__ int64_t first_of_share() { return threadIdx.x; }
__device__ __forceinline__ uint32_t over_block(uint32_t found) {
  __shared__ uint32_t most[kThreads];
  most[threadIdx.x] = found;
  __syncthreads();
#pragma unroll
  for (int width = kThreads / 2; width > 0; width /= 2) {
    if (threadIdx.x < width) {
      const uint32_t other = most[threadIdx.x + width];
      most[threadIdx.x] = other > most[threadIdx.x] ? other : most[threadIdx.x];
    }
    __syncthreads();
  }
  const uint32_t all = most[0];
  __syncthreads();  // before the next group's
  return all;
}
#endif

ACCEL_DEVICE float element(const Call &call, int64_t i) {
  float x[1];
  load(Any(), call.dtype, call.val, i, x);
  return x[0];
}

ACCEL_DEVICE uint32_t code_of(const Call &call, const FloatGrid &grid, int64_t i) {
  const uint32_t random = call.stochastic ? accel_random_bits(call.key, static_cast<uint64_t>(i)) : 0u;
  return float_code(call.format, grid, bits_of(element(call, i)), call.stochastic, random);
}

ACCEL_KERNEL fp_quantize_kernel(const ACCEL_KERNEL_CONSTANT Call call) {
  const int64_t n = call.row.elements;
  for (int64_t group = block_index(); group < call.groups; group += call.grid) {
    uint32_t largest = 0;
    for (int64_t i = first_of_share(); i < n; i += kShare) {
      const uint32_t magnitude = bits_of(element(call, group * n + i)) & 0x7FFFFFFFu;
      largest = magnitude > largest ? magnitude : largest;
    }
    largest = over_block(largest);
    const FloatGrid grid = float_grid(largest, float_of(largest), call.format.most, float_of(0x7FC00000u));
    uint8_t *const to = call.rows + group * call.row.bytes;
    const int64_t bits = call.format.bits, size = call.several * bits / 8;
    for (int64_t part = thread_index(); part < n / call.several; part += kThreads) {
      uint32_t all = 0;
      for (int32_t k = 0; k < call.several; ++k)
        all |= code_of(call, grid, group * n + part * call.several + k) << (k * bits);
      for (int64_t k = 0; k < size; ++k) to[part * size + k] = static_cast<uint8_t>(all >> (8 * k));
    }
    if (thread_index() == 0)
      for (int k = 0; k < 4; ++k) to[call.row.codes + k] = static_cast<uint8_t>(bits_of(grid.scale) >> (8 * k));
  }
}

ACCEL_KERNEL fp_dequantize_kernel(const ACCEL_KERNEL_CONSTANT Call call) {
  const int64_t bits = call.format.bits, size = call.several * bits / 8;
  const int64_t parts = call.row.elements / call.several, all_parts = call.groups * parts;
  const int64_t thread = static_cast<int64_t>(block_index()) * kThreads + thread_index();
  for (int64_t part = thread; part < all_parts; part += call.grid * kThreads) {
    const int64_t group = part / parts;
    int64_t source = group;
    if (call.indexes) source = call.indexes[group / call.each] * call.each + group % call.each;
    const bool is_known = source >= 0 && source < call.known;
    const uint8_t *const from = call.rows + (is_known ? source : 0) * call.row.bytes;
    uint32_t scale = 0, codes = 0;
    for (int k = 0; is_known && k < 4; ++k) scale |= static_cast<uint32_t>(from[call.row.codes + k]) << (8 * k);
    for (int64_t k = 0; is_known && k < size; ++k)
      codes |= static_cast<uint32_t>(from[part % parts * size + k]) << (8 * k);
    if (!is_known) scale = 0x7FC00000u;
    for (int32_t k = 0; k < call.several; ++k) {
      const float x[1] = {float_of_code(call.format, codes >> (k * bits) & ((1u << bits) - 1u), float_of(scale))};
      store(Any(), call.dtype, call.val, part * call.several + k, x, Rounding{false, 0});
    }
  }
}

int32_t run(void (*kernel)(Call), Call &call, int64_t blocks, void *stream) {
  call.grid = blocks < kMostBlocks ? blocks : kMostBlocks;
  return blocks ? launch(kernel, call.grid, static_cast<Stream>(stream), call) : ACCEL_OK;
}

int32_t decode(Call &call, int64_t numel, void *stream) {
  const int64_t threads = numel / call.several;
  return run(fp_dequantize_kernel, call, (threads + kThreads - 1) / kThreads, stream);
}

}  // namespace
}  // namespace accel

int32_t accel_fp_quantize(const void *val, uint8_t *out, int64_t group_size, int64_t bits, int64_t mantissa,
                          int32_t stochastic, int64_t seed, int64_t numel, int64_t out_bytes, int64_t,
                          int32_t dtype, void *stream) {
  using namespace accel;
  Call call{};
  const int32_t status = encode_call(call, val, out, group_size, bits, mantissa, stochastic != 0, seed, numel,
                                     out_bytes, dtype);
  return status == ACCEL_OK ? run(fp_quantize_kernel, call, call.groups, stream) : status;
}

int32_t accel_fp_dequantize(void *val, const uint8_t *coded, int64_t group_size, int64_t bits, int64_t mantissa,
                            int64_t numel, int64_t coded_bytes, int64_t, int32_t dtype, void *stream) {
  using namespace accel;
  Call call{};
  const int32_t status = decode_call(call, val, coded, group_size, bits, mantissa, numel, coded_bytes, dtype);
  if (status != ACCEL_OK) return status;
  return call.groups == call.known ? decode(call, numel, stream) : ACCEL_BAD_ARGUMENT;
}

int32_t accel_fp_selective_dequantize(void *val, const uint8_t *coded, const int32_t *indexes, int64_t group_size,
                                      int64_t bits, int64_t mantissa, int64_t numel, int64_t coded_bytes,
                                      int64_t index_count, int64_t, int32_t dtype, void *stream) {
  using namespace accel;
  Call call{};
  int32_t status = decode_call(call, val, coded, group_size, bits, mantissa, numel, coded_bytes, dtype);
  if (status == ACCEL_OK) status = select_rows(call, indexes, index_count);
  return status == ACCEL_OK ? decode(call, numel, stream) : status;
}
