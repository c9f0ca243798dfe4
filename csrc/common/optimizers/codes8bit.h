// SPDX-License-Identifier: Apache-2.0
// Codes of moments in 8 bits, one element at a time: accel/adam8bit.h defines them. Bits of floats are
// their values as integers, which a `unit` is, too: it stands for the scale of a block.
#pragma once

#include "accel/adam8bit.h"
#include "../optimizer.h"

namespace accel {

ACCEL_ON_BOTH(kCodes8bitText,

enum Codes8bit : uint32_t {
  kCodes = 256,             // of one scale
  kLattice = 0xC1391E11u,   // between the noise of two neighbours
  kLargestM = 0x7F000000u,  // the largest scales, as bits
  kLargestV = 0x7F100000u
};

// Bits of the offset of exp_avg's magnitudes, and of exp_avg_sq's smallest value.
ACCEL_DEVICE uint32_t unit_signed(float scale) { return bits_of(scale * 0x1p-15f); }
ACCEL_DEVICE uint32_t unit_unsigned(float scale) { return bits_of(scale * 0x1p-31f); }

// Of codes with their signs extended, and of unsigned ones, for scales above 0.
ACCEL_DEVICE float decode_signed(uint32_t code, uint32_t unit) {
  const uint32_t bits = (code << 20 & 0x87F00000u) + unit;
  return float_of(bits) - float_of((bits & 0x80000000u) | unit);
}
ACCEL_DEVICE float decode_unsigned(uint32_t code, uint32_t unit) { return float_of((code << 20) + unit); }

// Bits of moments at most as large as kLargestM and with noise, for codes that cut them off.
ACCEL_DEVICE uint32_t blur_signed(uint32_t m, uint32_t unit, uint32_t noise) {
  return bits_of(float_of(m) + float_of((m & 0x80000000u) | unit)) + (noise & 0xFFFFFu);
}
ACCEL_DEVICE uint32_t blur_unsigned(uint32_t v, uint32_t unit, uint32_t noise) {
  return (v < unit ? unit : v) + (noise >> 12);
}

ACCEL_DEVICE uint8_t code_signed(uint32_t blurred, uint32_t unit) {
  return (uint8_t)(((blurred - unit) >> 20 & 0x7Fu) | (blurred >> 24 & 0x80u));
}
ACCEL_DEVICE uint8_t code_unsigned(uint32_t blurred, uint32_t unit) {
  return (uint8_t)((blurred - unit) >> 20);
}

ACCEL_DEVICE uint32_t bounded_moment(uint32_t m) {
  const uint32_t sign = m & 0x80000000u, magnitude = m ^ sign;
  return sign | (magnitude > kLargestM ? (uint32_t)kLargestM : magnitude);
}

// The scale of a block by the bits of its largest magnitude: at least 2^-95, so that no value of a code
// is smaller than the smallest normal number, and at most `most`.
ACCEL_DEVICE float scale_of(uint32_t largest, uint32_t most) {
  const uint32_t rounded = (largest + 0x7FFFFFu) & 0xFF800000u;
  const uint32_t above = rounded < 32u << 23 ? 32u << 23 : rounded;
  const uint32_t finite = above > most ? most : above;
  return float_of(largest > 255u << 23 ? 0x7FC00000u : (largest ? finite : 0u));
}

// The next element of the same block has kLattice more.
ACCEL_DEVICE uint32_t codes8bit_noise(uint64_t key, uint64_t element) {
  return accel_random_bits(key, element / kCodes) + kLattice * (uint32_t)(element % kCodes);
}

)

static_assert(kCodes == static_cast<uint32_t>(ACCEL_ADAM8BIT_BLOCK) && kLattice == ACCEL_ADAM8BIT_LATTICE &&
                  kLargestM == static_cast<uint32_t>(ACCEL_ADAM8BIT_LARGEST_EXP_AVG) &&
                  kLargestV == static_cast<uint32_t>(ACCEL_ADAM8BIT_LARGEST_EXP_AVG_SQ),
              "accel/adam8bit.h has the same");

}  // namespace accel
