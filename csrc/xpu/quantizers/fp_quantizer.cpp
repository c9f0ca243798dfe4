// SPDX-License-Identifier: Apache-2.0
// Floating-point codes over groups on SYCL devices: see accel/fp_quantizer.h for the format.

#include "kernels.h"

#include "../../common/quantizers/floats.h"

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

// Codes whose bits are whole bytes: one of 8, two of 4 or 12, four of 6.
int32_t several_of(int64_t bits) { return bits == 8 ? 1 : (bits == 6 ? 4 : 2); }

int32_t decode(Call &call, void *val, const uint8_t *coded, int64_t bits, int64_t numel, int32_t dtype,
               void *stream) {
  call.val = address(val);
  call.rows = address(coded);
  call.groups = numel / call.row.elements;
  call.dtype = dtype;
  call.several = several_of(bits);
  return run(kDequantize, call, numel / call.several, kGroup, stream);
}

}  // namespace
}  // namespace accel

int32_t accel_fp_quantize(const void *val, uint8_t *out, int64_t group_size, int64_t bits, int64_t mantissa,
                          int32_t stochastic, int64_t seed, int64_t numel, int64_t out_bytes, int64_t,
                          int32_t dtype, void *stream) {
  using namespace accel;
  Call call{};
  const int32_t status =
      check_rows(val, out, group_size, bits, mantissa, numel, out_bytes, dtype, call.format, call.row);
  if (status != ACCEL_OK) return status;
  if (call.row.count != numel / group_size) return ACCEL_BAD_ARGUMENT;
  call.val = address(val);
  call.rows = address(out);
  call.groups = call.row.count;
  call.key = accel_random_key(static_cast<uint64_t>(seed), 0, 0);
  call.dtype = dtype;
  call.several = several_of(bits);
  call.stochastic = stochastic != 0;
  return run(kQuantize, call, call.groups, 1, stream);
}

int32_t accel_fp_dequantize(void *val, const uint8_t *coded, int64_t group_size, int64_t bits, int64_t mantissa,
                            int64_t numel, int64_t coded_bytes, int64_t, int32_t dtype, void *stream) {
  using namespace accel;
  Call call{};
  const int32_t status =
      check_rows(val, coded, group_size, bits, mantissa, numel, coded_bytes, dtype, call.format, call.row);
  if (status != ACCEL_OK) return status;
  if (call.row.count != numel / group_size) return ACCEL_BAD_ARGUMENT;
  call.known = call.row.count;
  return decode(call, val, coded, bits, numel, dtype, stream);
}

int32_t accel_fp_selective_dequantize(void *val, const uint8_t *coded, const int32_t *indexes, int64_t group_size,
                                      int64_t bits, int64_t mantissa, int64_t numel, int64_t coded_bytes,
                                      int64_t index_count, int64_t, int32_t dtype, void *stream) {
  using namespace accel;
  Call call{};
  const int32_t status =
      check_rows(val, coded, group_size, bits, mantissa, numel, coded_bytes, dtype, call.format, call.row);
  if (status != ACCEL_OK) return status;
  const int64_t wanted = numel / group_size;
  if (!indexes || index_count < 1 || wanted < 1 || wanted % index_count) return ACCEL_BAD_ARGUMENT;
  call.indexes = address(indexes);
  call.each = wanted / index_count;
  call.known = call.row.count / call.each * call.each;
  return decode(call, val, coded, bits, numel, dtype, stream);
}
