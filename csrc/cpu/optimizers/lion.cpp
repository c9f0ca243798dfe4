// SPDX-License-Identifier: Apache-2.0
// Lion on the CPU.

#ifdef ACCEL_TARGET

#include "convert-inl.h"
#include "stream-inl.h"

namespace ACCEL_TARGET {

static void lion_block(float *__restrict p, const float *__restrict grad, float *const *states,
                       int64_t n, const LionScalars &given) {
  const LionScalars s = given;
  float *__restrict m = states[0];
  const auto element = [=](int64_t i)
      __attribute__((always_inline)) { lion(grad[i], p[i], m[i], s); };
  for_elements(n, element, p, grad, m);
}

const ElementLevel<Lion> lion_level = {lion_block, &convert};

}  // namespace ACCEL_TARGET

#else

#include "../../common/optimizers/lion.h"
#include "convert.h"

#define ACCEL_SOURCE "optimizers/lion.cpp"
#define ACCEL_TABLE const accel::ElementLevel<accel::Lion> lion_level
#include "foreach_target.h"

#ifdef ACCEL_PART_COMMON
#include "optimizer.h"
#include "simd.h"

int32_t accel_lion_step(const accel_lion_args *args, void *) {
  return accel::step_elements<accel::Lion>(args, ACCEL_FOR_LEVEL(lion_level));
}

#endif
#endif
