// SPDX-License-Identifier: Apache-2.0
// Adam with 8-bit moments on CUDA devices: see accel/adam8bit.h for codes and arithmetic. A warp
// works on one block of 256 elements at a time, each lane on adjacent ones.

#include "accel/adam8bit.h"
#include "optimizer.h"
#include "reduce.h"
#include "status.h"

namespace accel {
namespace {

constexpr int64_t kBlock = ACCEL_ADAM8BIT_BLOCK;
constexpr int kEach = static_cast<int>(kBlock) / kLanes;
static_assert(kChunk % kBlock == 0, "a piece begins where a block does");

ACCEL_DEVICE float decode_signed(uint32_t code) {
  const uint32_t magnitude = code & 0x7Fu;
  return float_of((magnitude ? (magnitude << 20) + (112u << 23) : 0u) | (code & 0x80u) << 24);
}

ACCEL_DEVICE float decode_unsigned(uint32_t code) {
  return float_of(code ? (code << 20) + (96u << 23) : 0u);
}

ACCEL_DEVICE uint32_t encode_signed(float y, uint32_t noise) {
  constexpr float kSmallest = 1.125f / 32768.0f;  // 1.125 * 2^-15
  const uint32_t u = bits_of(y), magnitude = u & 0x7FFFFFFFu, low = noise & 0xFFFFu;
  uint32_t code = (magnitude - (112u << 23) + (low << 4)) >> 20;
  const float absolute = float_of(magnitude);
  if (absolute < kSmallest)
    code = static_cast<int32_t>(low) < static_cast<int32_t>(absolute * (2147483648.0f / 1.125f));
  return (code & 0x7Fu) | (u >> 24 & 0x80u);
}

ACCEL_DEVICE uint32_t encode_unsigned(float x, float inverse, uint32_t noise) {
  constexpr float kSmallest = 1.125f / 2147483648.0f;  // 1.125 * 2^-31
  const float y = x * inverse;
  if (y < kSmallest) return x > 0.0f ? 1u : 0u;
  return (bits_of(y) - (96u << 23) + (noise >> 16 << 4)) >> 20 & 0xFFu;
}

ACCEL_DEVICE float power_of_two_above(uint32_t bits) {
  return float_of(bits < 0x7F800000u ? (bits + 0x7FFFFFu) & 0xFF800000u : bits);
}

ACCEL_DEVICE float inverse_of(float scale) { return scale == 0.0f ? 0.0f : 1.0f / scale; }

template <int N>
ACCEL_DEVICE void load_codes(const void *base, int64_t i, uint8_t (&codes)[N]) {
  move<N>(codes, static_cast<const uint8_t *>(base) + i);
}

struct Adam8bit {
  using Args = accel_adam8bit_args;
  static constexpr uint32_t kFlags = 2 * ACCEL_ADAM8BIT_MAXIMIZE - 1;
  static constexpr int kStates = 2, kUsualStates = 2, kExtra = 2;

  struct Numbers {
    double beta1, beta2, eps;
    uint32_t flags;
  };

  struct Scalars {
    float grad_factor, l2, keep;
    float m_weight, v_weight, beta2;
    float root_factor, eps, step_size;
    bool from_grad;
  };

  static Numbers numbers(const Args &a) { return {a.beta1, a.beta2, a.eps, a.flags}; }

  static void *const *state(const Args &a, int which) {
    return reinterpret_cast<void *const *>(which == 0 ? a.exp_avgs : a.exp_avg_sqs);
  }

  static void *const *extra(const Args &a, int which) {
    return reinterpret_cast<void *const *>(which == 0 ? a.exp_avg_scales : a.exp_avg_sq_scales);
  }

  static bool maximize(const Args &a) { return a.flags & ACCEL_ADAM8BIT_MAXIMIZE; }
  static bool is_rare(const Args &) { return false; }

