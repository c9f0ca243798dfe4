// SPDX-License-Identifier: Apache-2.0
// Adam with 8-bit moments on the CPU: see accel/adam8bit.h for codes and arithmetic.

#ifdef ACCEL_TARGET

#include "convert-inl.h"

namespace ACCEL_TARGET {

static inline float decode_signed(uint32_t code, float scale) {
  const uint32_t magnitude = code & 0x7Fu;
  const uint32_t bits = magnitude ? (magnitude << 20) + (112u << 23) : 0u;
  return float_of(bits | (code & 0x80u) << 24) * scale;
}

static inline float decode_unsigned(uint32_t code, float scale) {
  return float_of(code ? (code << 20) + (96u << 23) : 0u) * scale;
}

constexpr uint32_t kSmallestSigned = (112u << 23) + (1u << 20);
constexpr uint32_t kSmallestUnsigned = (96u << 23) + (1u << 20);

// `u` holds the bits of a value over its block's scale, `noise` 32 random bits. A code's bias is not
// subtracted: it is a multiple of what the code's bits hold. Right from the code's smallest on.
static inline uint32_t encode_signed(uint32_t u, uint32_t noise) {
  const uint32_t coded = ((u & 0x7FFFFFFFu) + ((noise & 0xFFFFu) << 4)) >> 20;
  return (coded & 0x7Fu) | (u >> 24 & 0x80u);
}

static inline uint32_t encode_unsigned(uint32_t u, uint32_t noise) {
  return (u + (noise >> 12 & 0xFFFF0u)) >> 20;
}

// The same for every value. All comparisons are of bit patterns, which rise with the magnitude.
static inline uint32_t encode_any_signed(uint32_t u, uint32_t noise) {
  constexpr uint32_t kOne = 127u << 23;
  const uint32_t magnitude = u & 0x7FFFFFFFu;
  const float held = float_of(magnitude < kOne ? magnitude : kOne);
  const int32_t chance = static_cast<int32_t>(held * (0x1p31f / 1.125f));
  const uint32_t tiny = static_cast<int32_t>(noise & 0xFFFFu) < chance ? 1u : 0u;
  return magnitude < kSmallestSigned ? tiny | (u >> 24 & 0x80u) : encode_signed(u, noise);
}

static inline uint32_t encode_any_unsigned(uint32_t u, uint32_t noise, float x) {
  const uint32_t tiny = bits_of(x) < 1u ? 0u : 1u;
  return u < kSmallestUnsigned ? tiny : encode_unsigned(u, noise);
}

static inline float power_of_two_above(uint32_t bits) {
  return float_of(bits < 0x7F800000u ? (bits + 0x7FFFFFu) & 0xFF800000u : bits);
}

static inline float inverse_of(float scale) { return scale == 0.0f ? 0.0f : 1.0f / scale; }

// The largest and smallest magnitudes of a block, as bits: as integers, so that NaN counts as the
// largest.
struct Range {
  uint32_t largest_m = 0, largest_v = 0, smallest_m = ~0u, smallest_v = ~0u;
};

// `L2` is a constant in every call, so each becomes a loop of its own without branches.
static inline __attribute__((always_inline)) Range update(
    float *__restrict p, const float *__restrict grad, const uint8_t *__restrict m_codes,
    const uint8_t *__restrict v_codes, float *__restrict m, float *__restrict v, float m_scale,
    float v_scale, int64_t n, const accel::Adam8bitScalars &given, bool L2) {
  const accel::Adam8bitScalars s = given;
  Range range;
  for (int64_t i = 0; i < n; ++i) {
    const float old_m = decode_signed(m_codes[i], m_scale);
    const float old_v = decode_unsigned(v_codes[i], v_scale);
    float g = grad[i] * s.grad_factor;
    if (L2) g = g + s.l2 * p[i];
    const float base = choose(s.from_grad, g, old_m);
    const float new_m = base + s.m_weight * (g - old_m);
    const float new_v = s.beta2 * old_v + s.v_weight * g * g;
    const float denominator = __builtin_sqrtf(new_v) * s.root_factor + s.eps;
    m[i] = new_m;
    v[i] = new_v;
    p[i] = p[i] * s.keep - s.step_size * new_m / denominator;
    const uint32_t m_bits = bits_of(new_m) & 0x7FFFFFFFu, v_bits = bits_of(new_v);
    range.largest_m = m_bits > range.largest_m ? m_bits : range.largest_m;
    range.largest_v = v_bits > range.largest_v ? v_bits : range.largest_v;
    range.smallest_m = m_bits < range.smallest_m ? m_bits : range.smallest_m;
    range.smallest_v = v_bits < range.smallest_v ? v_bits : range.smallest_v;
  }
  return range;
}

// New moments of a block on their way to codes.
struct Fresh {
  const float *m, *v;
  float m_inverse, v_inverse;
};

// Blocks begin at multiples of their size: within one, an element's number differs in its low byte
// only, which passes the random bits' first shift untouched as long as nothing is carried.
static void encode(uint8_t *__restrict m_codes, uint8_t *__restrict v_codes, const Fresh &fresh,
                   uint32_t n, uint64_t key, uint64_t first) {
  const float *__restrict m = fresh.m, *__restrict v = fresh.v;
  const float m_inverse = fresh.m_inverse, v_inverse = fresh.v_inverse;
  const uint32_t start = accel_random_start(key, 0, static_cast<uint32_t>(first));
  for (uint32_t i = 0; i < n; ++i) {
    const uint32_t noise = accel_random_finish(key, start ^ i);
    m_codes[i] = static_cast<uint8_t>(encode_signed(bits_of(m[i] * m_inverse), noise));
    v_codes[i] = static_cast<uint8_t>(encode_unsigned(bits_of(v[i] * v_inverse), noise));
  }
}

static void encode_any(uint8_t *__restrict m_codes, uint8_t *__restrict v_codes, const Fresh &fresh,
                       uint32_t n, uint64_t key, uint64_t first) {
  const float *__restrict m = fresh.m, *__restrict v = fresh.v;
  const float m_inverse = fresh.m_inverse, v_inverse = fresh.v_inverse;
  const uint32_t carry = accel_random_carry(first);
  const uint32_t low = static_cast<uint32_t>(first);
  for (uint32_t i = 0; i < n; ++i) {
    const uint32_t noise = accel_random_mix(key, carry, low + i);
    m_codes[i] = static_cast<uint8_t>(encode_any_signed(bits_of(m[i] * m_inverse), noise));
    v_codes[i] = static_cast<uint8_t>(encode_any_unsigned(bits_of(v[i] * v_inverse), noise, v[i]));
  }
}

static void adam8bit_block(float *p, const float *g, const accel::Codes &m, const accel::Codes &v,
                           int64_t n, const accel::Adam8bitScalars &s, uint64_t key,
                           int64_t first) {
  alignas(64) float new_m[ACCEL_ADAM8BIT_BLOCK], new_v[ACCEL_ADAM8BIT_BLOCK];
  const float m_scale = *m.scale, v_scale = *v.scale;
  const Range range =
      s.l2 != 0.0f
          ? update(p, g, m.codes, v.codes, new_m, new_v, m_scale, v_scale, n, s, true)
          : update(p, g, m.codes, v.codes, new_m, new_v, m_scale, v_scale, n, s, false);
  *m.scale = power_of_two_above(range.largest_m);
  *v.scale = power_of_two_above(range.largest_v);
  const Fresh fresh = {new_m, new_v, inverse_of(*m.scale), inverse_of(*v.scale)};
  const bool usual = first >> 32 == 0 &&
                     bits_of(float_of(range.smallest_m) * fresh.m_inverse) >= kSmallestSigned &&
                     bits_of(float_of(range.smallest_v) * fresh.v_inverse) >= kSmallestUnsigned;
  (usual ? encode : encode_any)(m.codes, v.codes, fresh, static_cast<uint32_t>(n), key,
                                static_cast<uint64_t>(first));
}

const accel::Adam8bitLevel adam8bit_level = {adam8bit_block, &convert};

}  // namespace ACCEL_TARGET

