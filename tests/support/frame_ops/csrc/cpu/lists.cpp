// In place over lists, a reduction of lists, and a quantizer of fp32.
#include <algorithm>
#include <cmath>

#include "accel/op.h"

ACCEL_EXPORT int32_t accel_moving_average_(float *const *averages, const float *const *values,
                                           double decay, const int64_t *numels, int64_t count,
                                           int32_t dtype, void *) {
  if (dtype != ACCEL_FLOAT32) return ACCEL_BAD_DTYPE;
  const float weight = static_cast<float>(1.0 - decay);
  for (int64_t t = 0; t < count; ++t)
    for (int64_t i = 0; i < numels[t]; ++i)
      averages[t][i] += weight * (values[t][i] - averages[t][i]);
  return ACCEL_OK;
}

ACCEL_EXPORT int32_t accel_total_norm(const float *const *tensors, float *out, const int64_t *numels,
                                      int64_t count, int32_t dtype, void *) {
  if (dtype != ACCEL_FLOAT32) return ACCEL_BAD_DTYPE;
  double sum = 0;
  for (int64_t t = 0; t < count; ++t)
    for (int64_t i = 0; i < numels[t]; ++i) sum += double(tensors[t][i]) * tensors[t][i];
  *out = static_cast<float>(std::sqrt(sum));
  return ACCEL_OK;
}

ACCEL_EXPORT int32_t accel_quantize(const float *values, int8_t *codes, float *scales, int64_t groups,
                                    int64_t count, int32_t dtype, void *) {
  if (dtype != ACCEL_FLOAT32) return ACCEL_BAD_DTYPE;
  const int64_t size = count / groups;
  for (int64_t g = 0; g < groups; ++g, values += size, codes += size) {
    float most = 0;
    for (int64_t i = 0; i < size; ++i) most = std::max(most, std::fabs(values[i]));
    scales[g] = most / 127;
    const float scale = std::max(scales[g], 1e-30f);
    for (int64_t i = 0; i < size; ++i)
      codes[i] = static_cast<int8_t>(
          std::min(127.0f, std::max(-128.0f, std::nearbyint(values[i] / scale))));
  }
  return ACCEL_OK;
}