  static ACCEL_DEVICE Scalars scalars(const Numbers &n, const AtStep &at, const void *) {
    const bool decoupled = n.flags & ACCEL_ADAM8BIT_ADAMW;
    const bool correct = n.flags & ACCEL_ADAM8BIT_BIAS_CORRECTION;
    const double c1 = correct ? 1.0 - pow(n.beta1, at.step) : 1.0;
    const double c2 = correct ? 1.0 - pow(n.beta2, at.step) : 1.0;
    const bool from_grad = 1.0 - n.beta1 >= 0.5;
    return {at.grad_factor,
            decoupled ? 0.0f : static_cast<float>(at.weight_decay),
            decoupled ? static_cast<float>(1.0 - at.lr * at.weight_decay) : 1.0f,
            static_cast<float>(from_grad ? -n.beta1 : 1.0 - n.beta1),
            static_cast<float>(1.0 - n.beta2),
            static_cast<float>(n.beta2),
            static_cast<float>(1.0 / sqrt(c2)),
            static_cast<float>(n.eps),
            static_cast<float>(at.lr / c1),
            from_grad};
  }

  static ACCEL_DEVICE void update(const Scalars &s, float grad, float &p, float &m, float &v) {
    float g = grad * s.grad_factor;
    if (s.l2 != 0.0f) g = g + s.l2 * p;
    // torch's lerp: measured from the nearer end, so that a weight of 1 gives g exactly.
    m = (s.from_grad ? g : m) + s.m_weight * (g - m);
    v = s.beta2 * v + s.v_weight * g * g;
    p = p * s.keep - s.step_size * m / (sqrtf(v) * s.root_factor + s.eps);
  }

  template <class T, class Here>
  struct Body : OnTensor<Adam8bit, T, Here> {
    ACCEL_DEVICE void run(const Piece &piece) const {
      constexpr int kWarps = kThreads / kLanes;
      const int64_t warp = thread_index() / kLanes, lane = thread_index() % kLanes;
      for (int64_t at = piece.begin + warp * kBlock; at < piece.end; at += kWarps * kBlock) {
        const int64_t first = at + lane * kEach, rest = piece.end - first;
        const int valid = rest >= kEach ? kEach : (rest > 0 ? static_cast<int>(rest) : 0);
        block(at / kBlock, first, valid);
      }
    }

    // The lane's `valid` elements from `first` on, in block `number`; every lane of the warp calls.
    ACCEL_DEVICE void block(int64_t number, int64_t first, int valid) const {
      float p[kEach] = {}, g[kEach] = {};
      alignas(16) uint8_t m_codes[kEach] = {};
      alignas(16) uint8_t v_codes[kEach] = {};
      const bool whole = this->aligned && valid == kEach;
      if (whole) {
        this->load_param(first, p);
        this->load_grad(first, g);
        load_codes(this->place(2), first, m_codes);
        load_codes(this->place(3), first, v_codes);
      } else {
        load_some(first, valid, p, g, m_codes, v_codes);
      }
      float *const m_scale = static_cast<float *>(this->place(Here::kExtra)) + number;
      float *const v_scale = static_cast<float *>(this->place(Here::kExtra + 1)) + number;
      float m[kEach], v[kEach];
      step_moments(*m_scale, *v_scale, valid, p, g, m_codes, v_codes, m, v);
      encode(m_scale, v_scale, first, valid, m, v, m_codes, v_codes);
      if (whole) {
        this->store_param(first, p);
        move<kEach>(static_cast<uint8_t *>(this->place(2)) + first, m_codes);
        move<kEach>(static_cast<uint8_t *>(this->place(3)) + first, v_codes);
      } else {
        store_some(first, valid, p, m_codes, v_codes);
      }
    }

