// SPDX-License-Identifier: Apache-2.0
// Adam with 8-bit moments on the CPU: see accel/adam8bit.h for codes and arithmetic.

#ifdef ACCEL_TARGET

#include "convert-inl.h"

namespace ACCEL_TARGET {

static void decode_signed(float *__restrict to, const uint8_t *__restrict codes, int64_t n,
                          float scale) {
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t code = codes[i];
    const uint32_t magnitude = code & 0x7Fu;
    const uint32_t bits = magnitude ? (magnitude << 20) + (112u << 23) : 0u;
    to[i] = float_of(bits | (code & 0x80u) << 24) * scale;
  }
}

static void decode_unsigned(float *__restrict to, const uint8_t *__restrict codes, int64_t n,
                            float scale) {
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t code = codes[i];
    to[i] = float_of(code ? (code << 20) + (96u << 23) : 0u) * scale;
  }
}

// The largest magnitude's bits: as integers, so that NaN counts as the largest.
static uint32_t largest_bits(const float *__restrict x, int64_t n) {
  int32_t largest = 0;
  for (int64_t i = 0; i < n; ++i) {
    const int32_t bits = static_cast<int32_t>(bits_of(x[i]) & 0x7FFFFFFFu);
    largest = bits > largest ? bits : largest;
  }
  return static_cast<uint32_t>(largest);
}

// `inverse` is 1 / scale; `noise` is the block's random bits.
static void encode_signed(uint8_t *__restrict codes, const float *__restrict x, int64_t n,
                          float inverse, const uint32_t *__restrict noise) {
  constexpr float kSmallest = 1.125f * 0x1p-15f;
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t u = bits_of(x[i] * inverse);
    const uint32_t magnitude = u & 0x7FFFFFFFu;
    const int32_t low = static_cast<int32_t>(noise[i] & 0xFFFFu);
    const uint32_t coded = (magnitude - (112u << 23) + (static_cast<uint32_t>(low) << 4)) >> 20;
    const float small = float_of(magnitude) < kSmallest ? float_of(magnitude) : 0.0f;
    const uint32_t tiny = low < static_cast<int32_t>(small * (0x1p31f / 1.125f)) ? 1u : 0u;
    const uint32_t code = float_of(magnitude) < kSmallest ? tiny : coded;
    codes[i] = static_cast<uint8_t>((code & 0x7Fu) | (u >> 24 & 0x80u));
  }
}

static void encode_unsigned(uint8_t *__restrict codes, const float *__restrict x, int64_t n,
                            float inverse, const uint32_t *__restrict noise) {
  constexpr float kSmallest = 1.125f * 0x1p-31f;
  for (int64_t i = 0; i < n; ++i) {
    const float y = x[i] * inverse;
    const uint32_t coded = (bits_of(y) - (96u << 23) + (noise[i] >> 16 << 4)) >> 20;
    const uint32_t tiny = x[i] > 0.0f ? 1u : 0u;
    codes[i] = static_cast<uint8_t>(y < kSmallest ? tiny : coded);
  }
}

static void draw(uint32_t *__restrict noise, int64_t n, uint64_t key, int64_t first) {
  for (int64_t i = 0; i < n; ++i)
    noise[i] = accel_random_bits(key, static_cast<uint64_t>(first + i));
}

static inline float power_of_two_above(uint32_t bits) {
  return float_of(bits < 0x7F800000u ? (bits + 0x7FFFFFu) & 0xFF800000u : bits);
}

static inline float inverse_of(float scale) { return scale == 0.0f ? 0.0f : 1.0f / scale; }

// `L2` is a constant in every call, so each becomes a loop of its own without branches.
static inline __attribute__((always_inline)) void update(float *__restrict p,
                                                         const float *__restrict grad,
                                                         float *__restrict m, float *__restrict v,
                                                         int64_t n,
                                                         const accel::Adam8bitScalars &given,
                                                         bool L2) {
  const accel::Adam8bitScalars s = given;
  for (int64_t i = 0; i < n; ++i) {
    float g = grad[i] * s.grad_factor;
    if (L2) g = g + s.l2 * p[i];
    const float base = s.from_grad > 0.0f ? g : m[i];
    const float new_m = base + s.m_weight * (g - m[i]);
    const float new_v = s.beta2 * v[i] + s.v_weight * g * g;
    const float denominator = __builtin_sqrtf(new_v) * s.root_factor + s.eps;
    m[i] = new_m;
    v[i] = new_v;
    p[i] = p[i] * s.keep - s.step_size * new_m / denominator;
  }
}

