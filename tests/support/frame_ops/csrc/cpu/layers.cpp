// silu(gate) * up with its derivative, and a product with numbers of every kind. fp32 only.
#include <cmath>

#include "accel/op.h"

ACCEL_EXPORT int32_t accel_silu_mul(const float *gate, const float *up, float *out, int64_t count,
                                    int32_t dtype, void *) {
  if (dtype != ACCEL_FLOAT32) return ACCEL_BAD_DTYPE;
  for (int64_t i = 0; i < count; ++i) out[i] = gate[i] / (1 + std::exp(-gate[i])) * up[i];
  return ACCEL_OK;
}

ACCEL_EXPORT int32_t accel_silu_mul_backward(const float *grad, const float *gate, const float *up,
                                             float *grad_gate, float *grad_up, int64_t count,
                                             int32_t dtype, void *) {
  if (dtype != ACCEL_FLOAT32) return ACCEL_BAD_DTYPE;
  for (int64_t i = 0; i < count; ++i) {
    const float part = 1 / (1 + std::exp(-gate[i]));
    grad_gate[i] = grad[i] * up[i] * part * (1 + gate[i] * (1 - part));
    grad_up[i] = grad[i] * gate[i] * part;
  }
  return ACCEL_OK;
}

ACCEL_EXPORT int32_t accel_scaled(const float *x, const float *bias, float *out, int64_t times,
                                  double factor, int32_t negate, int64_t count, int32_t dtype,
                                  void *) {
  if (dtype != ACCEL_FLOAT32) return ACCEL_BAD_DTYPE;
  if (times == 12345) return ACCEL_NO_MEMORY;  // a failure that the reference does not replace
  if (times == 777) return ACCEL_UNSUPPORTED;
  const float by = static_cast<float>(times * factor * (negate ? -1 : 1));
  for (int64_t i = 0; i < count; ++i) out[i] = x[i] * by + (bias ? bias[i] : 0.0f);
  return ACCEL_OK;
}
