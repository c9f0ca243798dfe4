// SPDX-License-Identifier: Apache-2.0
// The body of optimizers with 8-bit states on CUDA devices: a warp works on one block of 256 elements at
// a time, each lane on adjacent ones.
#pragma once

#include "optimizer.h"
#include "reduce.h"

#include "../../common/optimizers/codes8bit.h"

namespace accel {

constexpr int64_t kCodedBlock = kCodes;
static_assert(kChunk % kCodedBlock == 0, "a piece begins where a block does");

// A lane's elements.
constexpr int kEach = static_cast<int>(kCodedBlock) / kLanes;

template <class Op, class T, class Here>
struct CodedElements : OnTensor<Op, T, Here> {
  static constexpr int kStates = Op::kStates;

  struct Lane {
    float p[kEach], g[kEach], states[kStates][kEach];
    alignas(16) uint8_t codes[kStates][kEach];
  };

  ACCEL_DEVICE void run(const Piece &piece) const {
    constexpr int kWarps = kThreads / kLanes;
    const int64_t warp = thread_index() / kLanes, lane = thread_index() % kLanes;
    for (int64_t at = piece.begin + warp * kCodedBlock; at < piece.end; at += kWarps * kCodedBlock) {
      const int64_t first = at + lane * kEach, rest = piece.end - first;
      const int valid = rest >= kEach ? kEach : (rest > 0 ? static_cast<int>(rest) : 0);
      block(at / kCodedBlock, first, valid);
    }
  }

  // The lane's `valid` elements from `first` on, in block `number`; every lane of the warp calls.
  ACCEL_DEVICE void block(int64_t number, int64_t first, int valid) const {
    Lane lane = {};
    const bool whole = this->aligned && valid == kEach;
    if (whole) {
      this->load_param(first, lane.p);
      this->load_grad(first, lane.g);
      ACCEL_UNROLL
      for (int r = 0; r < kStates; ++r) move<kEach>(lane.codes[r], codes(r) + first);
    } else {
      load_some(first, valid, lane);
    }
    step_elements(number, valid, lane);
    // A lane's elements are adjacent, in one block.
    const uint32_t noise = codes8bit_noise(this->key(1), static_cast<uint64_t>(first));
    ACCEL_UNROLL
    for (int r = 0; r < kStates; ++r)
      encode(Op::is_signed(r), scale(r) + number, first % kCodedBlock == 0 && valid > 0, noise,
             lane.states[r], lane.codes[r]);
    if (whole) {
      this->store_param(first, lane.p);
      ACCEL_UNROLL
      for (int r = 0; r < kStates; ++r) move<kEach>(codes(r) + first, lane.codes[r]);
    } else {
      store_some(first, valid, lane);
    }
  }

  ACCEL_DEVICE uint8_t *codes(int which) const { return static_cast<uint8_t *>(this->place(2 + which)); }
  ACCEL_DEVICE float *scale(int which) const {
    return static_cast<float *>(this->place(Here::kExtra + which));
  }

  ACCEL_DEVICE void step_elements(int64_t number, int valid, Lane &lane) const {
    float scales[kStates];
    ACCEL_UNROLL
    for (int r = 0; r < kStates; ++r) scales[r] = scale(r)[number];
    ACCEL_UNROLL
    for (int k = 0; k < kEach; ++k) {
      float state[kStates];
      ACCEL_UNROLL
      for (int r = 0; r < kStates; ++r) state[r] = decoded(Op::is_signed(r), lane.codes[r][k], scales[r]);
      Op::update(this->scalars, lane.g[k], lane.p[k], state);
      // Elements beyond the tensor's end must not count in the block's scales.
      ACCEL_UNROLL
      for (int r = 0; r < kStates; ++r) lane.states[r][k] = k < valid ? state[r] : 0.0f;
    }
  }

  static ACCEL_DEVICE float decoded(bool is_signed, uint8_t code, float scale) {
    if (!(scale > 0.0f)) return scale;
    const auto extended = static_cast<uint32_t>(static_cast<int8_t>(code));
    return is_signed ? decode_signed(extended, unit_signed(scale)) : decode_unsigned(code, unit_unsigned(scale));
  }

  // `stores_scale` is true for one lane of each block.
  static ACCEL_DEVICE void encode(bool is_signed, float *scale_at, bool stores_scale, uint32_t noise,
                                  const float (&x)[kEach], uint8_t (&codes)[kEach]) {
    // As integers, so that NaN counts as the largest.
    uint32_t most = 0;
    ACCEL_UNROLL
    for (int k = 0; k < kEach; ++k) {
      const uint32_t magnitude = bits_of(x[k]) & 0x7FFFFFFFu;
      most = magnitude > most ? magnitude : most;
    }
    const float scale = scale_of(max_over_warp(most), is_signed ? kLargestM : kLargestV);
    if (stores_scale) *scale_at = scale;
    const uint32_t unit = is_signed ? unit_signed(scale) : unit_unsigned(scale);
    ACCEL_UNROLL
    for (int k = 0; k < kEach; ++k) {
      const uint32_t bits = bits_of(x[k]);
      const uint8_t code = is_signed ? code_signed(blur_signed(bounded_moment(bits), unit, noise), unit)
                                     : code_unsigned(blur_unsigned(bits, unit, noise), unit);
      codes[k] = scale > 0.0f ? code : 0;
      noise += kLattice;
    }
  }

  ACCEL_DEVICE void load_some(int64_t first, int valid, Lane &lane) const {
    ACCEL_UNROLL
    for (int k = 0; k < kEach; ++k) {
      if (k >= valid) continue;
      float one[1];
      this->load_param(first + k, one);
      lane.p[k] = one[0];
      this->load_grad(first + k, one);
      lane.g[k] = one[0];
      ACCEL_UNROLL
      for (int r = 0; r < kStates; ++r) lane.codes[r][k] = codes(r)[first + k];
    }
  }

  ACCEL_DEVICE void store_some(int64_t first, int valid, const Lane &lane) const {
    ACCEL_UNROLL
    for (int k = 0; k < kEach; ++k) {
      if (k >= valid) continue;
      const float one[1] = {lane.p[k]};
      this->store_param(first + k, one);
      ACCEL_UNROLL
      for (int r = 0; r < kStates; ++r) codes(r)[first + k] = lane.codes[r][k];
    }
  }
};

// The base of an op whose states are codes; `update` is as in the default body.
template <class Op, class Shared>
struct CodedOnDevice : OnDevice<Op, Shared> {
  template <class T, class Here>
  using Body = CodedElements<Op, T, Here>;
};

}  // namespace accel
