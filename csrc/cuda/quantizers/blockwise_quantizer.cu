// SPDX-License-Identifier: Apache-2.0
// Codes of 8 and 4 bits over blocks on CUDA devices: see accel/blockwise_quantizer.h for the formats.
// A warp encodes one block at a time.

// The device runtime first: the formulas use its keywords.
#include "elements.h"

#include "../../common/quantizers/blockwise.h"
#include "reduce.h"
#include "status.h"

#if defined(ACCEL_HOST_BUILD)
#define ACCEL_CONSTANT static const
#else
#define ACCEL_CONSTANT static __constant__ const
#endif

namespace accel {
namespace {

constexpr int kVector = 4;            // elements of one access, an even number
constexpr int64_t kMostBlocks = 1 << 20;  // of a launch, whose threads go on at a stride
constexpr int64_t kWarps = kThreads / kLanes;

ACCEL_CONSTANT Map kDynamic = dynamic_map();
ACCEL_CONSTANT FourBit kFourBits[] = {nf4(), fp4()};

struct Call {
  const void *elements;
  void *out;
  const uint8_t *codes;
  uint8_t *new_codes;
  const float *code;     // 256 values, or null
  const uint8_t *order;  // their codes, or null
  float *absmax;
  int64_t numel, blocksize;
  int64_t grid;  // blocks of the launch
  int32_t dtype, kind;
};

int64_t grid_of(int64_t items, int64_t per_block) {
  const int64_t wanted = (items + per_block - 1) / per_block;
  return wanted < kMostBlocks ? wanted : kMostBlocks;
}

// Copies the values of codes to where every thread of a block finds them soon. On the host a thread
// cannot wait for the others, so each copies all.
ACCEL_DEVICE void copy_values(float *values, const float *from, int32_t count) {
#if defined(ACCEL_HOST_BUILD)
  for (int32_t i = 0; i < count; ++i) values[i] = from[i];
#else
  for (int32_t i = static_cast<int32_t>(thread_index()); i < count; i += kThreads) values[i] = from[i];
#endif
  block_barrier();
}

// Calls body.at<kVector>(i) for a lane's share of [begin, end), and body.few(i, n) for the one or two
// elements at a time that are left.
template <class Body>
ACCEL_DEVICE void for_lane(int64_t begin, int64_t end, bool aligned, Body &body) {
  const int64_t lane = thread_index() % kLanes;
  const int64_t whole = aligned && begin % kVector == 0 ? begin + (end - begin) / kVector * kVector : begin;
  for (int64_t i = begin + lane * kVector; i < whole; i += kLanes * kVector) body.template at<kVector>(i);
  for (int64_t i = whole + lane * 2; i < end; i += kLanes * 2) body.few(i, end - i < 2 ? 1 : 2);
}

struct Largest {
  const Call &call;
  uint32_t most = 0;

  template <int N>
  ACCEL_DEVICE void at(int64_t i) {
    float x[N];
    load(Any(), call.dtype, const_cast<void *>(call.elements), i, x);
    ACCEL_UNROLL
    for (int k = 0; k < N; ++k) {
      const uint32_t magnitude = bits_of(x[k]) & 0x7FFFFFFFu;
      most = magnitude > most ? magnitude : most;
    }
  }
  ACCEL_DEVICE void few(int64_t i, int n) {
    for (int k = 0; k < n; ++k) at<1>(i + k);
  }
};

// One block's elements as codes; `Code` says how.
template <class Code>
struct Encoder {
  const Call &call;
  const Code &code;
  float absmax;
  Factors by;

  ACCEL_DEVICE uint32_t of(float x) const {
    return code(by.is_plain ? x * by.shift * by.inverse : unscaled(x, absmax));
  }

  template <int N>
  ACCEL_DEVICE void at(int64_t i) {
    float x[N];
    load(Any(), call.dtype, const_cast<void *>(call.elements), i, x);
    uint32_t codes[N];
    ACCEL_UNROLL
    for (int k = 0; k < N; ++k) codes[k] = of(x[k]);
    alignas(N) uint8_t raw[N];
    if constexpr (Code::kFour) {
      ACCEL_UNROLL
      for (int k = 0; k < N; k += 2) raw[k / 2] = static_cast<uint8_t>(codes[k] << 4 | codes[k + 1]);
      move<N / 2>(call.new_codes + i / 2, raw);
    } else {
      ACCEL_UNROLL
      for (int k = 0; k < N; ++k) raw[k] = static_cast<uint8_t>(codes[k]);
      move<N>(call.new_codes + i, raw);
    }
  }