#else

#include "accel/adam8bit.h"
#include "convert.h"

namespace accel {

struct Adam8bitScalars {
  float grad_factor, l2, keep;
  float m_weight, v_weight, beta2;
  float root_factor, eps, step_size;
  uint32_t from_grad;  // all ones where beta1 <= 0.5, else 0
};

// One block of a moment.
struct Codes {
  uint8_t *codes;
  float *scale;
};

struct Adam8bitLevel {
  void (*block)(float *p, const float *g, const Codes &m, const Codes &v, int64_t n,
                const Adam8bitScalars &s, uint64_t key, int64_t first);
  const Convert *convert;
};

}  // namespace accel

#define ACCEL_SOURCE "adam8bit.cpp"
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
  const double c2 = correct ? 1.0 - __builtin_pow(a.beta2, step) : 1.0;
  const bool from_grad = 1.0 - a.beta1 >= 0.5;
  return {grad_factor(a, a.flags & ACCEL_ADAM8BIT_MAXIMIZE),
          decoupled ? 0.0f : static_cast<float>(a.weight_decay),
          decoupled ? static_cast<float>(1.0 - lr * a.weight_decay) : 1.0f,
          static_cast<float>(from_grad ? -a.beta1 : 1.0 - a.beta1),
          static_cast<float>(1.0 - a.beta2),
          static_cast<float>(a.beta2),
          static_cast<float>(1.0 / __builtin_sqrt(c2)),
          static_cast<float>(a.eps),
          static_cast<float>(lr / c1),
          from_grad ? ~0u : 0u};
}

