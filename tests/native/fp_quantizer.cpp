// SPDX-License-Identifier: Apache-2.0
#include "accel/fp_quantizer.h"

#include "drive.h"

struct How {
  int64_t bits, mantissa;
};
static const How kFormats[] = {{8, 3}, {8, 2}, {12, 7}, {6, 2}, {4, 1}};

static void run_one(int64_t groups, int64_t each, const How &how, bool stochastic, int32_t dtype, int64_t threads) {
  const int64_t numel = groups * each, bytes = groups * (each * how.bits / 8 + 4);
  const auto x = exactly<char>(numel * bytes_of(dtype)), back = exactly<char>(numel * bytes_of(dtype));
  const auto part = exactly<char>(each * 2 * bytes_of(dtype));
  const auto rows = exactly<uint8_t>(bytes);
  const auto indexes = exactly<int32_t>(2);
  indexes[0] = static_cast<int32_t>(groups - 1);
  fill(x.get(), numel, dtype, 3);
  REQUIRE(accel_fp_quantize(x.get(), rows.get(), each, how.bits, how.mantissa, stochastic, -7, numel, bytes, threads,
                            dtype, nullptr) == ACCEL_OK);
  REQUIRE(accel_fp_dequantize(back.get(), rows.get(), each, how.bits, how.mantissa, numel, bytes, threads, dtype,
                              nullptr) == ACCEL_OK);
  REQUIRE(accel_fp_selective_dequantize(part.get(), rows.get(), indexes.get(), each, how.bits, how.mantissa, each * 2,
                                        bytes, 2, threads, dtype, nullptr) == ACCEL_OK);
}

static void refusals() {
  float x[8] = {1.0f, 2.0f, 3.0f, 4.0f, 5.0f, 6.0f, 7.0f, 8.0f};
  uint8_t rows[16] = {};
  int32_t indexes[2] = {0, 0};
  const auto quantize = [&](int64_t group_size, int64_t bits, int64_t mantissa, int64_t bytes, int64_t threads,
                            int32_t dtype) {
    return accel_fp_quantize(x, rows, group_size, bits, mantissa, 0, 0, 8, bytes, threads, dtype, nullptr);
  };
  REQUIRE(quantize(4, 8, 3, 16, 1, ACCEL_FLOAT32) == ACCEL_OK);
  REQUIRE(quantize(3, 8, 3, 16, 1, ACCEL_FLOAT32) == ACCEL_BAD_ARGUMENT);
  REQUIRE(quantize(0, 8, 3, 16, 1, ACCEL_FLOAT32) == ACCEL_BAD_ARGUMENT);
  REQUIRE(quantize(INT64_MAX, 8, 3, 16, 1, ACCEL_FLOAT32) == ACCEL_BAD_ARGUMENT);
  REQUIRE(quantize(1, 4, 1, 16, 1, ACCEL_FLOAT32) == ACCEL_BAD_ARGUMENT);
  REQUIRE(quantize(4, 8, 4, 16, 1, ACCEL_FLOAT32) == ACCEL_BAD_ARGUMENT);
  REQUIRE(quantize(4, 12, 4, 20, 1, ACCEL_FLOAT32) == ACCEL_BAD_ARGUMENT);
  REQUIRE(quantize(4, 8, 3, 8, 1, ACCEL_FLOAT32) == ACCEL_BAD_ARGUMENT);
  REQUIRE(quantize(4, 8, 3, 15, 1, ACCEL_FLOAT32) == ACCEL_BAD_ARGUMENT);
  REQUIRE(quantize(4, 8, 3, 16, 0, ACCEL_FLOAT32) == ACCEL_BAD_ARGUMENT);
  REQUIRE(quantize(4, 8, 3, 16, 1, ACCEL_INT8) == ACCEL_BAD_DTYPE);
  const auto dequantize = [&](int64_t numel, int64_t bytes, int64_t threads, int32_t dtype) {
    return accel_fp_dequantize(x, rows, 4, 8, 3, numel, bytes, threads, dtype, nullptr);
  };
  REQUIRE(dequantize(8, 16, 1, ACCEL_FLOAT32) == ACCEL_OK);
  REQUIRE(dequantize(8, 8, 1, ACCEL_FLOAT32) == ACCEL_BAD_ARGUMENT);
  REQUIRE(dequantize(-4, 16, 1, ACCEL_FLOAT32) == ACCEL_BAD_ARGUMENT);
  REQUIRE(dequantize(8, -16, 1, ACCEL_FLOAT32) == ACCEL_BAD_ARGUMENT);
  REQUIRE(dequantize(8, 16, 0, ACCEL_FLOAT32) == ACCEL_BAD_ARGUMENT);
  REQUIRE(dequantize(8, 16, 1, ACCEL_UINT8) == ACCEL_BAD_DTYPE);
  const auto select = [&](int32_t index, int64_t numel, int64_t count) {
    indexes[1] = index;
    return accel_fp_selective_dequantize(x, rows, indexes, 4, 8, 3, numel, 16, count, 1, ACCEL_FLOAT32, nullptr);
  };
  REQUIRE(select(1, 8, 2) == ACCEL_OK);
  REQUIRE(select(2, 8, 2) == ACCEL_UNSUPPORTED);
  REQUIRE(select(-1, 8, 2) == ACCEL_UNSUPPORTED);
  REQUIRE(select(1, 4, 2) == ACCEL_BAD_ARGUMENT);
  REQUIRE(select(1, 8, 0) == ACCEL_BAD_ARGUMENT);
}

static void run(int32_t dtype, int64_t threads) {
  for (const int64_t each : {4, 60, 1024, 2052})
    for (const int64_t groups : {1, 40})
      for (const How &how : kFormats)
        for (const bool stochastic : {false, true}) run_one(groups, each, how, stochastic, dtype, threads);
}

int main() { at_every_level(run, refusals); }
