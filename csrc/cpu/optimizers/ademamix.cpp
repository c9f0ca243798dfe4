// SPDX-License-Identifier: Apache-2.0
// AdEMAMix on the CPU.

#ifdef ACCEL_TARGET

#include "convert-inl.h"
#include "stream-inl.h"

namespace ACCEL_TARGET {

static void ademamix_block(float *__restrict p, const float *__restrict grad, float *const *states,
                           int64_t n, const AdemamixScalars &given) {
  const AdemamixScalars s = given;
  float *__restrict m = states[0], *__restrict slow = states[1], *__restrict v = states[2];
  const auto element = [=](int64_t i)
      __attribute__((always_inline)) { ademamix(grad[i], p[i], m[i], slow[i], v[i], s); };
  for_elements(n, element, p, grad, m, slow, v);
}

const ElementLevel<Ademamix> ademamix_level = {ademamix_block, &convert};

}  // namespace ACCEL_TARGET

#else

#include "../../common/optimizers/ademamix.h"
#include "convert.h"

#define ACCEL_SOURCE "optimizers/ademamix.cpp"
#define ACCEL_TABLE const accel::ElementLevel<accel::Ademamix> ademamix_level
#include "foreach_target.h"

#ifdef ACCEL_PART_COMMON
#include "optimizer.h"
#include "simd.h"

int32_t accel_ademamix_step(const accel_ademamix_args *args, void *) {
  return accel::step_elements<accel::Ademamix>(args, ACCEL_FOR_LEVEL(ademamix_level));
}

#endif
#endif
