// SPDX-License-Identifier: Apache-2.0
// Adam with 8-bit moments on the CPU: see accel/adam8bit.h for codes and arithmetic.

#ifdef ACCEL_TARGET

#include "convert-inl.h"

namespace ACCEL_TARGET {

constexpr int64_t kCodes = ACCEL_ADAM8BIT_BLOCK;

template <class To, class From>
static inline To as(const From &from) {
  To to;
  static_assert(sizeof to == sizeof from, "the same bits");
  __builtin_memcpy(&to, &from, sizeof to);
  return to;
}

// Bits of the offset of exp_avg's magnitudes, and of exp_avg_sq's smallest value.
static inline uint32_t unit_signed(float scale) { return bits_of(scale * 0x1p-15f); }
static inline uint32_t unit_unsigned(float scale) { return bits_of(scale * 0x1p-31f); }

// Takes a code with its sign extended.
static inline float decode_signed(uint32_t code, uint32_t unit) {
  const uint32_t bits = (code << 20 & 0x87F00000u) + unit;
  return float_of(bits) - float_of((bits & 0x80000000u) | unit);
}

// Of one code or of several.
template <class Value, class Code>
static inline Value decode_unsigned(Code code, uint32_t unit) {
  return as<Value>((code << 20) + unit);
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
    to.v[i] = bits_of(decode_unsigned<float>(uint32_t{v[i]}, v_unit));
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
    const accel::Adam8bitScalars &given, bool RARE) {
  const accel::Adam8bitScalars s = given;
  Largest largest;
  for (int64_t i = 0; i < kCodes; ++i) {
    const float old_m = float_of(moments.m[i]), old_v = float_of(moments.v[i]);
    float g = grad[i];
    if (RARE) g = g * s.grad_factor;
    if (RARE) g = choose(s.has_l2, g + s.l2 * p[i], g);
    const float base = RARE ? choose(s.from_grad, g, old_m) : old_m;
    const float new_m = base + s.m_weight * (g - old_m);
    const float new_v = s.beta2 * old_v + s.v_weight * g * g;
    moments.root[i] = __builtin_sqrtf(new_v);
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
                   uint32_t noise, const accel::Adam8bitScalars &given) {
  const accel::Adam8bitScalars s = given;
  for (int64_t i = 0; i < kCodes; ++i) {
    const uint32_t m = moments.m[i], v = moments.v[i];
    p[i] = p[i] * s.keep - s.step_size * float_of(m) / (moments.root[i] + s.eps);
    const float moved = float_of(m) + float_of((m & 0x80000000u) | m_unit);
    moments.m[i] = bits_of(moved) + (noise & 0xFFFFFu);
    moments.v[i] = (v < v_unit ? v_unit : v) + (noise >> 12);
    noise += ACCEL_ADAM8BIT_LATTICE;
  }
}

static void narrow(uint8_t *__restrict m, uint8_t *__restrict v, const Moments &from,
                   uint32_t m_unit, uint32_t v_unit) {
  for (int64_t i = 0; i < kCodes; ++i) {
    const uint32_t magnitude = (from.m[i] - m_unit) >> 20 & 0x7Fu;
    m[i] = static_cast<uint8_t>(magnitude | (from.m[i] >> 24 & 0x80u));
    v[i] = static_cast<uint8_t>((from.v[i] - v_unit) >> 20);
  }
}
#endif

constexpr uint32_t kLargestM = ACCEL_ADAM8BIT_LARGEST_EXP_AVG;
constexpr uint32_t kLargestV = ACCEL_ADAM8BIT_LARGEST_EXP_AVG_SQ;

// At least 2^-95, so that no value of a code is smaller than the smallest normal number, and at most
// `most`.
static inline float scale_of(uint32_t largest, uint32_t most) {
  const uint32_t rounded = (largest + 0x7FFFFFu) & 0xFF800000u;
  const uint32_t above = rounded < 32u << 23 ? 32u << 23 : rounded;
  const uint32_t finite = above > most ? most : above;
  if (largest > 255u << 23) return __builtin_nanf("");
  return float_of(largest ? finite : 0u);
}

static Largest decode_and_update(Moments &to, const float *p, const float *g, const accel::Codes &m,
                                 const accel::Codes &v, const accel::Adam8bitScalars &s) {
  const bool rare = s.has_l2 | s.from_grad | (s.grad_factor != 1.0f);
#ifdef ACCEL_EIGHTS
  if (*m.scale > 0.0f && *v.scale > 0.0f)
    return rare ? update_eights(to, p, g, m, v, s, true) : update_eights(to, p, g, m, v, s, false);
#endif
  decode(to, m.codes, v.codes, *m.scale, *v.scale);
  return rare ? update(to, p, g, s, true) : update(to, p, g, s, false);
}

static inline void encode_block(const accel::Codes &m, const accel::Codes &v, float *p, Moments &moments,
                                uint32_t noise, const accel::Adam8bitScalars &s) {
  const uint32_t m_unit = unit_signed(*m.scale), v_unit = unit_unsigned(*v.scale);
#ifdef ACCEL_EIGHTS
  encode_eights(m.codes, v.codes, p, moments, m_unit, v_unit, noise, s);
#else
  encode(moments, p, m_unit, v_unit, noise, s);
  narrow(m.codes, v.codes, moments, m_unit, v_unit);
#endif
}

// The parameter moves by the moments as they are; codes are of those that have one.
static __attribute__((noinline, cold)) void encode_bounded(const accel::Codes &m, const accel::Codes &v,
                                                           float *p, Moments &moments, uint32_t noise,
                                                           const accel::Adam8bitScalars &s) {
  Moments bounded = moments;
  float unmoved[kCodes];
  __builtin_memcpy(unmoved, p, sizeof unmoved);
  for (int64_t i = 0; i < kCodes; ++i) {
    const uint32_t sign = moments.m[i] & 0x80000000u, magnitude = moments.m[i] ^ sign;
    bounded.m[i] = sign | (magnitude > kLargestM ? kLargestM : magnitude);
  }
  encode_block(m, v, p, moments, noise, s);
  encode_block(m, v, unmoved, bounded, noise, s);
}

static void whole_block(float *p, const float *g, const accel::Codes &m, const accel::Codes &v,
                        const accel::Adam8bitScalars &s, uint32_t noise) {
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

static void adam8bit_block(float *p, const float *g, const accel::Codes &m, const accel::Codes &v,
                           int64_t n, const accel::Adam8bitScalars &s, uint32_t noise) {
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

const accel::Adam8bitLevel adam8bit_level = {adam8bit_block, &convert};
#undef ACCEL_EIGHTS

}  // namespace ACCEL_TARGET

#else

#include "accel/adam8bit.h"
#include "convert.h"

namespace accel {

struct Adam8bitScalars {
  float grad_factor, l2, keep;
  float m_weight, v_weight, beta2;
  float eps, step_size;  // eps * sqrt(c2), lr * sqrt(c2) / c1
  uint32_t has_l2;       // all ones if l2 is not 0, else 0
  uint32_t from_grad;    // all ones if beta1 <= 0.5, else 0
};

// One block of a moment.
struct Codes {
  uint8_t *codes;
  float *scale;
};

struct Adam8bitLevel {
  void (*block)(float *p, const float *g, const Codes &m, const Codes &v, int64_t n,
                const Adam8bitScalars &s, uint32_t noise);
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

Adam8bitScalars scalars_at(const accel_adam8bit_args &a, double step) {
  const double lr = learning_rate(a);
  const bool correct = a.flags & ACCEL_ADAM8BIT_BIAS_CORRECTION;
  const bool decoupled = a.flags & ACCEL_ADAM8BIT_ADAMW;
  const double c1 = correct ? 1.0 - __builtin_pow(a.beta1, step) : 1.0;
  const double root_c2 = correct ? __builtin_sqrt(1.0 - __builtin_pow(a.beta2, step)) : 1.0;
  const bool from_grad = 1.0 - a.beta1 >= 0.5;
  const float l2 = decoupled ? 0.0f : static_cast<float>(a.weight_decay);
  return {grad_factor(a, a.flags & ACCEL_ADAM8BIT_MAXIMIZE),
          l2,
          decoupled ? static_cast<float>(1.0 - lr * a.weight_decay) : 1.0f,
          static_cast<float>(from_grad ? -a.beta1 : 1.0 - a.beta1),
          static_cast<float>(1.0 - a.beta2),
          static_cast<float>(a.beta2),
          scaled_eps(a.eps, root_c2),
          static_cast<float>(lr * root_c2 / c1),
          l2 != 0.0f ? ~0u : 0u,
          from_grad ? ~0u : 0u};
}

int32_t adam8bit_step(const accel_adam8bit_args &a) {
  constexpr int64_t kStates = ACCEL_ADAM8BIT_BLOCK;
  const Adam8bitLevel &level = ACCEL_FOR_LEVEL(adam8bit_level);
  ScalarsByStep<Adam8bitScalars> scalars;
  if (!scalars.prepare(a, [&](double step) { return scalars_at(a, step); })) return ACCEL_NO_MEMORY;
  for_pieces<kStates>(a.numels, a.count, a.num_threads, [&](int64_t i, int64_t begin, int64_t end) {
    const Adam8bitScalars &s = scalars[i];
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
  const int32_t status = accel::check_host_args(args, 2 * ACCEL_ADAM8BIT_MAXIMIZE - 1);
  // The blocks of a part would differ from those of the whole tensor.
  if (status == ACCEL_OK && args->first_elements) return ACCEL_UNSUPPORTED;
  if (status != ACCEL_OK || accel::skipped(*args)) return status;
  if (!args->exp_avgs || !args->exp_avg_sqs || !args->exp_avg_scales || !args->exp_avg_sq_scales)
    return ACCEL_BAD_ARGUMENT;
  return accel::adam8bit_step(*args);
}

#endif
#endif
