// SPDX-License-Identifier: Apache-2.0
// Integer codes over groups on the CPU: see accel/quantizer.h for the format.

#ifdef ACCEL_TARGET

#include "convert-inl.h"

namespace ACCEL_TARGET {

static accel::Ends ends_of(const float *x, int64_t n, accel::Ends given) {
  int32_t least = given.least, most = given.most;
  for (int64_t i = 0; i < n; ++i) {
    const int32_t key = accel::rising_key(bits_of(x[i]));
    least = key < least ? key : least;
    most = key > most ? key : most;
  }
  return {least, most};
}

static inline uint32_t code_bits(float x, const accel::Grid &grid) {
  return bits_of(accel::place_on(x, grid)) - bits_of(accel::rounder());
}

static void encode(int8_t *__restrict codes, const float *__restrict x, int64_t n, const accel::Grid &given,
                   bool four) {
  const accel::Grid grid = given;
  if (!four) {
    for (int64_t i = 0; i < n; ++i) codes[i] = static_cast<int8_t>(code_bits(x[i], grid));
    return;
  }
  const int64_t pairs = n / 2;
  for (int64_t pair = 0; pair < pairs; ++pair) {
    const uint32_t low = code_bits(x[2 * pair], grid), high = code_bits(x[2 * pair + 1], grid);
    codes[pair] = static_cast<int8_t>((low & 15u) | high << 4);
  }
}

static void decode(float *__restrict to, const int8_t *__restrict codes, int64_t n, float step, float offset,
                   bool four) {
  if (!four) {
    for (int64_t i = 0; i < n; ++i) to[i] = accel::element_of(codes[i], step, offset);
    return;
  }
  const int64_t pairs = n / 2;
  for (int64_t pair = 0; pair < pairs; ++pair) {
    const uint32_t both = static_cast<uint8_t>(codes[pair]);
    to[2 * pair] = accel::element_of(accel::signed_nibble(both), step, offset);
    to[2 * pair + 1] = accel::element_of(accel::signed_nibble(both >> 4), step, offset);
  }
}

static void add_halves(float *__restrict sums, const float *__restrict x, int64_t n) {
  for (int64_t i = 0; i < n; ++i)
    sums[i] = widen_float16(narrow_float16(sums[i] + widen_float16(narrow_float16(x[i]))));
}

const accel::QuantizerLevel quantizer_level = {ends_of, encode, decode, add_halves, &convert};

}  // namespace ACCEL_TARGET

#else

#include "../../common/quantizers/groups.h"
#include "convert.h"
#include "parallel.h"

namespace accel {

// The least and the largest of floats, as rising keys.
struct Ends {
  int32_t least = 0x7FFFFFFF, most = -0x7FFFFFFF - 1;
};

struct QuantizerLevel {
  Ends (*ends_of)(const float *x, int64_t n, Ends given);
  void (*encode)(int8_t *codes, const float *x, int64_t n, const Grid &grid, bool four);
  void (*decode)(float *to, const int8_t *codes, int64_t n, float step, float offset, bool four);
  void (*add_halves)(float *sums, const float *x, int64_t n);
  const Convert *convert;
};

}  // namespace accel

#define ACCEL_SOURCE "quantizers/quantizer.cpp"
#define ACCEL_TABLE const accel::QuantizerLevel quantizer_level
#include "foreach_target.h"

#ifdef ACCEL_PART_COMMON
#include "simd.h"

namespace accel {
namespace {

float float_of_key(int32_t key) {
  const int32_t bits = key ^ (key >> 31 & 0x7FFFFFFF);
  float x;
  __builtin_memcpy(&x, &bits, 4);
  return x;
}

Grid grid_from(const Ends &ends, int64_t bits, bool asymmetric) {
  const float min = float_of_key(ends.least), max = float_of_key(ends.most);
  const float nan = __builtin_nanf("");
  const bool is_nan = min != min || max != max;
  return grid_of(is_nan ? nan : min, is_nan ? nan : max, bits, asymmetric);
}

// Calls body(group) for every group of so many elements, several to a thread at a time.
template <class Body>
void for_groups(int64_t groups, int64_t elements, int64_t threads, const Body &body) {
  const int64_t several = elements < 1 << 16 ? (1 << 16) / (elements + 1) + 1 : 1;
  const int64_t worth = lesser(threads, 1 + groups * elements / kWorthAThread);
  for_items((groups + several - 1) / several, static_cast<int32_t>(lesser(worth, 1 << 20)), [&](int64_t item) {
    for (int64_t group = item * several; group < lesser(groups, (item + 1) * several); ++group) body(group);
  });
}

// Encodes n elements of which part(at, size) gives those from `at` on, twice.
template <class Part>
void encode_group(const QuantizerLevel &level, int8_t *codes, float *params, int64_t n, int64_t stride,
                  int64_t bits, bool asymmetric, const Part &part) {
  Ends ends;
  for (int64_t at = 0; at < n; at += stride) {
    const int64_t size = lesser(stride, n - at);
    ends = level.ends_of(part(at, size), size, ends);
  }
  const Grid grid = grid_from(ends, bits, asymmetric);
  params[0] = 1.0f / grid.scale;
  if (asymmetric) params[1] = grid.offset;
  const bool four = bits == 4;
  for (int64_t at = 0; at < n; at += stride) {
    const int64_t size = lesser(stride, n - at);
    level.encode(codes + (four ? at / 2 : at), part(at, size), size, grid, four);
  }
}

}  // namespace
}  // namespace accel

