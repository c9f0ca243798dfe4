// SPDX-License-Identifier: Apache-2.0
// Formulas and checks of accel/quantizer.h, the same on every device.
#pragma once

#include <cstdint>

#include "accel/quantizer.h"
#include "../dtypes.h"
#include "../rounding.h"

namespace accel {

ACCEL_ON_BOTH(kGroupsText,

// How a group's elements become codes: (x - offset) * scale, with magnitudes up to `limit`.
struct Grid {
  float scale, offset, limit;
};

ACCEL_DEVICE Grid grid_of(float min, float max, int64_t bits, bool asymmetric) {
  const float limit = bits == 8 ? 128.0f : 8.0f;
  const float magnitude = -min > max ? -min : max;
  const float half = asymmetric ? max / 2.0f - min / 2.0f : magnitude;
  // A sum of two zeros is 0 whatever their signs.
  const float offset = asymmetric ? max / 2.0f + min / 2.0f + 0.0f : 0.0f;
  return {half == 0.0f ? 1.0f : limit / half, offset, limit};
}

// Adding 1.5 * 2^23 rounds to nearest, and puts the integer into the lowest bits.
ACCEL_DEVICE float rounder() { return 12582912.0f; }

ACCEL_DEVICE float place_on(float x, const Grid &grid) {
  const float y = (x - grid.offset) * grid.scale;
  const float above = y > -grid.limit ? y : -grid.limit;
  const float inside = above < grid.limit - 1.0f ? above : grid.limit - 1.0f;
  return (y == y ? inside : 0.0f) + rounder();
}

ACCEL_DEVICE float element_of(int32_t code, float step, float offset) {
  return static_cast<float>(code) * step + offset;
}

ACCEL_DEVICE int32_t signed_nibble(uint32_t nibble) {
  return static_cast<int32_t>(nibble & 15u) - static_cast<int32_t>((nibble & 8u) << 1);
}

// An integer in the order of the floats; NaN is beyond the infinities.
ACCEL_DEVICE int32_t rising_key(uint32_t bits) {
  const int32_t wide = static_cast<int32_t>(bits);
  return wide ^ (wide >> 31 & 0x7FFFFFFF);
}

ACCEL_DEVICE float float_of_key(int32_t key) {
  return float_of(static_cast<uint32_t>(key ^ (key >> 31 & 0x7FFFFFFF)));
}

// The grid of a group whose elements have these ends.
ACCEL_DEVICE Grid grid_of_keys(int32_t least, int32_t most, int64_t bits, bool asymmetric) {
  const float min = float_of_key(least), max = float_of_key(most), nan = float_of(0x7FC00000u);
  const bool is_nan = min != min || max != max;
  return grid_of(is_nan ? nan : min, is_nan ? nan : max, bits, asymmetric);
}

// An element's code in its lowest bits.
ACCEL_DEVICE uint32_t code_on(float x, const Grid &grid) { return bits_of(place_on(x, grid)) - bits_of(rounder()); }

// Element i of groups of `count`.
ACCEL_DEVICE float group_element(const int8_t *codes, const float *params, int64_t i, int64_t count, bool four,
                                 bool asymmetric) {
  const int64_t group = i / count;
  const uint32_t byte = static_cast<uint8_t>(codes[four ? i / 2 : i]);
  const int32_t code = four ? signed_nibble(i % 2 ? byte >> 4 : byte) : static_cast<int8_t>(byte);
  if (asymmetric) return element_of(code, params[2 * group], params[2 * group + 1]);
  return element_of(code, params[group], 0.0f);
}

struct Swizzle {
  int64_t pipeline, nodes, devices, contiguous;
};

// Where a group goes.
ACCEL_DEVICE int64_t swizzled(const Swizzle &by, int64_t group) {
  const int64_t piece = group / by.contiguous % by.pipeline, partition = group / (by.contiguous * by.pipeline);
  const int64_t to = piece * by.nodes * by.devices + partition % by.devices * by.nodes + partition / by.devices;
  return to * by.contiguous + group % by.contiguous;
}

// Bytes of one tensor, of one of its groups and of one new group.
struct Reduction {
  int64_t devices, tensor, in_group, out_group, in_groups;
};

)

inline bool is_divisible(int64_t count, int64_t by) { return by > 0 && count % by == 0; }

inline int32_t check_groups(int64_t numel, int64_t groups, int64_t bits) {
  if (bits != 8 && bits != 4) return ACCEL_BAD_ARGUMENT;
  if (numel < 0 || !is_divisible(numel, groups)) return ACCEL_BAD_ARGUMENT;
  return bits == 4 && numel / groups % 2 ? ACCEL_BAD_ARGUMENT : ACCEL_OK;
}

// Of group_quantize; fills in the swizzle.
inline int32_t check_quantize(const void *vals, const void *codes, const void *params, int64_t groups,
                              int64_t bits, Swizzle &swizzle, int64_t numel, int32_t dtype) {
  if (!is_dtype(dtype)) return ACCEL_BAD_DTYPE;
  const int32_t status = check_groups(numel, groups, bits);
  if (status != ACCEL_OK) return status;
  if (swizzle.pipeline < 1 || swizzle.nodes < 1 || swizzle.devices < 1) return ACCEL_BAD_ARGUMENT;
  int64_t pieces = 0;
  if (__builtin_mul_overflow(swizzle.pipeline, swizzle.nodes, &pieces) ||
      __builtin_mul_overflow(pieces, swizzle.devices, &pieces) || groups % pieces)
    return ACCEL_BAD_ARGUMENT;
  swizzle.contiguous = groups / pieces;
  return !vals || !codes || !params ? ACCEL_BAD_ARGUMENT : ACCEL_OK;
}

inline int32_t check_dequantize(const void *quantized, const void *params, const void *out, int64_t groups,
                                int64_t bits, int32_t out_dtype, int64_t bytes, int32_t dtype) {
  if (dtype != ACCEL_INT8 || !is_dtype(out_dtype)) return ACCEL_BAD_DTYPE;
  if (bytes < 0 || bytes > INT64_MAX / 2) return ACCEL_BAD_ARGUMENT;
  const int32_t status = check_groups(bits == 4 ? 2 * bytes : bytes, groups, bits);
  if (status != ACCEL_OK) return status;
  return !quantized || !params || !out ? ACCEL_BAD_ARGUMENT : ACCEL_OK;
}

inline int32_t check_reduce(const void *quantized, const void *params, const void *codes, const void *new_params,
                            int64_t in_groups, int64_t out_groups, int64_t bits, int64_t devices, int64_t bytes,
                            int32_t dtype, Reduction &found) {
  if (dtype != ACCEL_INT8) return ACCEL_BAD_DTYPE;
  if ((bits != 8 && bits != 4) || bytes < 0 || out_groups < 1) return ACCEL_BAD_ARGUMENT;
  if (!is_divisible(bytes, devices) || !is_divisible(in_groups, devices) || in_groups < 1) return ACCEL_BAD_ARGUMENT;
  const int64_t tensor = bytes / devices, groups = in_groups / devices;
  if (!is_divisible(tensor, groups) || !is_divisible(tensor, out_groups)) return ACCEL_BAD_ARGUMENT;
  found = {devices, tensor, tensor / groups, tensor / out_groups, groups};
  return !quantized || !params || !codes || !new_params ? ACCEL_BAD_ARGUMENT : ACCEL_OK;
}

}  // namespace accel