void adam8bit_step(const accel_adam8bit_args &a) {
  constexpr int64_t kStates = ACCEL_ADAM8BIT_BLOCK;
  const Adam8bitLevel &level = ACCEL_FOR_LEVEL(adam8bit_level);
  ScalarsByStep<Adam8bitScalars> scalars;
  scalars.prepare(a, [&](double step) { return scalars_at(a, step); });
  for_pieces<kStates>(a.numels, a.count, a.num_threads, [&](int64_t i, int64_t begin, int64_t end) {
    const Adam8bitScalars &s = scalars[i];
    for (int64_t from = begin; from < end; from += kBlock) {
      const int64_t to = lesser(from + kBlock, end);
      ParamBlock<accel_adam8bit_args> block(a, *level.convert, scalars.seed(i), i, from, to - from);
      const uint64_t key = block.key(1);
      for (int64_t at = from; at < to; at += kStates) {
        const Codes m = {a.exp_avgs[i] + at, a.exp_avg_scales[i] + at / kStates};
        const Codes v = {a.exp_avg_sqs[i] + at, a.exp_avg_sq_scales[i] + at / kStates};
        level.block(block.param() + (at - from), block.grad() + (at - from), m, v,
                    lesser(kStates, to - at), s, key, at);
      }
      block.store();
    }
  });
}

}  // namespace
}  // namespace accel

int32_t accel_adam8bit_step(const accel_adam8bit_args *args, void *) {
  const int32_t status = accel::check_common(args, 2 * ACCEL_ADAM8BIT_MAXIMIZE - 1);
  if (status != ACCEL_OK || accel::skipped(*args)) return status;
  if (!args->exp_avgs || !args->exp_avg_sqs || !args->exp_avg_scales || !args->exp_avg_sq_scales)
    return ACCEL_BAD_ARGUMENT;
  return accel::guarded([&] { accel::adam8bit_step(*args); });
}

#endif
#endif