int32_t accel_group_quantize(const void *vals, int8_t *codes, float *params, int64_t groups, int64_t bits,
                             int32_t asymmetric, int64_t pipeline, int64_t nodes, int64_t devices,
                             int64_t numel, int64_t threads, int32_t dtype, void *) {
  using namespace accel;
  Swizzle swizzle = {pipeline, nodes, devices, 0};
  const int32_t status = check_quantize(vals, codes, params, groups, bits, swizzle, numel, dtype);
  if (status != ACCEL_OK) return status;
  if (threads < 1) return ACCEL_BAD_ARGUMENT;
  const QuantizerLevel &level = ACCEL_FOR_LEVEL(quantizer_level);
  const int64_t n = numel / groups, bytes = bits == 4 ? n / 2 : n, per = asymmetric ? 2 : 1;
  const int64_t stride = dtype == ACCEL_FLOAT32 ? (n > 0 ? n : 1) : kBlock;
  for_groups(groups, n, threads, [&](int64_t group) {
    alignas(64) float buffer[kBlock];
    const int64_t to = swizzled(swizzle, group);
    encode_group(level, codes + to * bytes, params + to * per, n, stride, bits, asymmetric,
                 [&](int64_t at, int64_t size) {
                   void *const from = const_cast<void *>(vals);
                   return Block(*level.convert, dtype, from, group * n + at, size, buffer).values;
                 });
  });
  return ACCEL_OK;
}

int32_t accel_group_dequantize(const int8_t *quantized, const float *params, void *out, int64_t groups,
                               int64_t bits, int32_t asymmetric, int32_t out_dtype, int64_t bytes,
                               int64_t threads, int32_t dtype, void *) {
  using namespace accel;
  const int32_t status = check_dequantize(quantized, params, out, groups, bits, out_dtype, bytes, dtype);
  if (status != ACCEL_OK) return status;
  if (threads < 1) return ACCEL_BAD_ARGUMENT;
  const QuantizerLevel &level = ACCEL_FOR_LEVEL(quantizer_level);
  const bool four = bits == 4;
  const int64_t n = (four ? 2 * bytes : bytes) / groups;
  const bool whole = out_dtype == ACCEL_FLOAT32;
  const int64_t stride = whole ? (n > 0 ? n : 1) : kBlock;
  char *const to = static_cast<char *>(out);
  for_groups(groups, n, threads, [&](int64_t group) {
    alignas(64) float buffer[kBlock];
    const float step = params[asymmetric ? 2 * group : group], offset = asymmetric ? params[2 * group + 1] : 0.0f;
    for (int64_t at = 0; at < n; at += stride) {
      const int64_t size = lesser(stride, n - at), first = group * n + at;
      char *const place = to + first * element_size(out_dtype);
      float *const values = whole ? reinterpret_cast<float *>(place) : buffer;
      level.decode(values, quantized + (four ? first / 2 : first), size, step, offset, four);
      if (!whole) level.convert->store[ACCEL_ROUND_NEAREST][out_dtype](place, values, size, 0, 0);
    }
  });
  return ACCEL_OK;
}

int32_t accel_group_reduce(const int8_t *quantized, const float *params, int8_t *codes, float *new_params,
                           int64_t in_groups, int64_t out_groups, int64_t bits, int32_t asymmetric,
                           int64_t devices, int64_t bytes, int64_t threads, int32_t dtype, void *) {
  using namespace accel;
  Reduction by{};
  const int32_t status = check_reduce(quantized, params, codes, new_params, in_groups, out_groups, bits, devices,
                                      bytes, dtype, by);
  if (status != ACCEL_OK) return status;
  if (threads < 1) return ACCEL_BAD_ARGUMENT;
  const QuantizerLevel &level = ACCEL_FOR_LEVEL(quantizer_level);
  const bool four = bits == 4;
  const int64_t a_byte = four ? 2 : 1, per = asymmetric ? 2 : 1;
  for_groups(out_groups, by.out_group * a_byte * devices, threads, [&](int64_t group) {
    alignas(64) float sums[kBlock];
    alignas(64) float one[kBlock];
    encode_group(level, codes + group * by.out_group, new_params + group * per, by.out_group * a_byte, kBlock, bits,
                 asymmetric, [&](int64_t element, int64_t size) -> const float * {
                   const int64_t first = group * by.out_group + element / a_byte;
                   for (int64_t i = 0; i < size; ++i) sums[i] = 0.0f;
                   for (int64_t tensor = 0; tensor < by.devices; ++tensor) {
                     for (int64_t at = first; at < first + size / a_byte;) {
                       const int64_t in = at / by.in_group;
                       const int64_t end = lesser(first + size / a_byte, (in + 1) * by.in_group);
                       const float *const of = params + (tensor * by.in_groups + in) * per;
                       level.decode(one + (at - first) * a_byte, quantized + tensor * by.tensor + at,
                                    (end - at) * a_byte, of[0], asymmetric ? of[1] : 0.0f, four);
                       at = end;
                     }
                     level.add_halves(sums, one, size);
                   }
                   return sums;
                 });
  });
  return ACCEL_OK;
}

#endif
#endif
