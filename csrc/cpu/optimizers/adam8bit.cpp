// SPDX-License-Identifier: Apache-2.0
// Adam with 8-bit moments on the CPU: a block after the other.

#ifdef ACCEL_TARGET

#include "convert-inl.h"

namespace ACCEL_TARGET {

template <class To, class From>
static inline To as(const From &from) {
  To to;
  static_assert(sizeof to == sizeof from, "the same bits");
  __builtin_memcpy(&to, &from, sizeof to);
  return to;
}

// The bits of a block's moments, and after `encode` its codes in the upper 12 bits.
struct Moments {
  alignas(64) uint32_t m[kCodes], v[kCodes];
  alignas(64) float root[kCodes];  // of v
};

static void fill(uint32_t *to, float value) {
  for (int64_t i = 0; i < kCodes; ++i) to[i] = bits_of(value);
}

static void decode(Moments &to, const uint8_t *__restrict m, const uint8_t *__restrict v,
                   float m_scale, float v_scale) {
  const uint32_t m_unit = unit_signed(m_scale), v_unit = unit_unsigned(v_scale);
  for (int64_t i = 0; i < kCodes; ++i) {
    const auto m_code = static_cast<uint32_t>(static_cast<int8_t>(m[i]));
    to.m[i] = bits_of(decode_signed(m_code, m_unit));
    to.v[i] = bits_of(decode_unsigned(v[i], v_unit));
  }
  if (!(m_scale > 0.0f)) fill(to.m, m_scale);
  if (!(v_scale > 0.0f)) fill(to.v, v_scale);
}

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

#if defined(ACCEL_HAS_F16C) && !defined(__clang__)
#define ACCEL_EIGHTS 1
#include "adam8bit_eights-inl.h"
#else

// Also updates the parameter by the new moments. In one loop with the roots it would wait for them,
// since a processor has registers for a few iterations only.
static void encode(Moments &moments, float *__restrict p, uint32_t m_unit, uint32_t v_unit,
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
  decode(to, m.codes, v.codes, *m.scale, *v.scale);
  return rare ? update(to, p, g, s, true) : update(to, p, g, s, false);
}

static inline void encode_block(const Codes &m, const Codes &v, float *p, Moments &moments,
                                uint32_t noise, const AdamScalars &s) {
  const uint32_t m_unit = unit_signed(*m.scale), v_unit = unit_unsigned(*v.scale);
#ifdef ACCEL_EIGHTS
  encode_eights(m.codes, v.codes, p, moments, m_unit, v_unit, noise, s);
#else
  encode(moments, p, m_unit, v_unit, noise, s);
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
  encode_block(m, v, p, moments, noise, s);
  encode_block(m, v, unmoved, bounded, noise, s);
}

static void whole_block(float *p, const float *g, const Codes &m, const Codes &v,
                        const AdamScalars &s, uint32_t noise) {
  Moments moments;
  const Largest largest = decode_and_update(moments, p, g, m, v, s);
  *m.scale = scale_of(largest.m, kLargestM);
  *v.scale = scale_of(largest.v, kLargestV);
  if (largest.m > kLargestM)
    encode_bounded(m, v, p, moments, noise, s);
  else
    encode_block(m, v, p, moments, noise, s);
  if (!(*m.scale > 0.0f)) __builtin_memset(m.codes, 0, kCodes);
  if (!(*v.scale > 0.0f)) __builtin_memset(v.codes, 0, kCodes);
}

// Makes a whole block of its first `n` elements by repeating the last one, which changes no maximum.
template <class T>
static void extend(T *to, const T *from, int64_t n) {
  __builtin_memcpy(to, from, static_cast<size_t>(n) * sizeof(T));
  for (int64_t i = n; i < kCodes; ++i) to[i] = from[n - 1];
}

static void adam8bit_block(float *p, const float *g, const Codes &m, const Codes &v,
                           int64_t n, const AdamScalars &s, uint32_t noise) {
  if (n >= kCodes) return whole_block(p, g, m, v, s, noise);
  float whole_p[kCodes], whole_g[kCodes];
  uint8_t whole_m[kCodes], whole_v[kCodes];
  extend(whole_p, p, n);
  extend(whole_g, g, n);
  extend(whole_m, m.codes, n);
  extend(whole_v, v.codes, n);
  whole_block(whole_p, whole_g, {whole_m, m.scale}, {whole_v, v.scale}, s, noise);
  const size_t size = static_cast<size_t>(n);
  __builtin_memcpy(p, whole_p, size * sizeof *p);
  __builtin_memcpy(m.codes, whole_m, size);
  __builtin_memcpy(v.codes, whole_v, size);
}

const Adam8bitLevel adam8bit_level = {adam8bit_block, &convert};
#undef ACCEL_EIGHTS

}  // namespace ACCEL_TARGET

#else

#include "../../common/optimizers/adam8bit.h"
#include "convert.h"

namespace accel {

// One block of a moment.
struct Codes {
  uint8_t *codes;
  float *scale;
};

struct Adam8bitLevel {
  void (*block)(float *p, const float *g, const Codes &m, const Codes &v, int64_t n,
                const AdamScalars &s, uint32_t noise);
  const Convert *convert;
};

}  // namespace accel

#define ACCEL_SOURCE "optimizers/adam8bit.cpp"
#define ACCEL_TABLE const accel::Adam8bitLevel adam8bit_level
#include "foreach_target.h"

#ifdef ACCEL_PART_COMMON
#include "optimizer.h"
#include "simd.h"

namespace accel {
namespace {

int32_t adam8bit_step(const accel_adam8bit_args &a) {
  constexpr int64_t kStates = kCodes;
  const Adam8bitLevel &level = ACCEL_FOR_LEVEL(adam8bit_level);
  ScalarsByStep<Adam8bit> scalars;
  if (!scalars.prepare(a, Count::kForward)) return ACCEL_NO_MEMORY;
  for_pieces<kStates>(a.numels, a.count, a.num_threads, [&](int64_t i, int64_t begin, int64_t end) {
    const AdamScalars &s = scalars[i];
    for (int64_t from = begin; from < end; from += kBlock) {
      const int64_t to = lesser(from + kBlock, end);
      ParamBlock<accel_adam8bit_args> block(a, *level.convert, scalars.seed(i), i, from, to - from);
      const uint64_t key = block.noise(1).key;
      for (int64_t at = from; at < to; at += kStates) {
        const Codes m = {a.exp_avgs[i] + at, a.exp_avg_scales[i] + at / kStates};
        const Codes v = {a.exp_avg_sqs[i] + at, a.exp_avg_sq_scales[i] + at / kStates};
        level.block(block.param() + (at - from), block.grad() + (at - from), m, v,
                    lesser(kStates, to - at), s, accel_adam8bit_noise(key, at));
      }
      block.store();
    }
  });
  return ACCEL_OK;
}

}  // namespace
}  // namespace accel

int32_t accel_adam8bit_step(const accel_adam8bit_args *args, void *) {
  const int32_t status = accel::check<accel::Adam8bit>(args, false);
  // The blocks of a part would differ from those of the whole tensor.
  if (status == ACCEL_OK && args->first_elements) return ACCEL_UNSUPPORTED;
  return status != ACCEL_OK || accel::skipped(*args) ? status : accel::adam8bit_step(*args);
}

#endif
#endif
