// SPDX-License-Identifier: Apache-2.0
// Blocks of 8-bit codes for one SIMD level: included inside each target region.

#include "convert-inl.h"

namespace ACCEL_TARGET {

template <class To, class From>
static inline To as(const From &from) {
  To to;
  static_assert(sizeof to == sizeof from, "the same bits");
  __builtin_memcpy(&to, &from, sizeof to);
  return to;
}

#if defined(ACCEL_HAS_F16C) && !defined(__clang__)
#define ACCEL_EIGHTS 1
#include "eights-inl.h"
#endif

// The bits of a block's moments.
template <bool SIGNED>
static void decode_block(uint32_t *__restrict to, const Codes &from) {
  const float scale = *from.scale;
  const uint8_t *__restrict codes = from.codes;
  if (!(scale > 0.0f)) {
    for (int64_t i = 0; i < kCodes; ++i) to[i] = bits_of(scale);
    return;
  }
  const uint32_t unit = SIGNED ? unit_signed(scale) : unit_unsigned(scale);
#ifdef ACCEL_EIGHTS
  for (int64_t i = 0; i < kCodes; i += 8) write(to + i, decode_eight<SIGNED>(codes + i, unit));
#else
  for (int64_t i = 0; i < kCodes; ++i) {
    const auto extended = static_cast<uint32_t>(static_cast<int8_t>(codes[i]));
    to[i] = bits_of(SIGNED ? decode_signed(extended, unit) : decode_unsigned(codes[i], unit));
  }
#endif
}

static inline void clear_without_scale(const Codes &codes) {
  if (!(*codes.scale > 0.0f)) __builtin_memset(codes.codes, 0, kCodes);
}

// Stores a block's moments, whose largest magnitude has the bits `largest`, and spoils them.
template <bool SIGNED>
[[maybe_unused]] static void encode_block(const Codes &to, uint32_t *__restrict moments, uint32_t largest,
                                          uint32_t noise) {
  if (SIGNED && largest > kLargestM)
    for (int64_t rare = 0; rare < kCodes; ++rare) moments[rare] = bounded_moment(moments[rare]);
  *to.scale = scale_of(largest, SIGNED ? kLargestM : kLargestV);
  const uint32_t unit = SIGNED ? unit_signed(*to.scale) : unit_unsigned(*to.scale);
  uint8_t *__restrict codes = to.codes;
#ifdef ACCEL_EIGHTS
  Words at = Words{0, 1, 2, 3, 4, 5, 6, 7} * uint32_t{kLattice} + noise;
  Words blurred[4];
  for (int64_t i = 0; i < kCodes; i += 32) {
#pragma GCC unroll 4
    for (int64_t k = 0; k < 4; ++k) {
      blurred[k] = blur_eight<SIGNED>(read<Words>(moments + i + 8 * k), unit, at);
      at += 8u * kLattice;
    }
    store_blurred<SIGNED>(codes + i, blurred, unit);
  }
#else
  for (int64_t i = 0; i < kCodes; ++i) {
    moments[i] = SIGNED ? blur_signed(moments[i], unit, noise) : blur_unsigned(moments[i], unit, noise);
    noise += kLattice;
  }
  for (int64_t i = 0; i < kCodes; ++i)
    codes[i] = SIGNED ? code_signed(moments[i], unit) : code_unsigned(moments[i], unit);
#endif
  clear_without_scale(to);
}

// Makes a whole block of its first `n` elements by repeating the last one, which changes no maximum.
template <class T>
static void extend(T *to, const T *from, int64_t n) {
  __builtin_memcpy(to, from, static_cast<size_t>(n) * sizeof(T));
  for (int64_t i = n; i < kCodes; ++i) to[i] = from[n - 1];
}

// Calls WHOLE for a block of `n` elements, a short one in memory of its own.
template <class Op, void (*WHOLE)(float *, const float *, const Codes *, const typename Op::Scalars &, uint32_t)>
static void extended(float *p, const float *g, const Codes *states, int64_t n,
                     const typename Op::Scalars &s, uint32_t noise) {
  if (n >= kCodes) return WHOLE(p, g, states, s, noise);
  float whole_p[kCodes], whole_g[kCodes];
  uint8_t whole[Op::kStates][kCodes];
  Codes here[Op::kStates];
  extend(whole_p, p, n);
  extend(whole_g, g, n);
  for (int which = 0; which < Op::kStates; ++which) {
    extend(whole[which], states[which].codes, n);
    here[which] = {whole[which], states[which].scale};
  }
  WHOLE(whole_p, whole_g, here, s, noise);
  const size_t size = static_cast<size_t>(n);
  __builtin_memcpy(p, whole_p, size * sizeof *p);
  for (int which = 0; which < Op::kStates; ++which) __builtin_memcpy(states[which].codes, whole[which], size);
}

}  // namespace ACCEL_TARGET
