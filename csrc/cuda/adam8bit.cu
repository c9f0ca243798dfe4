// SPDX-License-Identifier: Apache-2.0
// Adam with 8-bit moments on CUDA devices: see accel/adam8bit.h for codes and arithmetic. A warp
// works on one block of 256 elements at a time, each lane on groups of four.

#include "accel/adam8bit.h"
#include "optimizer.h"
#include "status.h"

namespace accel {
namespace {

constexpr int64_t kBlock = ACCEL_ADAM8BIT_BLOCK;
constexpr int kEach = static_cast<int>(kBlock) / kLanes;  // elements of a lane
constexpr int kWords = kEach / 4;                         // and words of four codes
constexpr int kStride = 4 * kLanes;
static_assert(kChunk % kBlock == 0, "a piece begins where a block does");

// A lane's element k within the block: groups of four, so that a warp's lanes touch adjacent bytes.
ACCEL_DEVICE int element_of(int lane, int k) { return k / 4 * kStride + 4 * lane + k % 4; }

// a * b + c, which a code's value is without any rounding.
ACCEL_DEVICE float exact(float a, float b, float c) {
#if defined(__CUDA_ARCH__)
  return __fmaf_rn(a, b, c);
#else
  return a * b + c;
#endif
}

// Bits of what is added to exp_avg's magnitudes, and of exp_avg_sq's smallest value.
ACCEL_DEVICE uint32_t unit_signed(float scale) { return bits_of(scale * (1.0f / 32768.0f)); }
ACCEL_DEVICE uint32_t unit_unsigned(float scale) { return bits_of(scale * (1.0f / 2147483648.0f)); }

// 0 for all that the compiler knows: of two constants in one operation, one has to be in a register.
ACCEL_DEVICE uint32_t none_at_run_time() {
#if defined(__CUDA_ARCH__)
  return gridDim.y - 1u;
#else
  return 0u;
#endif
}

// Code k of a word. As fractions of the scale, codes are float32 numbers but for some bits.
ACCEL_DEVICE float decode_signed(uint32_t word, int k, float scale, uint32_t unit, uint32_t none) {
  const int32_t top = static_cast<int32_t>(word << (24 - 8 * k));
  const uint32_t moved = (static_cast<uint32_t>(top >> 4) & 0x87F00000u) | (none + (112u << 23));
  return exact(float_of(moved), scale, -float_of((moved & 0x80000000u) | unit));
}

ACCEL_DEVICE float decode_unsigned(uint32_t word, int k, float scale, uint32_t none) {
  const uint32_t at_20 = k < 3 ? word << (20 - 8 * k) : word >> 4;
  return float_of((at_20 & 0xFF00000u) | (none + (96u << 23))) * scale;
}

// Codes in the highest of four bytes; the others hold what is cut off.
ACCEL_DEVICE uint32_t encode_signed(float x, uint32_t unit, uint32_t noise) {
  const uint32_t u = bits_of(x);
  const uint32_t moved = bits_of(float_of(u & 0x7FFFFFFFu) + float_of(unit));
  return (moved + (noise & 0xFFFFFu) - unit) << 4 | (u & 0x80000000u);
}

ACCEL_DEVICE uint32_t encode_unsigned(float x, uint32_t unit, uint32_t noise) {
  const int32_t above = static_cast<int32_t>(bits_of(x) - unit);
  return (static_cast<uint32_t>(above > 0 ? above : 0) << 4) + (noise >> 8);
}

ACCEL_DEVICE uint32_t highest_bytes(const uint32_t *x) {
#if defined(__CUDA_ARCH__)
  return __byte_perm(__byte_perm(x[0], x[1], 0x73), __byte_perm(x[2], x[3], 0x73), 0x5410);
#else
  return x[0] >> 24 | x[1] >> 24 << 8 | x[2] >> 24 << 16 | x[3] >> 24 << 24;
#endif
}

// The scale of a block by the bits of its largest magnitude: at least 2^-95, so that no value of a code
// is smaller than the smallest normal number.
ACCEL_DEVICE float scale_of(uint32_t largest) {
  const uint32_t rounded = (largest + 0x7FFFFFu) & 0xFF800000u;
  const uint32_t finite = rounded < 32u << 23 ? 32u << 23 : rounded;
  return float_of(largest > 254u << 23 ? 0x7FC00000u : (largest ? finite : 0u));
}

struct Adam8bit {
  using Args = accel_adam8bit_args;
  static constexpr uint32_t kFlags = 2 * ACCEL_ADAM8BIT_MAXIMIZE - 1;
  static constexpr int kStates = 2, kUsualStates = 2, kExtra = 2;
  static constexpr int kResident = 4;
  static constexpr bool kTypedStates = false;

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
    const Powers power = correct ? powers(n.beta1, n.beta2, at.step) : Powers{0.0, 0.0};
    const double c1 = 1.0 - power.first, root_c2 = sqrt(1.0 - power.second);
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

