// SPDX-License-Identifier: Apache-2.0
// Codes and formulas of accel/blockwise_quantizer.h, the same on every device.
#pragma once

#include <cstdint>

#include "accel/blockwise_quantizer.h"
#include "../dtypes.h"
#include "../shared.h"

namespace accel {

ACCEL_ON_BOTH(kBlockwiseText,

// The 256 values of 8-bit codes, rising.
struct Map {
  float values[256];
};

// Seven decades, the k-th with 2^k values on each side: the middles of as many steps from 0.1 to 1.
// Ends of steps are rounded once, as a fused multiply-add does: in double the sum is all but exact.
constexpr Map dynamic_map() {
  constexpr float kTens[] = {1e-6f, 1e-5f, 1e-4f, 1e-3f, 1e-2f, 1e-1f, 1.0f};
  Map map{};
  map.values[255] = 1.0f;
  for (int decade = 0; decade < 7; ++decade) {
    const int count = 1 << decade;
    const float step = (1.0f - 0.1f) / static_cast<float>(count);
    float low = 0.1f;
    for (int k = 0; k < count; ++k) {
      const double wide = step, above = k + 1, below = count - k - 1;
      const bool from_low = k + 1 < (count + 1) / 2;
      const float high = static_cast<float>(from_low ? static_cast<double>(0.1f) + wide * above : 1.0 - wide * below);
      const float value = kTens[decade] * ((low + high) / 2.0f);
      map.values[128 + count - 1 + k] = value;
      map.values[126 - (count - 1) - k] = -value;
      low = high;
    }
  }
  return map;
}

// Four-bit codes: their values, the bounds between neighbours in rising order, and the code that a
// number above so many bounds has. `zero` is one of several codes of 0.
struct FourBit {
  float values[16];
  float bounds[15];
  uint8_t codes[16];
  int32_t count;  // of bounds
  uint8_t zero;
};

constexpr FourBit nf4() {
  FourBit made{{-1.0f, -0.6961928009986877f, -0.5250730514526367f, -0.39491748809814453f,
                -0.28444138169288635f, -0.18477343022823334f, -0.09105003625154495f, 0.0f,
                0.07958029955625534f, 0.16093020141124725f, 0.24611230194568634f, 0.33791524171829224f,
                0.44070982933044434f, 0.5626170039176941f, 0.7229568362236023f, 1.0f},
               {}, {}, 15, 7};
  for (int i = 0; i < 16; ++i) made.codes[i] = static_cast<uint8_t>(i);
  for (int i = 0; i < 15; ++i) made.bounds[i] = (made.values[i] + made.values[i + 1]) / 2.0f;
  return made;
}

// A sign, and eight values over 12 that are not a floating-point format: 8 and 12 come before 4 and 6.
constexpr FourBit fp4() {
  constexpr float kTwelfths[] = {0.0f, 0.0625f, 8.0f, 12.0f, 4.0f, 6.0f, 2.0f, 3.0f};
  constexpr uint8_t kRising[] = {11, 10, 13, 12, 15, 14, 9, 0, 1, 6, 7, 4, 5, 2, 3, 3};
  FourBit made{{}, {}, {}, 14, 0};
  for (int i = 0; i < 8; ++i) {
    made.values[i] = kTwelfths[i] / 12.0f;
    made.values[i + 8] = i ? -made.values[i] : 0.0f;
  }
  for (int i = 0; i < 16; ++i) made.codes[i] = kRising[i];
  for (int i = 0; i < 14; ++i) made.bounds[i] = (made.values[kRising[i]] + made.values[kRising[i + 1]]) / 2.0f;
  made.bounds[14] = __builtin_huge_valf();
  return made;
}

// What a block's elements are multiplied by, one after the other: the largest becomes 1 though neither
// factor is infinite or subnormal. `is_plain` is false for a block without an element to scale by.
struct Factors {
  float shift, inverse;
  bool is_plain;
};

ACCEL_DEVICE Factors factors_of(float absmax) {
  const float small = 1.26217744835361888865876570445e-29f;  // 2^-96
  const float up = 18446744073709551616.0f;                  // 2^64
  const float shift = absmax < small ? up : (absmax > 1.0f / small ? 1.0f / up : 1.0f);
  return {shift, 1.0f / (absmax * shift), absmax > 0.0f && absmax - absmax == 0.0f};
}

// An element of a block that is not plain: infinities keep their sign, all else is 0.
ACCEL_DEVICE float unscaled(float x, float absmax) {
  const bool endless = x - x != 0.0f && x == x && absmax == absmax;
  return endless ? (x > 0.0f ? 1.0f : -1.0f) : 0.0f;
}

// The bound between a code and the next one.
ACCEL_DEVICE float bound_of(const float *values, int32_t code) {
  return (values[code] + values[code + 1]) / 2.0f;
}

// How many of 255 bounds are below x.
ACCEL_DEVICE int32_t search(const float *values, float x) {
  int32_t at = 0;
  for (int32_t step = 128; step > 0; step /= 2)
    if (bound_of(values, at + step - 1) < x) at += step;
  return at;
}

)

inline int32_t check_blocks(const void *floats, const void *codes, const void *absmax, int64_t blocksize,
                            int64_t numel, int32_t dtype) {
  if (numel < 0 || blocksize < 1) return ACCEL_BAD_ARGUMENT;
  if (!is_dtype(dtype)) return ACCEL_BAD_DTYPE;
  return numel && (!floats || !codes || !absmax) ? ACCEL_BAD_ARGUMENT : ACCEL_OK;
}

inline int64_t block_count(int64_t numel, int64_t blocksize) {
  return numel / blocksize + (numel % blocksize != 0);
}

// Whether blocks can have 4-bit codes of a kind.
inline bool is_four_bit(int64_t blocksize, int64_t kind) {
  return blocksize % 2 == 0 && kind >= ACCEL_NF4 && kind <= ACCEL_FP4;
}

}  // namespace accel
