// SPDX-License-Identifier: Apache-2.0
// Adagrad on the CPU.

#ifdef ACCEL_TARGET

#include "convert-inl.h"
#include "stream-inl.h"

namespace ACCEL_TARGET {

// `HAS_L2` is a constant in every call, so each becomes a loop of its own without branches.
static inline __attribute__((always_inline)) void adagrad_loop(float *__restrict p,
                                                               const float *__restrict grad,
                                                               float *__restrict sum, int64_t n,
                                                               const AdagradScalars &given,
                                                               bool HAS_L2) {
  const AdagradScalars s = given;
  const auto element = [=](int64_t i)
      __attribute__((always_inline)) { adagrad(grad[i], p[i], sum[i], s, HAS_L2); };
  for_elements(n, element, p, grad, sum);
}

static void adagrad_block(float *p, const float *grad, float *const *states, int64_t n,
                          const AdagradScalars &s) {
  if (s.l2 != 0.0f) adagrad_loop(p, grad, states[0], n, s, true);
  else adagrad_loop(p, grad, states[0], n, s, false);
}

const ElementLevel<Adagrad> adagrad_level = {adagrad_block, &convert};

}  // namespace ACCEL_TARGET

#else

#include "../../common/optimizers/adagrad.h"
#include "convert.h"

#define ACCEL_SOURCE "optimizers/adagrad.cpp"
#define ACCEL_TABLE const accel::ElementLevel<accel::Adagrad> adagrad_level
#include "foreach_target.h"

#ifdef ACCEL_PART_COMMON
#include "optimizer.h"
#include "simd.h"

int32_t accel_adagrad_step(const accel_adagrad_args *args, void *) {
  return accel::step_elements<accel::Adagrad>(args, ACCEL_FOR_LEVEL(adagrad_level));
}

#endif
#endif