  static ACCEL_DEVICE void update(const Scalars &s, const float (&grads)[kEach], float (&p)[kEach],
                                  float (&m)[kEach], float (&v)[kEach]) {
    float top[kEach], change[kEach];
    ACCEL_UNROLL
    for (int k = 0; k < kEach; ++k) {
      float g = grads[k] * s.grad_factor;
      if (s.l2 != 0.0f) g = g + s.l2 * p[k];
      // torch's lerp: measured from the nearer end, so that a weight of 1 gives g exactly.
      m[k] = (s.from_grad ? g : m[k]) + s.m_weight * (g - m[k]);
      v[k] = s.beta2 * v[k] + s.v_weight * g * g;
      top[k] = s.step_size * m[k];
    }
    over_root(top, v, s.eps, change);
    ACCEL_UNROLL
    for (int k = 0; k < kEach; ++k) p[k] = p[k] * s.keep - change[k];
  }

  // What a lane holds of a block: parameters, gradients, and codes by words.
  struct Held {
    float p[kEach], g[kEach];
    uint32_t m[kWords], v[kWords];
  };

  template <class T, class Here>
  struct Body : OnTensor<Adam8bit, T, Here> {
    ACCEL_DEVICE void run(const Piece &piece) const {
      constexpr int kWarps = kThreads / kLanes;
      const int lane = static_cast<int>(thread_index()) % kLanes;
      const uint64_t key = this->key(1);
      int64_t at = piece.begin + static_cast<int>(thread_index()) / kLanes * kBlock;
      ACCEL_NO_UNROLL
      for (; at < piece.end; at += kWarps * kBlock) block(at, piece.end - at, lane, key);
    }

    // The block that begins at element `at`, with `rest` elements up to the piece's end; every lane
    // of the warp calls.
    ACCEL_DEVICE void block(int64_t at, int64_t rest, int lane, uint64_t key) const {
      const int64_t number = at / kBlock;
      const bool whole = this->aligned && rest >= kBlock;
      float *const m_scale = static_cast<float *>(this->place(Here::kExtra)) + number;
      float *const v_scale = static_cast<float *>(this->place(Here::kExtra + 1)) + number;
      const float old_m = *m_scale, old_v = *v_scale;
      Held held;
      if (whole) load_whole(at + 4 * lane, held);
      else load_some(at, rest, lane, held);
      float m[kEach], v[kEach];
      decode(old_m, old_v, held, m, v);
      update(this->scalars, held.g, held.p, m, v);
      float new_m, new_v;
      scales_of(m, v, new_m, new_v);
      if (lane == 0) {
        *m_scale = new_m;
        *v_scale = new_v;
      }
      encode(new_m, new_v, accel_adam8bit_noise(key, static_cast<uint64_t>(at + 4 * lane)), m, v, held);
      if (whole) store_whole(at + 4 * lane, held);
      else store_some(at, rest, lane, held);
    }

    ACCEL_DEVICE static void decode(float m_scale, float v_scale, const Held &held,
                                    float (&m)[kEach], float (&v)[kEach]) {
      const uint32_t unit = unit_signed(m_scale), none = none_at_run_time();
      ACCEL_UNROLL
      for (int k = 0; k < kEach; ++k) {
        m[k] = decode_signed(held.m[k / 4], k % 4, m_scale, unit, none);
        v[k] = decode_unsigned(held.v[k / 4], k % 4, v_scale, none);
      }
    }