static void adam8bit_block(float *p, const float *grad, const accel::Codes &m,
                           const accel::Codes &v, int64_t n, const accel::Adam8bitScalars &s,
                           uint64_t key, int64_t first) {
  alignas(64) float new_m[ACCEL_ADAM8BIT_BLOCK], new_v[ACCEL_ADAM8BIT_BLOCK];
  alignas(64) uint32_t noise[ACCEL_ADAM8BIT_BLOCK];
  decode_signed(new_m, m.codes, n, *m.scale);
  decode_unsigned(new_v, v.codes, n, *v.scale);
  if (s.l2 != 0.0f) update(p, grad, new_m, new_v, n, s, true);
  else update(p, grad, new_m, new_v, n, s, false);
  draw(noise, n, key, first);
  *m.scale = power_of_two_above(largest_bits(new_m, n));
  *v.scale = power_of_two_above(largest_bits(new_v, n));
  encode_signed(m.codes, new_m, n, inverse_of(*m.scale), noise);
  encode_unsigned(v.codes, new_v, n, inverse_of(*v.scale), noise);
}

static const accel::Adam8bitLevel adam8bit_level = {adam8bit_block, &convert};

}  // namespace ACCEL_TARGET

#else

#include <cmath>

#include "accel/adam8bit.h"
#include "optimizer.h"
#include "simd.h"

namespace accel {

struct Adam8bitScalars {
  float grad_factor, l2, keep;
  float m_weight, v_weight, beta2;
  float root_factor, eps, step_size;
  float from_grad;  // 1 where beta1 <= 0.5, else 0
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
#include "foreach_target.h"

namespace accel {
namespace {

Adam8bitScalars scalars_at(const accel_adam8bit_args &a, double step) {
  const double lr = learning_rate(a);
  const bool correct = a.flags & ACCEL_ADAM8BIT_BIAS_CORRECTION;
  const bool decoupled = a.flags & ACCEL_ADAM8BIT_ADAMW;
  const double c1 = correct ? 1.0 - std::pow(a.beta1, step) : 1.0;
  const double c2 = correct ? 1.0 - std::pow(a.beta2, step) : 1.0;
  const bool from_grad = 1.0 - a.beta1 >= 0.5;
  return {grad_factor(a, a.flags & ACCEL_ADAM8BIT_MAXIMIZE),
          decoupled ? 0.0f : static_cast<float>(a.weight_decay),
          decoupled ? static_cast<float>(1.0 - lr * a.weight_decay) : 1.0f,
          static_cast<float>(from_grad ? -a.beta1 : 1.0 - a.beta1),
          static_cast<float>(1.0 - a.beta2),
          static_cast<float>(a.beta2),
          static_cast<float>(1.0 / std::sqrt(c2)),
          static_cast<float>(a.eps),
          static_cast<float>(lr / c1),
          from_grad ? 1.0f : 0.0f};
}

void adam8bit_step(const accel_adam8bit_args &a) {
  constexpr int64_t kStates = ACCEL_ADAM8BIT_BLOCK;
  const Adam8bitLevel &level = ACCEL_FOR_LEVEL(adam8bit_level);
  ScalarsByStep<Adam8bitScalars> scalars;
  scalars.prepare(a, [&](double step) { return scalars_at(a, step); });
  for_pieces<kStates>(a.numels, a.count, a.num_threads, [&](int64_t i, int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; at += kStates) {
      const int64_t n = std::min(kStates, end - at);
      ParamBlock<accel_adam8bit_args> block(a, *level.convert, i, at, n);
      const Codes m = {a.exp_avgs[i] + at, a.exp_avg_scales[i] + at / kStates};
      const Codes v = {a.exp_avg_sqs[i] + at, a.exp_avg_sq_scales[i] + at / kStates};
      level.block(block.param(), block.grad(), m, v, n, scalars[i], block.key(1), at);
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