  ACCEL_DEVICE void few(int64_t i, int n) {
    uint32_t codes[2] = {0u, code(0.0f)};
    for (int k = 0; k < n; ++k) {
      float x[1];
      load(Any(), call.dtype, const_cast<void *>(call.elements), i + k, x);
      codes[k] = of(x[0]);
    }
    if constexpr (Code::kFour) {
      call.new_codes[i / 2] = static_cast<uint8_t>(codes[0] << 4 | codes[1]);
    } else {
      for (int k = 0; k < n; ++k) call.new_codes[i + k] = static_cast<uint8_t>(codes[k]);
    }
  }
};

struct EightBits {
  static constexpr bool kFour = false;
  const float *values;
  const uint8_t *order;
  ACCEL_DEVICE uint32_t operator()(float y) const {
    const int32_t place = search(values, y);
    return order ? order[place] : static_cast<uint32_t>(place);
  }
};

// Every thread reads the same bound at a time, which constant memory is made for.
struct FourBits {
  static constexpr bool kFour = true;
  int32_t kind;
  ACCEL_DEVICE uint32_t operator()(float y) const {
    const FourBit &four = kFourBits[kind];
    uint32_t code = four.codes[0];
    ACCEL_UNROLL
    for (int bound = 0; bound < 15; ++bound)
      code = y > four.bounds[bound] ? uint32_t{four.codes[bound + 1]} : code;
    return code;
  }
};

template <class Code>
ACCEL_DEVICE void encode(const Call &call, const Code &code, bool aligned) {
  const int64_t stride = call.grid * kWarps * call.blocksize;
  const int64_t warp = block_index() * kWarps + thread_index() / kLanes;
  for (int64_t begin = warp * call.blocksize; begin < call.numel; begin += stride) {
    const int64_t rest = call.numel - begin;
    const int64_t end = begin + (rest < call.blocksize ? rest : call.blocksize);
    Largest largest{call};
    for_lane(begin, end, aligned, largest);
    const uint32_t most = max_over_warp(largest.most);
    const float absmax = float_of(most > 0x7F800000u ? 0x7FC00000u : most);
    if (thread_index() % kLanes == 0) call.absmax[begin / call.blocksize] = absmax;
    Encoder<Code> encoder{call, code, absmax, factors_of(absmax)};
    for_lane(begin, end, aligned, encoder);
  }
}

ACCEL_DEVICE bool encodes_vectors(const Call &call) {
  return ((reinterpret_cast<uintptr_t>(call.elements) | reinterpret_cast<uintptr_t>(call.new_codes)) & 15u) == 0;
}

ACCEL_KERNEL blockwise_encode_kernel(const ACCEL_KERNEL_CONSTANT Call call) {
  ACCEL_SHARED float values[256];
  copy_values(values, call.code ? call.code : kDynamic.values, 256);
  encode(call, EightBits{values, call.order}, encodes_vectors(call));
}

ACCEL_KERNEL four_bit_encode_kernel(const ACCEL_KERNEL_CONSTANT Call call) {
  encode(call, FourBits{call.kind}, encodes_vectors(call));
}

// Adjacent elements of codes; `values` has those of all codes.
template <bool FOUR>
struct Decoder {
  const Call &call;
  const float *values;

