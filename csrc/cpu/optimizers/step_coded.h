// SPDX-License-Identifier: Apache-2.0
// The step of optimizers with 8-bit states on the CPU: a block after the other.
#pragma once

#include "codes8bit.h"
#include "optimizer.h"

namespace accel {

// The entry point of an optimizer whose states are codes.
template <class Op>
int32_t step_coded(const typename Op::Args *args, const CodedLevel<Op> &level) {
  const int32_t status = check<Op>(args, false);
  // The blocks of a part would differ from those of the whole tensor.
  if (status == ACCEL_OK && args->first_elements) return ACCEL_UNSUPPORTED;
  if (status != ACCEL_OK || skipped(*args)) return status;
  const typename Op::Args &a = *args;
  constexpr int64_t kSize = kCodes;
  ScalarsByStep<Op> scalars;
  if (!scalars.prepare(a, Count::kForward)) return ACCEL_NO_MEMORY;
  for_pieces<kSize>(a.numels, a.count, a.num_threads, [&](int64_t i, int64_t begin, int64_t end) {
    for (int64_t from = begin; from < end; from += kBlock) {
      const int64_t to = lesser(from + kBlock, end);
      ParamBlock<typename Op::Args> block(a, *level.convert, scalars.seed(i), i, from, to - from);
      const uint64_t key = block.noise(1).key;
      for (int64_t at = from; at < to; at += kSize) {
        Codes states[Op::kStates];
        for (int which = 0; which < Op::kStates; ++which)
          states[which] = {static_cast<uint8_t *>(Op::state(a, which)[i]) + at,
                           static_cast<float *>(Op::extra(a, which)[i]) + at / kSize};
        level.block(block.param() + (at - from), block.grad() + (at - from), states,
                    lesser(kSize, to - at), scalars[i], codes8bit_noise(key, static_cast<uint64_t>(at)));
      }
      block.store();
    }
  });
  return ACCEL_OK;
}

}  // namespace accel
