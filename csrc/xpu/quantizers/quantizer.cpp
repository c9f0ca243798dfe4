// SPDX-License-Identifier: Apache-2.0
// Integer codes over groups on SYCL devices: see accel/quantizer.h for the format.

#include "kernels.h"

#include "../../common/quantizers/groups_call.h"

namespace accel {
namespace {

ACCEL_ON_BOTH(kCallText, struct Call {
  uint64_t vals, out, quantized, codes, params, new_params;
  int64_t groups, count, numel;  // count: elements of a group
  int64_t in_count;              // elements of a group that is read
  Swizzle swizzle;
  Reduction reduction;
  int32_t dtype, four, asymmetric;
};)

constexpr char kKernels[] =
#include "quantizer.sycl"
    ;

enum Kernel { kQuantize, kReduce, kDequantize };

int32_t run(Kernel which, const Call &call, int64_t items, int64_t per_group, void *stream) {
  const auto make = [] {
    return new Program(common_source() + kGroupsText + kCallText + kKernels,
                       {"group_quantize", "group_reduce", "group_dequantize"});
  };
  return run_over(make, which, items, per_group, call, stream);
}

}  // namespace
}  // namespace accel

int32_t accel_group_quantize(const void *vals, int8_t *codes, float *params, int64_t groups, int64_t bits,
                             int32_t asymmetric, int64_t pipeline, int64_t nodes, int64_t devices,
                             int64_t numel, int64_t, int32_t dtype, void *stream) {
  using namespace accel;
  Call call{};
  const int32_t status = quantize_call(call, vals, codes, params, groups, bits, asymmetric != 0,
                                       {pipeline, nodes, devices, 0}, numel, dtype);
  return status == ACCEL_OK ? run(kQuantize, call, call.groups, 1, stream) : status;
}

int32_t accel_group_dequantize(const int8_t *quantized, const float *params, void *out, int64_t groups,
                               int64_t bits, int32_t asymmetric, int32_t out_dtype, int64_t bytes, int64_t,
                               int32_t dtype, void *stream) {
  using namespace accel;
  Call call{};
  const int32_t status = dequantize_call(call, quantized, params, out, groups, bits, asymmetric != 0, out_dtype,
                                         bytes, dtype);
  if (status != ACCEL_OK) return status;
  return run(kDequantize, call, call.numel, kGroup * 4, stream);
}

int32_t accel_group_reduce(const int8_t *quantized, const float *params, int8_t *codes, float *new_params,
                           int64_t in_groups, int64_t out_groups, int64_t bits, int32_t asymmetric,
                           int64_t devices, int64_t bytes, int64_t, int32_t dtype, void *stream) {
  using namespace accel;
  Call call{};
  const int32_t status = reduce_call(call, quantized, params, codes, new_params, in_groups, out_groups, bits,
                                     asymmetric != 0, devices, bytes, dtype);
  return status == ACCEL_OK ? run(kReduce, call, call.groups, 1, stream) : status;
}
