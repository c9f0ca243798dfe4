// SPDX-License-Identifier: Apache-2.0
// Lion with an 8-bit moment on the CPU.

#ifdef ACCEL_TARGET

#include "codes8bit-inl.h"

namespace ACCEL_TARGET {

// Returns the bits of the new moment's largest magnitude.
static uint32_t lion8bit_update(uint32_t *__restrict moments, float *__restrict p,
                                const float *__restrict grad, const LionScalars &given) {
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

static void lion8bit_block(float *p, const float *g, const Codes *states, const LionScalars &s,
                           uint32_t noise) {
  alignas(64) uint32_t moments[kCodes];
#ifndef ACCEL_LOWEST
  for (int64_t line = 0; line < kCodes; line += 16) {
    __builtin_prefetch(g + 2 * kCodes + line);
    __builtin_prefetch(p + 2 * kCodes + line);
  }
#endif
  decode_block<true>(moments, *states);
  encode_block<true>(*states, moments, lion8bit_update(moments, p, g, s), noise);
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
