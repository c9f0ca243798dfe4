// SPDX-License-Identifier: Apache-2.0
// Integer codes over groups on SYCL devices: see accel/quantizer.h for the format.

#include "kernels.h"

#include "../../common/quantizers/groups.h"

namespace accel {
namespace {

ACCEL_ON_BOTH(kCallText, struct Call {
  uint64_t elements, quantized, params;  // `elements` is read or written, as codes are
  uint64_t codes, new_params;
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
  call.swizzle = {pipeline, nodes, devices, 0};
  const int32_t status = check_quantize(vals, codes, params, groups, bits, call.swizzle, numel, dtype);
  if (status != ACCEL_OK) return status;
  call.elements = address(vals);
  call.codes = address(codes);
  call.new_params = address(params);
  call.groups = groups;
  call.count = numel / groups;
  call.dtype = dtype;
  call.four = bits == 4;
  call.asymmetric = asymmetric != 0;
  return run(kQuantize, call, groups, 1, stream);
}

int32_t accel_group_dequantize(const int8_t *quantized, const float *params, void *out, int64_t groups,
                               int64_t bits, int32_t asymmetric, int32_t out_dtype, int64_t bytes, int64_t,
                               int32_t dtype, void *stream) {
  using namespace accel;
  const int32_t status = check_dequantize(quantized, params, out, groups, bits, out_dtype, bytes, dtype);
  if (status != ACCEL_OK) return status;
  Call call{};
  call.quantized = address(quantized);
  call.params = address(params);
  call.elements = address(out);
  call.numel = bits == 4 ? 2 * bytes : bytes;
  call.in_count = call.numel / groups;
  call.dtype = out_dtype;
  call.four = bits == 4;
  call.asymmetric = asymmetric != 0;
  return run(kDequantize, call, call.numel, kGroup * 4, stream);
}

int32_t accel_group_reduce(const int8_t *quantized, const float *params, int8_t *codes, float *new_params,
                           int64_t in_groups, int64_t out_groups, int64_t bits, int32_t asymmetric,
                           int64_t devices, int64_t bytes, int64_t, int32_t dtype, void *stream) {
  using namespace accel;
  Call call{};
  const int32_t status = check_reduce(quantized, params, codes, new_params, in_groups, out_groups, bits, devices,
                                      bytes, dtype, call.reduction);
  if (status != ACCEL_OK) return status;
  const int64_t a_byte = bits == 4 ? 2 : 1;
  call.swizzle = {1, 1, 1, out_groups};
  call.quantized = address(quantized);
  call.params = address(params);
  call.codes = address(codes);
  call.new_params = address(new_params);
  call.groups = out_groups;
  call.count = call.reduction.out_group * a_byte;
  call.in_count = call.reduction.in_group * a_byte;
  call.four = bits == 4;
  call.asymmetric = asymmetric != 0;
  return run(kReduce, call, out_groups, 1, stream);
}
