// SPDX-License-Identifier: Apache-2.0
// Adam with 8-bit moments on CUDA devices: a warp works on one block of 256 elements at a
// time, each lane on adjacent ones.

#include "optimizer.h"
#include "reduce.h"
#include "status.h"

#include "../../common/optimizers/adam8bit.h"

namespace accel {
namespace {

constexpr int64_t kBlock = kCodes;
constexpr int kEach = static_cast<int>(kBlock) / kLanes;
static_assert(kChunk % kBlock == 0, "a piece begins where a block does");

template <int N>
ACCEL_DEVICE void load_codes(const void *base, int64_t i, uint8_t (&codes)[N]) {
  move<N>(codes, static_cast<const uint8_t *>(base) + i);
}

struct Adam8bitOnDevice : OnDevice<Adam8bitOnDevice, Adam8bit> {
  template <class T, class Here>
  struct Body : OnTensor<Adam8bitOnDevice, T, Here> {
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
      const AdamScalars &s = this->scalars;
      const uint32_t m_unit = unit_signed(m_scale), v_unit = unit_unsigned(v_scale);
      ACCEL_UNROLL
      for (int k = 0; k < kEach; ++k) {
        const auto m_code = static_cast<uint32_t>(static_cast<int8_t>(m_codes[k]));
        const float old_m = m_scale > 0.0f ? decode_signed(m_code, m_unit) : m_scale;
        const float old_v = v_scale > 0.0f ? decode_unsigned(v_codes[k], v_unit) : v_scale;
        const float grad = adam_gradient(g[k], p[k], s);
        m[k] = adam_first(grad, old_m, s);
        v[k] = adam_second(grad, old_v, s);
        p[k] = adam_param(p[k], m[k], root(v[k]), s);
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
      const float new_m = scale_of(max_over_warp(m_most), kLargestM);
      const float new_v = scale_of(max_over_warp(v_most), kLargestV);
      if (first % kBlock == 0 && valid > 0) {
        *m_scale = new_m;
        *v_scale = new_v;
      }
      const uint32_t m_unit = unit_signed(new_m), v_unit = unit_unsigned(new_v);
      // A lane's elements are adjacent, in one block.
      uint32_t noise = accel_adam8bit_noise(this->key(1), static_cast<uint64_t>(first));
      ACCEL_UNROLL
      for (int k = 0; k < kEach; ++k) {
        const uint32_t of_m = blur_signed(bounded_moment(bits_of(m[k])), m_unit, noise);
        const uint32_t of_v = blur_unsigned(bits_of(v[k]), v_unit, noise);
        m_codes[k] = new_m > 0.0f ? code_signed(of_m, m_unit) : 0;
        v_codes[k] = new_v > 0.0f ? code_unsigned(of_v, v_unit) : 0;
        noise += kLattice;
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
  return accel::step<accel::Adam8bitOnDevice>(args, stream);
}