    ACCEL_DEVICE static void scales_of(const float (&m)[kEach], const float (&v)[kEach],
                                       float &m_scale, float &v_scale) {
      // As integers, so that NaN counts as the largest. What lies beyond the tensor's end counts as
      // m = 0 and as the smallest v, which changes neither.
      uint32_t m_most = 0, v_most = 0;
      ACCEL_UNROLL
      for (int k = 0; k < kEach; ++k) {
        const uint32_t of_m = bits_of(m[k]) & 0x7FFFFFFFu, of_v = bits_of(v[k]) & 0x7FFFFFFFu;
        m_most = of_m > m_most ? of_m : m_most;
        v_most = of_v > v_most ? of_v : v_most;
      }
      m_scale = scale_of(max_over_warp(m_most));
      v_scale = scale_of(max_over_warp(v_most));
    }

    // `noise` is of the lane's first element.
    ACCEL_DEVICE static void encode(float m_scale, float v_scale, uint32_t noise,
                                    const float (&m)[kEach], const float (&v)[kEach], Held &held) {
      const uint32_t m_unit = unit_signed(m_scale), v_unit = unit_unsigned(v_scale);
      ACCEL_UNROLL
      for (int word = 0; word < kWords; ++word) {
        uint32_t of_m[4], of_v[4];
        ACCEL_UNROLL
        for (int k = 0; k < 4; ++k) {
          const uint32_t other = noise + ACCEL_ADAM8BIT_LATTICE * static_cast<uint32_t>(kStride * word + k);
          of_m[k] = encode_signed(m[4 * word + k], m_unit, other);
          of_v[k] = encode_unsigned(v[4 * word + k], v_unit, other);
        }
        held.m[word] = m_scale > 0.0f ? highest_bytes(of_m) : 0u;
        held.v[word] = v_scale > 0.0f ? highest_bytes(of_v) : 0u;
      }
    }

    // The lane's groups of four from element `first` on.
    ACCEL_DEVICE void load_whole(int64_t first, Held &held) const {
      ACCEL_UNROLL
      for (int word = 0; word < kWords; ++word) {
        const int64_t i = first + word * kStride;
        move<4>(&held.m[word], static_cast<const uint8_t *>(this->place(2)) + i);
        move<4>(&held.v[word], static_cast<const uint8_t *>(this->place(3)) + i);
        this->load_grad(i, four(held.g, word));
        this->load_param(i, four(held.p, word));
      }
    }

    ACCEL_DEVICE void store_whole(int64_t first, const Held &held) const {
      ACCEL_UNROLL
      for (int word = 0; word < kWords; ++word) {
        const int64_t i = first + word * kStride;
        this->store_param(i, four(held.p, word));
        move<4>(static_cast<uint8_t *>(this->place(2)) + i, &held.m[word]);
        move<4>(static_cast<uint8_t *>(this->place(3)) + i, &held.v[word]);
      }
    }

    template <class Float>
    ACCEL_DEVICE static Float (&four(Float (&x)[kEach], int word))[4] {
      return reinterpret_cast<Float(&)[4]>(x[4 * word]);
    }

    ACCEL_DEVICE void load_some(int64_t at, int64_t rest, int lane, Held &held) const {
      held = {};
      ACCEL_UNROLL
      for (int k = 0; k < kEach; ++k) {
        const int64_t i = at + element_of(lane, k);
        if (i >= at + rest) continue;
        float one[1];
        this->load_param(i, one);
        held.p[k] = one[0];
        this->load_grad(i, one);
        held.g[k] = one[0];
        held.m[k / 4] |= uint32_t{static_cast<const uint8_t *>(this->place(2))[i]} << 8 * (k % 4);
        held.v[k / 4] |= uint32_t{static_cast<const uint8_t *>(this->place(3))[i]} << 8 * (k % 4);
      }
    }

    ACCEL_DEVICE void store_some(int64_t at, int64_t rest, int lane, const Held &held) const {
      ACCEL_UNROLL
      for (int k = 0; k < kEach; ++k) {
        const int64_t i = at + element_of(lane, k);
        if (i >= at + rest) continue;
        const float one[1] = {held.p[k]};
        this->store_param(i, one);
        static_cast<uint8_t *>(this->place(2))[i] = static_cast<uint8_t>(held.m[k / 4] >> 8 * (k % 4));
        static_cast<uint8_t *>(this->place(3))[i] = static_cast<uint8_t>(held.v[k / 4] >> 8 * (k % 4));
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
