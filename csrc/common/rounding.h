// SPDX-License-Identifier: Apache-2.0
// Between float32 and the 16-bit types, one element at a time: to nearest, ties to even, or with the
// random bits `noise` (random.h). Without branches, so that plain loops become vector code. All devices
// give the same bits, except the payload of NaN.
//
// A finite x becomes stochastically, by its bits u without the sign and with r the noise:
//   bfloat16: (u + (r & 0xFFFF)) >> 16
//   float16 from 2^-14 on: (u - (112 << 23) + (r & 0x1FFF)) >> 13, infinity from 2^16 on
//   float16 below 2^-14: ((int32_t)(|x| * 2^40) + (r & 0xFFFF)) >> 16, cut off the grid of 2^-24
#pragma once

#include "shared.h"

namespace accel {

ACCEL_ON_BOTH(kRoundingText,

ACCEL_DEVICE uint32_t bits_of(float x) {
  uint32_t u;
  ACCEL_COPY(&u, &x, 4);
  return u;
}

ACCEL_DEVICE float float_of(uint32_t u) {
  float x;
  ACCEL_COPY(&x, &u, 4);
  return x;
}

ACCEL_DEVICE float widen_bfloat16(uint32_t half) { return float_of(half << 16); }

ACCEL_DEVICE uint32_t narrow_bfloat16(float x) {
  const uint32_t u = bits_of(x);
  return (u & 0x7FFFFFFFu) > 0x7F800000u ? 0x7FC0u : (u + 0x7FFFu + (u >> 16 & 1u)) >> 16;
}

ACCEL_DEVICE uint32_t narrow_bfloat16(float x, uint32_t noise) {
  const uint32_t u = bits_of(x), magnitude = u & 0x7FFFFFFFu;
  const uint32_t rounded = (magnitude < 0x7F800000u ? u + (noise & 0xFFFFu) : u) >> 16;
  return magnitude > 0x7F800000u ? 0x7FC0u : rounded;
}

// Subnormals go through an exact float subtraction (Giesen, "half to float done quick").
ACCEL_DEVICE float widen_float16(uint32_t half) {
  const uint32_t magnitude = half & 0x7FFFu, sign = (half & 0x8000u) << 16, shifted = magnitude << 13;
  const uint32_t normal = shifted + (112u << 23);
  const uint32_t special = (shifted + (224u << 23)) | (magnitude > 0x7C00u ? 0x400000u : 0u);
  const uint32_t subnormal = bits_of(float_of(shifted + (113u << 23)) - float_of(113u << 23));
  return float_of((magnitude >= 0x7C00u ? special : magnitude < 0x0400u ? subnormal : normal) | sign);
}

// A float16 without its sign: `finite`, unless the float32 is too large for one.
ACCEL_DEVICE uint32_t bounded_float16(uint32_t magnitude, uint32_t finite) {
  const uint32_t nan = 0x7E00u | (magnitude >> 13 & kPayload16);
  return magnitude > 0x7F800000u ? nan : (magnitude >= (143u << 23) ? 0x7C00u : finite);
}

// Adding 0.5 aligns a result below 2^-14 to the float16 grid with the processor's own rounding.
ACCEL_DEVICE uint32_t narrow_float16(float x) {
  const uint32_t u = bits_of(x), sign = u >> 16 & 0x8000u, magnitude = u & 0x7FFFFFFFu;
  const uint32_t tiny = bits_of(float_of(magnitude) + 0.5f) - 0x3F000000u;
  const uint32_t normal = (magnitude - (112u << 23) + 0xFFFu + (magnitude >> 13 & 1u)) >> 13;
  return bounded_float16(magnitude, magnitude < (113u << 23) ? tiny : normal) | sign;
}

ACCEL_DEVICE uint32_t narrow_float16(float x, uint32_t noise) {
  const uint32_t u = bits_of(x), sign = u >> 16 & 0x8000u, magnitude = u & 0x7FFFFFFFu;
  const bool small = magnitude < (113u << 23);
  const int32_t fixed = (int32_t)(float_of(small ? magnitude : 0u) * 0x1p40f);
  const uint32_t tiny = ((uint32_t)fixed + (noise & 0xFFFFu)) >> 16;
  const uint32_t normal = (magnitude - (112u << 23) + (noise & 0x1FFFu)) >> 13;
  return bounded_float16(magnitude, small ? tiny : normal) | sign;
}

)

}  // namespace accel
