// SPDX-License-Identifier: Apache-2.0
// Lion with an 8-bit moment on the CPU.

#ifdef ACCEL_TARGET

#include "codes8bit-inl.h"

namespace ACCEL_TARGET {

#ifdef ACCEL_EIGHTS
// Decodes and steps eight elements at a time, with the bits of the loop below, and prefetches the block
// after the next. Returns the bits of the new moment's largest magnitude.
static uint32_t update(uint32_t *__restrict moments, float *__restrict p, const float *__restrict grad,
                       const Codes &codes, const LionScalars &given) {
  const LionScalars s = given;
  const uint32_t unit = unit_signed(*codes.scale);
  const Values one = Values{} + 1.0f;
  Words largest = {};
  for (int64_t line = 0; line < kCodes; line += 16) {
    __builtin_prefetch(grad + 2 * kCodes + line);
    __builtin_prefetch(p + 2 * kCodes + line);
#pragma GCC unroll 2
    for (int64_t i = line; i < line + 16; i += 8) {
      const Values m = decode_eight<true>(codes.codes + i, unit);
      const Values g = read<Values>(grad + i) * s.grad_factor;
      const Values c = m * s.beta1 + g * s.g_weight;
      const Values sign = c > 0.0f ? one : (c < 0.0f ? -one : c);
      const Values new_m = m * s.beta2 + g * s.m_weight;
      write(moments + i, new_m);
      write(p + i, read<Values>(p + i) * s.keep - sign * s.lr);
      largest = greater(largest, as<Words>(new_m) & 0x7FFFFFFFu);
    }
  }
  return greatest(largest);
}
#endif

static uint32_t update(uint32_t *__restrict moments, float *__restrict p, const float *__restrict grad,
                       const LionScalars &given) {
  const LionScalars s = given;
  uint32_t largest = 0;
  for (int64_t i = 0; i < kCodes; ++i) {
    float m = float_of(moments[i]);
    lion(grad[i], p[i], m, s);
    const uint32_t bits = bits_of(m), magnitude = bits & 0x7FFFFFFFu;
    moments[i] = bits;
    largest = magnitude > largest ? magnitude : largest;
  }
  return largest;
}

static uint32_t decode_and_update(uint32_t *moments, float *p, const float *g, const Codes &codes,
                                  const LionScalars &s) {
#ifdef ACCEL_EIGHTS
  if (*codes.scale > 0.0f) return update(moments, p, g, codes, s);
#endif
  decode_block<true>(moments, codes);
  return update(moments, p, g, s);
}

static void lion8bit_block(float *p, const float *g, const Codes *states, const LionScalars &s,
                           uint32_t noise) {
  alignas(64) uint32_t moments[kCodes];
  const uint32_t largest = decode_and_update(moments, p, g, *states, s);
  encode_block<true>(*states, moments, largest, noise);
}

const CodedLevel<Lion8bit> lion8bit_level = {extended<Lion8bit, lion8bit_block>, &convert};
#undef ACCEL_EIGHTS

}  // namespace ACCEL_TARGET

#else

#include "../../common/optimizers/lion8bit.h"
#include "codes8bit.h"

#define ACCEL_SOURCE "optimizers/lion8bit.cpp"
#define ACCEL_TABLE const accel::CodedLevel<accel::Lion8bit> lion8bit_level
#include "foreach_target.h"

#ifdef ACCEL_PART_COMMON
#include "simd.h"
#include "step_coded.h"

int32_t accel_lion8bit_step(const accel_lion8bit_args *args, void *) {
  return accel::step_coded<accel::Lion8bit>(args, ACCEL_FOR_LEVEL(lion8bit_level));
}

#endif
#endif