    ACCEL_DEVICE void step_moments(float m_scale, float v_scale, int valid, float (&p)[kEach],
                                   const float (&g)[kEach], const uint8_t (&m_codes)[kEach],
                                   const uint8_t (&v_codes)[kEach], float (&m)[kEach],
                                   float (&v)[kEach]) const {
      ACCEL_UNROLL
      for (int k = 0; k < kEach; ++k) {
        m[k] = decode_signed(m_codes[k]) * m_scale;
        v[k] = decode_unsigned(v_codes[k]) * v_scale;
        update(this->scalars, g[k], p[k], m[k], v[k]);
        // What lies beyond the tensor's end must not count in the block's scales.
        if (k >= valid) m[k] = v[k] = 0.0f;
      }
    }

    ACCEL_DEVICE void encode(float *m_scale, float *v_scale, int64_t first, int valid,
                             const float (&m)[kEach], const float (&v)[kEach],
                             uint8_t (&m_codes)[kEach], uint8_t (&v_codes)[kEach]) const {
      // As integers, so that NaN counts as the largest.
      uint32_t m_most = 0, v_most = 0;
      ACCEL_UNROLL
      for (int k = 0; k < kEach; ++k) {
        const uint32_t of_m = bits_of(m[k]) & 0x7FFFFFFFu, of_v = bits_of(v[k]) & 0x7FFFFFFFu;
        m_most = of_m > m_most ? of_m : m_most;
        v_most = of_v > v_most ? of_v : v_most;
      }
      const float new_m = power_of_two_above(max_over_warp(m_most));
      const float new_v = power_of_two_above(max_over_warp(v_most));
      if (first % kBlock == 0 && valid > 0) {
        *m_scale = new_m;
        *v_scale = new_v;
      }
      const float m_inverse = inverse_of(new_m), v_inverse = inverse_of(new_v);
      const uint64_t key = this->key(1);
      ACCEL_UNROLL
      for (int k = 0; k < kEach; ++k) {
        const uint32_t noise = accel_random_bits(key, static_cast<uint64_t>(first + k));
        m_codes[k] = static_cast<uint8_t>(encode_signed(m[k] * m_inverse, noise));
        v_codes[k] = static_cast<uint8_t>(encode_unsigned(v[k], v_inverse, noise));
      }
    }

    ACCEL_DEVICE void load_some(int64_t first, int valid, float (&p)[kEach], float (&g)[kEach],
                                uint8_t (&m_codes)[kEach], uint8_t (&v_codes)[kEach]) const {
      ACCEL_UNROLL
      for (int k = 0; k < kEach; ++k) {
        if (k >= valid) continue;
        float one[1];
        this->load_param(first + k, one);
        p[k] = one[0];
        this->load_grad(first + k, one);
        g[k] = one[0];
        m_codes[k] = static_cast<const uint8_t *>(this->place(2))[first + k];
        v_codes[k] = static_cast<const uint8_t *>(this->place(3))[first + k];
      }
    }

    ACCEL_DEVICE void store_some(int64_t first, int valid, const float (&p)[kEach],
                                 const uint8_t (&m_codes)[kEach],
                                 const uint8_t (&v_codes)[kEach]) const {
      ACCEL_UNROLL
      for (int k = 0; k < kEach; ++k) {
        if (k >= valid) continue;
        const float one[1] = {p[k]};
        this->store_param(first + k, one);
        static_cast<uint8_t *>(this->place(2))[first + k] = m_codes[k];
        static_cast<uint8_t *>(this->place(3))[first + k] = v_codes[k];
      }
    }
  };
};

}  // namespace
}  // namespace accel

int32_t accel_adam8bit_step(const accel_adam8bit_args *args, void *stream) {
  const int32_t status = accel::check_common(args, accel::Adam8bit::kFlags);
  if (status != ACCEL_OK) return status;
  if (args->count && (!args->exp_avgs || !args->exp_avg_sqs || !args->exp_avg_scales ||
                      !args->exp_avg_sq_scales))
    return ACCEL_BAD_ARGUMENT;
  return accel::step<accel::Adam8bit>(*args, stream);
}
