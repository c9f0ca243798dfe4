// SPDX-License-Identifier: Apache-2.0
#include "accel/quantizer.h"

#include "drive.h"

static void run_one(int64_t groups, int64_t each, int64_t bits, bool asymmetric, int32_t dtype, int64_t threads) {
  const int64_t numel = groups * each, bytes = numel * bits / 8, per = asymmetric ? 2 : 1;
  const auto x = exactly<char>(numel * bytes_of(dtype)), back = exactly<char>(numel * bytes_of(dtype));
  const auto codes = exactly<int8_t>(bytes), reduced = exactly<int8_t>(bytes / 4);
  const auto params = exactly<float>(groups * per), sums = exactly<float>(2 * per);
  fill(x.get(), numel, dtype, 3);
  REQUIRE(accel_group_quantize(x.get(), codes.get(), params.get(), groups, bits, asymmetric, 2, 1, 4, numel, threads,
                               dtype, nullptr) == ACCEL_OK);
  REQUIRE(accel_group_dequantize(codes.get(), params.get(), back.get(), groups, bits, asymmetric, dtype, bytes,
                                 threads, ACCEL_INT8, nullptr) == ACCEL_OK);
  REQUIRE(accel_group_reduce(codes.get(), params.get(), reduced.get(), sums.get(), groups, 2, bits, asymmetric, 4,
                             bytes, threads, ACCEL_INT8, nullptr) == ACCEL_OK);
}

static void refusals() {
  float x[8] = {1.0f, 2.0f, 3.0f, 4.0f, 5.0f, 6.0f, 7.0f, 8.0f}, params[8], out[8];
  int8_t codes[8] = {};
  const auto quantize = [&](int64_t groups, int64_t bits, int64_t nodes, int64_t numel, int64_t threads, int32_t dtype) {
    return accel_group_quantize(x, codes, params, groups, bits, 0, 1, nodes, 1, numel, threads, dtype, nullptr);
  };
  REQUIRE(quantize(2, 8, 1, 8, 1, ACCEL_FLOAT32) == ACCEL_OK);
  REQUIRE(quantize(3, 8, 1, 8, 1, ACCEL_FLOAT32) == ACCEL_BAD_ARGUMENT);
  REQUIRE(quantize(0, 8, 1, 8, 1, ACCEL_FLOAT32) == ACCEL_BAD_ARGUMENT);
  REQUIRE(quantize(2, 6, 1, 8, 1, ACCEL_FLOAT32) == ACCEL_BAD_ARGUMENT);
  REQUIRE(quantize(8, 4, 1, 8, 1, ACCEL_FLOAT32) == ACCEL_BAD_ARGUMENT);
  REQUIRE(quantize(2, 8, 3, 8, 1, ACCEL_FLOAT32) == ACCEL_BAD_ARGUMENT);
  REQUIRE(quantize(2, 8, INT64_MAX, 8, 1, ACCEL_FLOAT32) == ACCEL_BAD_ARGUMENT);
  REQUIRE(quantize(2, 8, 1, 8, 0, ACCEL_FLOAT32) == ACCEL_BAD_ARGUMENT);
  REQUIRE(quantize(2, 8, 1, 8, 1, ACCEL_INT8) == ACCEL_BAD_DTYPE);
  const auto dequantize = [&](int64_t groups, int64_t bytes, int32_t dtype) {
    return accel_group_dequantize(codes, params, out, groups, 8, 0, ACCEL_FLOAT32, bytes, 1, dtype, nullptr);
  };
  REQUIRE(dequantize(3, 8, ACCEL_INT8) == ACCEL_BAD_ARGUMENT);
  REQUIRE(dequantize(2, -2, ACCEL_INT8) == ACCEL_BAD_ARGUMENT);
  REQUIRE(dequantize(2, 8, ACCEL_UINT8) == ACCEL_BAD_DTYPE);
  const auto reduce = [&](int64_t in_groups, int64_t out_groups, int64_t devices) {
    return accel_group_reduce(codes, params, codes, params, in_groups, out_groups, 8, 0, devices, 8, 1, ACCEL_INT8,
                              nullptr);
  };
  REQUIRE(reduce(3, 1, 2) == ACCEL_BAD_ARGUMENT);
  REQUIRE(reduce(2, 3, 2) == ACCEL_BAD_ARGUMENT);
  REQUIRE(reduce(0, 1, 2) == ACCEL_BAD_ARGUMENT);
  REQUIRE(reduce(2, 1, 0) == ACCEL_BAD_ARGUMENT);
}

static void run(int32_t dtype, int64_t threads) {
  for (const int64_t each : {2, 30, 1024, 2050})
    for (const int64_t groups : {8, 40})
      for (const int64_t bits : {4, 8})
        for (const bool asymmetric : {false, true}) run_one(groups, each, bits, asymmetric, dtype, threads);
}

int main() { at_every_level(run, refusals); }
