// SPDX-License-Identifier: Apache-2.0
// What the SIMD levels of optimizers with 8-bit states have in common.
#pragma once

#include "../../common/optimizers/codes8bit.h"
#include "convert.h"

namespace accel {

// One block of a state.
struct Codes {
  uint8_t *codes;
  float *scale;
};

// The step of one SIMD level over a block, whose first element has the noise `noise`.
template <class Op>
struct CodedLevel {
  void (*block)(float *p, const float *g, const Codes *states, int64_t n, const typename Op::Scalars &s,
                uint32_t noise);
  const Convert *convert;
};

}  // namespace accel
