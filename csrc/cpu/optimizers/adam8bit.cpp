// SPDX-License-Identifier: Apache-2.0
// Adam with 8-bit moments on the CPU: a block after the other.

#ifdef ACCEL_TARGET

#include "codes8bit-inl.h"

namespace ACCEL_TARGET {

// The bits of a block's moments, and after `encode` its codes in the upper 12 bits.
struct Moments {
  alignas(64) uint32_t m[kCodes], v[kCodes];
  alignas(64) float root[kCodes];  // of v
};

// The largest magnitudes of a block, as bits: as integers, so that NaN counts as the largest.
struct Largest {
  uint32_t m = 0, v = 0;
};

// `RARE` (gradients are scaled, or there may be an L2 decay or a beta1 up to 0.5) is a constant in
// every call, so each becomes a loop of its own without branches.
static inline __attribute__((always_inline)) Largest update(
    Moments &moments, const float *__restrict p, const float *__restrict grad,
    const AdamScalars &given, bool RARE) {
  const AdamScalars s = given;
  Largest largest;
  for (int64_t i = 0; i < kCodes; ++i) {
    const float old_m = float_of(moments.m[i]), old_v = float_of(moments.v[i]);
    const float g = RARE ? adam_gradient(grad[i], p[i], s) : grad[i];
    const float new_m = RARE ? adam_first(g, old_m, s) : old_m + s.m_weight * (g - old_m);
    const float new_v = adam_second(g, old_v, s);
    moments.root[i] = root(new_v);
    const uint32_t m = bits_of(new_m), v = bits_of(new_v), magnitude = m & 0x7FFFFFFFu;
    moments.m[i] = m;
    moments.v[i] = v;
    largest.m = magnitude > largest.m ? magnitude : largest.m;
    largest.v = v > largest.v ? v : largest.v;
  }
  return largest;
}

#ifdef ACCEL_EIGHTS
#include "adam8bit_eights-inl.h"
#else

// Also updates the parameter by the new moments. In one loop with the roots it would wait for them,
// since a processor has registers for a few iterations only.
static void encode_loop(Moments &moments, float *__restrict p, uint32_t m_unit, uint32_t v_unit,
                   uint32_t noise, const AdamScalars &given) {
  const AdamScalars s = given;
  for (int64_t i = 0; i < kCodes; ++i) {
    p[i] = adam_param(p[i], float_of(moments.m[i]), moments.root[i], s);
    moments.m[i] = blur_signed(moments.m[i], m_unit, noise);
    moments.v[i] = blur_unsigned(moments.v[i], v_unit, noise);
    noise += kLattice;
  }
}

static void narrow(uint8_t *__restrict m, uint8_t *__restrict v, const Moments &from,
                   uint32_t m_unit, uint32_t v_unit) {
  for (int64_t i = 0; i < kCodes; ++i) {
    m[i] = code_signed(from.m[i], m_unit);
    v[i] = code_unsigned(from.v[i], v_unit);
  }
}
#endif

static Largest decode_and_update(Moments &to, const float *p, const float *g, const Codes &m,
                                 const Codes &v, const AdamScalars &s) {
  const bool rare = s.has_l2 | s.from_grad | (s.grad_factor != 1.0f);
#ifdef ACCEL_EIGHTS
  if (*m.scale > 0.0f && *v.scale > 0.0f)
    return rare ? update_eights(to, p, g, m, v, s, true) : update_eights(to, p, g, m, v, s, false);
#endif
  decode_block<true>(to.m, m);
  decode_block<false>(to.v, v);
  return rare ? update(to, p, g, s, true) : update(to, p, g, s, false);
}

static inline void encode_both(const Codes &m, const Codes &v, float *p, Moments &moments,
                                uint32_t noise, const AdamScalars &s) {
  const uint32_t m_unit = unit_signed(*m.scale), v_unit = unit_unsigned(*v.scale);
#ifdef ACCEL_EIGHTS
  encode_eights(m.codes, v.codes, p, moments, m_unit, v_unit, noise, s);
#else
  encode_loop(moments, p, m_unit, v_unit, noise, s);
  narrow(m.codes, v.codes, moments, m_unit, v_unit);
#endif
}

// The parameter moves by the moments as they are; codes are of those that have one.
static __attribute__((noinline, cold)) void encode_bounded(const Codes &m, const Codes &v,
                                                           float *p, Moments &moments, uint32_t noise,
                                                           const AdamScalars &s) {
  Moments bounded = moments;
  float unmoved[kCodes];
  __builtin_memcpy(unmoved, p, sizeof unmoved);
  for (int64_t i = 0; i < kCodes; ++i) bounded.m[i] = bounded_moment(moments.m[i]);
  encode_both(m, v, p, moments, noise, s);
  encode_both(m, v, unmoved, bounded, noise, s);
}

static void adam8bit_block(float *p, const float *g, const Codes *states, const AdamScalars &s,
                           uint32_t noise) {
  const Codes &m = states[0], &v = states[1];
  Moments moments;
  const Largest largest = decode_and_update(moments, p, g, m, v, s);
  *m.scale = scale_of(largest.m, kLargestM);
  *v.scale = scale_of(largest.v, kLargestV);
  if (largest.m > kLargestM)
    encode_bounded(m, v, p, moments, noise, s);
  else
    encode_both(m, v, p, moments, noise, s);
  clear_without_scale(m);
  clear_without_scale(v);
}

const CodedLevel<Adam8bit> adam8bit_level = {extended<Adam8bit, adam8bit_block>, &convert};
#undef ACCEL_EIGHTS

}  // namespace ACCEL_TARGET

#else

#include "../../common/optimizers/adam8bit.h"
#include "codes8bit.h"

#define ACCEL_SOURCE "optimizers/adam8bit.cpp"
#define ACCEL_TABLE const accel::CodedLevel<accel::Adam8bit> adam8bit_level
#include "foreach_target.h"

#ifdef ACCEL_PART_COMMON
#include "simd.h"
#include "step_coded.h"

int32_t accel_adam8bit_step(const accel_adam8bit_args *args, void *) {
  return accel::step_coded<accel::Adam8bit>(args, ACCEL_FOR_LEVEL(adam8bit_level));
}

#endif
#endif
