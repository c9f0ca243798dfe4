// SPDX-License-Identifier: Apache-2.0
// Formulas and checks of accel/fp_quantizer.h, the same on every device.
#pragma once

#include <cstdint>
#include <cstring>

#include "accel/fp_quantizer.h"
#include "../dtypes.h"
#include "../random.h"
#include "../rounding.h"

namespace accel {

ACCEL_ON_BOTH(kFloatsText,

// A format of codes, in the numbers that the formulas take.
struct FloatFormat {
  int32_t bits, mantissa;
  uint32_t shift;           // from a float32's bits to a code's
  uint32_t below;           // what an exponent of 0 is in a float32, at a code's place
  float least, most;        // of normal numbers
  float rounder, quantum;  // the float whose unit is the smallest number, and that number
};

// The layout of elements in rows.
struct FloatRows {
  int64_t count, elements, codes, bytes;  // rows; of each: elements, bytes of codes, all bytes
};

// What elements are multiplied by, one after the other, and the scale that is kept.
struct FloatGrid {
  float lift, factor, scale;
};

// `largest` is the bits of the largest magnitude, `magnitude` the same as a float.
ACCEL_BOTH FloatGrid float_grid(uint32_t largest, float magnitude, float most, float nan) {
  if (largest >= 0x7F800000u) return {0.0f, 0.0f, nan};
  const float lift = magnitude < 7.8886090522101181e-31f ? 18446744073709551616.0f : 1.0f;  // 2^-100, 2^64
  return {lift, largest ? most / (magnitude * lift) : 0.0f, magnitude / most};
}

ACCEL_BOTH uint32_t magnitude_noise(const FloatFormat &format, uint32_t random) {
  return random & ((1u << format.shift) - 1u);
}

// The code of an element, given by its bits; `random` are the bits to round it by if `stochastic`.
ACCEL_DEVICE uint32_t float_code(const FloatFormat &format, const FloatGrid &grid, uint32_t raw, bool stochastic,
                                 uint32_t random) {
  const float scaled = float_of(raw & 0x7FFFFFFFu) * grid.lift * grid.factor;
  const float y = scaled < format.most ? scaled : (scaled == scaled ? format.most : 0.0f);
  const bool small = y < format.least;
  const uint32_t negative = grid.scale == grid.scale ? raw >> 31 << (format.bits - 1) : 0u;
  const uint32_t shift = format.shift;
  if (stochastic) {
    const uint32_t u = bits_of(small ? y + format.least : y) + magnitude_noise(format, random);
    return ((u >> shift) - format.below - (small ? 1u << format.mantissa : 0u)) | negative;
  }
  if (small) return (bits_of(y + format.rounder) - bits_of(format.rounder)) | negative;
  const uint32_t u = bits_of(y);
  return (((u + (1u << (shift - 1u)) - 1u + (u >> shift & 1u)) >> shift) - format.below) | negative;
}

// The element of a code.
ACCEL_DEVICE float float_of_code(const FloatFormat &format, uint32_t code, float scale) {
  const uint32_t magnitude = code & ((1u << (format.bits - 1)) - 1u);
  const float small = static_cast<float>(magnitude) * format.quantum;
  const float x = magnitude < 1u << format.mantissa ? small : float_of((magnitude + format.below) << format.shift);
  return float_of(bits_of(x) | code >> (format.bits - 1) << 31) * scale;
}

)

// Fills in a format; false if there is none.
inline bool format_of(int64_t bits, int64_t mantissa, FloatFormat &format) {
  const bool known = (bits == 8 && (mantissa == 3 || mantissa == 2)) || (bits == 12 && mantissa == 7) ||
                     (bits == 6 && mantissa == 2) || (bits == 4 && mantissa == 1);
  if (!known) return false;
  const auto power = [](int32_t exponent) {
    const uint32_t u = static_cast<uint32_t>(127 + exponent) << 23;
    float x;
    memcpy(&x, &u, 4);
    return x;
  };
  const int32_t m = static_cast<int32_t>(mantissa), exponents = 1 << (bits - 1 - mantissa);
  const int32_t bias = exponents / 2 - 1;
  format = {static_cast<int32_t>(bits), m,
            static_cast<uint32_t>(23 - m), static_cast<uint32_t>(127 - bias) << m,
            power(1 - bias), (2.0f - power(-m)) * power(exponents - 1 - bias),
            power(24 - bias - m), power(1 - bias - m)};
  return true;
}

// Fills in the format and the rows that `numel` elements need; val's and codes' rows are checked by the caller.
inline int32_t check_rows(const void *val, const void *coded, int64_t group_size, int64_t bits, int64_t mantissa,
                          int64_t numel, int64_t bytes, int32_t dtype, FloatFormat &format, FloatRows &rows) {
  if (!is_dtype(dtype)) return ACCEL_BAD_DTYPE;
  if (!format_of(bits, mantissa, format) || group_size < 1 || group_size > INT64_MAX / 16 || numel < 0)
    return ACCEL_BAD_ARGUMENT;
  if (group_size * bits % 8 || numel % group_size || bytes < 0) return ACCEL_BAD_ARGUMENT;
  const int64_t codes = group_size * bits / 8;
  if (bytes % (codes + 4)) return ACCEL_BAD_ARGUMENT;
  rows = {bytes / (codes + 4), group_size, codes, codes + 4};
  return !val || !coded ? ACCEL_BAD_ARGUMENT : ACCEL_OK;
}

}  // namespace accel
