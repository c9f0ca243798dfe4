// SPDX-License-Identifier: Apache-2.0
// Codes of 8 and 4 bits over blocks on SYCL devices: see accel/blockwise_quantizer.h for the formats.

#include "kernels.h"

#include "../../common/quantizers/blockwise.h"

namespace accel {
namespace {

// Addresses are 0 for absent arrays.
ACCEL_ON_BOTH(kCallText, struct Call {
  uint64_t elements, codes, absmax;
  uint64_t code, order;  // 256 values, and their codes
  int64_t numel, blocksize;
  int32_t dtype, kind;
};)

constexpr char kKernels[] =
#include "blockwise_quantizer.sycl"
    ;

enum Kernel { kEncode, kDecode, kEncodeFour, kDecodeFour };

int32_t run(Kernel which, const Call &call, int64_t items, int64_t per_group, void *stream) {
  const auto make = [] {
    return new Program(common_source() + kBlockwiseText + kCallText + kKernels,
                       {"blockwise_encode", "blockwise_decode", "four_bit_encode", "four_bit_decode"});
  };
  return run_over(make, which, call.numel ? items : 0, per_group, call, stream);
}

// Of one group, in the launch: blocks, of which each sub-group has one; and elements.
constexpr int64_t kTeams = kGroup / 32, kElementsOfGroup = kGroup * 4;

}  // namespace
}  // namespace accel

int32_t accel_blockwise_encode(const void *a, const float *code, const uint8_t *order, uint8_t *codes,
                               float *absmax, int64_t blocksize, int64_t numel, int64_t, int32_t dtype,
                               void *stream) {
  using namespace accel;
  const Call call = {address(a),     address(codes), address(absmax), address(code),
                     address(order), numel,          blocksize,       dtype, 0};
  const int32_t status = check_blocks(a, codes, absmax, blocksize, numel, dtype);
  if (status != ACCEL_OK) return status;
  if (!code != !order) return ACCEL_BAD_ARGUMENT;
  return run(kEncode, call, block_count(numel, blocksize), kTeams, stream);
}

int32_t accel_blockwise_decode(const uint8_t *codes, const float *absmax, const float *code, void *out,
                               int64_t blocksize, int32_t out_dtype, int64_t numel, int64_t,
                               int32_t codes_dtype, void *stream) {
  using namespace accel;
  const Call call = {address(out), address(codes), address(absmax), address(code),
                     0,            numel,          blocksize,       out_dtype, 0};
  const int32_t status = check_blocks(out, codes, absmax, blocksize, numel, out_dtype);
  if (status != ACCEL_OK) return status;
  if (codes_dtype != ACCEL_UINT8) return ACCEL_BAD_DTYPE;
  return run(kDecode, call, numel, kElementsOfGroup, stream);
}

int32_t accel_four_bit_encode(const void *a, uint8_t *packed, float *absmax, int64_t blocksize,
                              int64_t kind, int64_t numel, int64_t, int32_t dtype, void *stream) {
  using namespace accel;
  const Call call = {address(a), address(packed), address(absmax), 0,     0,
                     numel,      blocksize,       dtype,           static_cast<int32_t>(kind)};
  const int32_t status = check_blocks(a, packed, absmax, blocksize, numel, dtype);
  if (status != ACCEL_OK) return status;
  if (!is_four_bit(blocksize, kind)) return ACCEL_BAD_ARGUMENT;
  return run(kEncodeFour, call, block_count(numel, blocksize), kTeams, stream);
}

int32_t accel_four_bit_decode(const uint8_t *packed, const float *absmax, void *out, int64_t blocksize,
                              int64_t kind, int64_t numel, int32_t out_dtype, int64_t,
                              int32_t packed_dtype, void *stream) {
  using namespace accel;
  const Call call = {address(out), address(packed), address(absmax), 0,         0,
                     numel,        blocksize,       out_dtype,       static_cast<int32_t>(kind)};
  const int32_t status = check_blocks(out, packed, absmax, blocksize, numel, out_dtype);
  if (status != ACCEL_OK) return status;
  if (packed_dtype != ACCEL_UINT8) return ACCEL_BAD_DTYPE;
  if (!is_four_bit(blocksize, kind)) return ACCEL_BAD_ARGUMENT;
  return run(kDecodeFour, call, numel, kElementsOfGroup, stream);
}
