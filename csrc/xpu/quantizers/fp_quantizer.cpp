// SPDX-License-Identifier: Apache-2.0
// Floating-point codes over groups on SYCL devices: see accel/fp_quantizer.h for the format.

#include "kernels.h"

#include "../../common/quantizers/floats_call.h"

namespace accel {
namespace {

ACCEL_ON_BOTH(kCallText, struct Call {
  uint64_t val, rows;
  uint64_t indexes;      // of a selection, or 0
  int64_t groups, each;  // each: groups of an index
  int64_t known;         // groups that there are codes of
  uint64_t key;
  FloatFormat format;
  FloatRows row;
  int32_t dtype, several;  // several: codes that fill bytes
  int32_t stochastic;
};)

constexpr char kKernels[] =
#include "fp_quantizer.sycl"
    ;

enum Kernel { kQuantize, kDequantize };

int32_t run(Kernel which, const Call &call, int64_t items, int64_t per_group, void *stream) {
  const auto make = [] {
    return new Program(common_source() + kFloatsText + kCallText + kKernels, {"fp_quantize", "fp_dequantize"});
  };
  return run_over(make, which, items, per_group, call, stream);
}

int32_t decode(const Call &call, int64_t numel, void *stream) {
  return run(kDequantize, call, numel / call.several, kGroup, stream);
}

}  // namespace
}  // namespace accel

int32_t accel_fp_quantize(const void *val, uint8_t *out, int64_t group_size, int64_t bits, int64_t mantissa,
                          int32_t stochastic, int64_t seed, int64_t numel, int64_t out_bytes, int64_t,
                          int32_t dtype, void *stream) {
  using namespace accel;
  Call call{};
  const int32_t status = encode_call(call, val, out, group_size, bits, mantissa, stochastic != 0, seed, numel,
                                     out_bytes, dtype);
  return status == ACCEL_OK ? run(kQuantize, call, call.groups, 1, stream) : status;
}

int32_t accel_fp_dequantize(void *val, const uint8_t *coded, int64_t group_size, int64_t bits, int64_t mantissa,
                            int64_t numel, int64_t coded_bytes, int64_t, int32_t dtype, void *stream) {
  using namespace accel;
  Call call{};
  const int32_t status = decode_call(call, val, coded, group_size, bits, mantissa, numel, coded_bytes, dtype);
  if (status != ACCEL_OK) return status;
  return call.groups == call.known ? decode(call, numel, stream) : ACCEL_BAD_ARGUMENT;
}

int32_t accel_fp_selective_dequantize(void *val, const uint8_t *coded, const int32_t *indexes, int64_t group_size,
                                      int64_t bits, int64_t mantissa, int64_t numel, int64_t coded_bytes,
                                      int64_t index_count, int64_t, int32_t dtype, void *stream) {
  using namespace accel;
  Call call{};
  int32_t status = decode_call(call, val, coded, group_size, bits, mantissa, numel, coded_bytes, dtype);
  if (status == ACCEL_OK) status = select_rows(call, indexes, index_count);
  return status == ACCEL_OK ? decode(call, numel, stream) : status;
}
