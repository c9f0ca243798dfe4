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

// Bits of the offset of exp_avg's magnitudes, and of exp_avg_sq's smallest value.
ACCEL_DEVICE uint32_t unit_signed(float scale) { return bits_of(scale * (1.0f / 32768.0f)); }
ACCEL_DEVICE uint32_t unit_unsigned(float scale) { return bits_of(scale * (1.0f / 2147483648.0f)); }

ACCEL_DEVICE float decode_signed(uint32_t code, float scale) {
  const uint32_t unit = unit_signed(scale), sign = (code & 0x80u) << 24;
  const float moved = float_of((((code & 0x7Fu) << 20) + unit) | sign);
  return scale > 0.0f ? moved - float_of(unit | sign) : scale;
}

ACCEL_DEVICE float decode_unsigned(uint32_t code, float scale) {
  return scale > 0.0f ? float_of((code << 20) + unit_unsigned(scale)) : scale;
}

ACCEL_DEVICE uint8_t encode_signed(float x, float scale, uint32_t noise) {
  const uint32_t unit = unit_signed(scale), u = bits_of(x), magnitude = u & 0x7FFFFFFFu;
  const uint32_t most = ACCEL_ADAM8BIT_LARGEST_EXP_AVG;
  const uint32_t moved = bits_of(float_of(magnitude > most ? most : magnitude) + float_of(unit));
  const uint32_t code = (moved + (noise & 0xFFFFFu) - unit) >> 20 & 0x7Fu;
  return static_cast<uint8_t>(scale > 0.0f ? code | (u >> 24 & 0x80u) : 0u);
}

ACCEL_DEVICE uint8_t encode_unsigned(float x, float scale, uint32_t noise) {
  const uint32_t unit = unit_unsigned(scale), u = bits_of(x);
  const uint32_t code = ((u < unit ? unit : u) + (noise >> 12) - unit) >> 20;
  return static_cast<uint8_t>(scale > 0.0f ? code : 0u);
}

// The scale of a block by the bits of its largest magnitude: at least 2^-95, so that no value of a code
// is smaller than the smallest normal number, and at most `most`.
ACCEL_DEVICE float scale_of(uint32_t largest, uint32_t most) {
  const uint32_t rounded = (largest + 0x7FFFFFu) & 0xFF800000u;
  const uint32_t above = rounded < 32u << 23 ? 32u << 23 : rounded;
  const uint32_t finite = above > most ? most : above;
  return float_of(largest > 255u << 23 ? 0x7FC00000u : (largest ? finite : 0u));
}

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
    float eps, step_size;  // eps * sqrt(c2), lr * sqrt(c2) / c1
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
    const double root_c2 = correct ? sqrt(1.0 - pow(n.beta2, at.step)) : 1.0;
    const bool from_grad = 1.0 - n.beta1 >= 0.5;
    return {at.grad_factor,
            decoupled ? 0.0f : static_cast<float>(at.weight_decay),
            decoupled ? static_cast<float>(1.0 - at.lr * at.weight_decay) : 1.0f,
            static_cast<float>(from_grad ? -n.beta1 : 1.0 - n.beta1),
            static_cast<float>(1.0 - n.beta2),
            static_cast<float>(n.beta2),
            scaled_eps(n.eps, root_c2),
            static_cast<float>(at.lr * root_c2 / c1),
            from_grad};
  }

  static ACCEL_DEVICE void update(const Scalars &s, float grad, float &p, float &m, float &v) {
    float g = grad * s.grad_factor;
    if (s.l2 != 0.0f) g = g + s.l2 * p;
    // torch's lerp: measured from the nearer end, so that a weight of 1 gives g exactly.
    m = (s.from_grad ? g : m) + s.m_weight * (g - m);
    v = s.beta2 * v + s.v_weight * g * g;
    p = p * s.keep - s.step_size * m / (sqrtf(v) + s.eps);
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
        m[k] = decode_signed(m_codes[k], m_scale);
        v[k] = decode_unsigned(v_codes[k], v_scale);
        update(this->scalars, g[k], p[k], m[k], v[k]);
        // Elements beyond the tensor's end must not count in the block's scales.
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
      const float new_m = scale_of(max_over_warp(m_most), ACCEL_ADAM8BIT_LARGEST_EXP_AVG);
      const float new_v = scale_of(max_over_warp(v_most), ACCEL_ADAM8BIT_LARGEST_EXP_AVG_SQ);
      if (first % kBlock == 0 && valid > 0) {
        *m_scale = new_m;
        *v_scale = new_v;
      }
      // A lane's elements are adjacent, in one block.
      uint32_t noise = accel_adam8bit_noise(this->key(1), static_cast<uint64_t>(first));
      ACCEL_UNROLL
      for (int k = 0; k < kEach; ++k) {
        m_codes[k] = encode_signed(m[k], new_m, noise);
        v_codes[k] = encode_unsigned(v[k], new_v, noise);
        noise += ACCEL_ADAM8BIT_LATTICE;
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
  const int32_t status = accel::check_device_args(args, accel::Adam8bit::kFlags);
  if (status != ACCEL_OK) return status;
  if (args->count && (!args->exp_avgs || !args->exp_avg_sqs || !args->exp_avg_scales ||
                      !args->exp_avg_sq_scales))
    return ACCEL_BAD_ARGUMENT;
  return accel::step<accel::Adam8bit>(*args, stream);
}