  template <int N>
  ACCEL_DEVICE void at(int64_t i) {
    alignas(N) uint8_t raw[N];
    if constexpr (FOUR && N == 1) raw[0] = call.codes[i / 2];
    else if constexpr (FOUR) move<N / 2>(raw, call.codes + i / 2);
    else if constexpr (N == 1) raw[0] = call.codes[i];
    else move<N>(raw, call.codes + i);
    float x[N];
    // One division for all: they take longer than the rest.
    int64_t block = i / call.blocksize, end = (block + 1) * call.blocksize;
    ACCEL_UNROLL
    for (int k = 0; k < N; ++k) {
      uint32_t code = raw[k];
      if constexpr (FOUR) code = (i + k) % 2 ? raw[k / 2] & 15u : raw[k / 2] >> 4;
      if (i + k == end) {
        ++block;
        end += call.blocksize;
      }
      x[k] = values[code] * call.absmax[block];
    }
    store(Any(), call.dtype, call.out, i, x, Rounding{false, 0});
  }
};

template <bool FOUR>
ACCEL_DEVICE void decode(const Call &call, const float *values, bool aligned) {
  Decoder<FOUR> decoder{call, values};
  const int64_t threads = call.grid * kThreads;
  const int64_t thread = static_cast<int64_t>(block_index()) * kThreads + thread_index();
  const int64_t whole = aligned ? call.numel / kVector * kVector : 0;
  for (int64_t i = thread * kVector; i < whole; i += threads * kVector) decoder.template at<kVector>(i);
  for (int64_t i = whole + thread; i < call.numel; i += threads) decoder.template at<1>(i);
}

ACCEL_DEVICE bool decodes_vectors(const Call &call) {
  return ((reinterpret_cast<uintptr_t>(call.out) | reinterpret_cast<uintptr_t>(call.codes)) & 15u) == 0;
}

ACCEL_KERNEL blockwise_decode_kernel(const ACCEL_KERNEL_CONSTANT Call call) {
  ACCEL_SHARED float values[256];
  copy_values(values, call.code ? call.code : kDynamic.values, 256);
  decode<false>(call, values, decodes_vectors(call));
}

ACCEL_KERNEL four_bit_decode_kernel(const ACCEL_KERNEL_CONSTANT Call call) {
  ACCEL_SHARED float values[16];
  copy_values(values, kFourBits[call.kind].values, 16);
  decode<true>(call, values, decodes_vectors(call));
}

int32_t run(void (*kernel)(Call), Call call, int64_t items, int64_t per_block, void *stream) {
  if (call.numel == 0) return ACCEL_OK;
  call.grid = grid_of(items, per_block);
  return launch(kernel, call.grid, static_cast<Stream>(stream), call);
}

}  // namespace
}  // namespace accel

int32_t accel_blockwise_encode(const void *a, const float *code, const uint8_t *order, uint8_t *codes,
                               float *absmax, int64_t blocksize, int64_t numel, int64_t, int32_t dtype,
                               void *stream) {
  using namespace accel;
  const int32_t status = check_blocks(a, codes, absmax, blocksize, numel, dtype);
  if (status != ACCEL_OK) return status;
  if (!code != !order) return ACCEL_BAD_ARGUMENT;
  const Call call = {a, nullptr, nullptr, codes, code, order, absmax, numel, blocksize, 0, dtype, 0};
  return run(blockwise_encode_kernel, call, block_count(numel, blocksize), kWarps, stream);
}

int32_t accel_blockwise_decode(const uint8_t *codes, const float *absmax, const float *code, void *out,
                               int64_t blocksize, int32_t out_dtype, int64_t numel, int64_t,
                               int32_t codes_dtype, void *stream) {
  using namespace accel;
  const int32_t status = check_blocks(out, codes, absmax, blocksize, numel, out_dtype);
  if (status != ACCEL_OK) return status;
  if (codes_dtype != ACCEL_UINT8) return ACCEL_BAD_DTYPE;
  const Call call = {nullptr, out,   codes,     nullptr, code,      nullptr, const_cast<float *>(absmax),
                     numel,   blocksize, 0, out_dtype, 0};
  return run(blockwise_decode_kernel, call, numel, kThreads * kVector, stream);
}

int32_t accel_four_bit_encode(const void *a, uint8_t *packed, float *absmax, int64_t blocksize,
                              int64_t kind, int64_t numel, int64_t, int32_t dtype, void *stream) {
  using namespace accel;
  const int32_t status = check_blocks(a, packed, absmax, blocksize, numel, dtype);
  if (status != ACCEL_OK) return status;
  if (!is_four_bit(blocksize, kind)) return ACCEL_BAD_ARGUMENT;
  const Call call = {a,       nullptr, nullptr,   packed, nullptr, nullptr, absmax,
                     numel, blocksize, 0,       dtype,     static_cast<int32_t>(kind)};
  return run(four_bit_encode_kernel, call, block_count(numel, blocksize), kWarps, stream);
}

int32_t accel_four_bit_decode(const uint8_t *packed, const float *absmax, void *out, int64_t blocksize,
                              int64_t kind, int64_t numel, int32_t out_dtype, int64_t,
                              int32_t packed_dtype, void *stream) {
  using namespace accel;
  const int32_t status = check_blocks(out, packed, absmax, blocksize, numel, out_dtype);
  if (status != ACCEL_OK) return status;
  if (packed_dtype != ACCEL_UINT8) return ACCEL_BAD_DTYPE;
  if (!is_four_bit(blocksize, kind)) return ACCEL_BAD_ARGUMENT;
  const Call call = {nullptr, out,       packed, nullptr,   nullptr, nullptr, const_cast<float *>(absmax),
                     numel,   blocksize, 0,      out_dtype, static_cast<int32_t>(kind)};
  return run(four_bit_decode_kernel, call, numel, kThreads * kVector, stream);
}
