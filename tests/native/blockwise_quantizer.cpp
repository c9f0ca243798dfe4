// SPDX-License-Identifier: Apache-2.0
#include "accel/blockwise_quantizer.h"

#include <cmath>

#include "drive.h"

static int64_t blocks_of(int64_t numel, int64_t blocksize) { return (numel + blocksize - 1) / blocksize; }

static void fill_mixed(char *to, int64_t numel, int32_t dtype, uint32_t seed) {
  for (int64_t e = 0; e < numel; ++e) {
    seed = seed * 1664525u + 1013904223u;
    // Every third element any bits at all, NaN and infinity among them.
    if (dtype == ACCEL_FLOAT32)
      reinterpret_cast<float *>(to)[e] = static_cast<float>(static_cast<int32_t>(seed)) * 1e-9f;
    else
      reinterpret_cast<uint16_t *>(to)[e] = static_cast<uint16_t>(seed >> 16 & (e % 3 ? 0xBFFFu : 0xFFFFu));
  }
  if (dtype == ACCEL_FLOAT32 && numel > 300) {
    reinterpret_cast<float *>(to)[7] = NAN;
    reinterpret_cast<float *>(to)[290] = INFINITY;
  }
}

static void eight_bits(int64_t numel, int64_t blocksize, int32_t dtype, int64_t threads, bool own) {
  const auto x = exactly<char>(numel * bytes_of(dtype)), back = exactly<char>(numel * bytes_of(dtype));
  const auto codes = exactly<uint8_t>(numel), order = exactly<uint8_t>(256);
  const auto absmax = exactly<float>(blocks_of(numel, blocksize)), values = exactly<float>(256);
  for (int i = 0; i < 256; ++i) {
    values[static_cast<size_t>(i)] = i < 99 ? 0.0f : static_cast<float>(i) * 1e-2f;  // many alike
    order[static_cast<size_t>(i)] = static_cast<uint8_t>(255 - i);
  }
  fill_mixed(x.get(), numel, dtype, 3);
  const float *const code = own ? values.get() : nullptr;
  REQUIRE(accel_blockwise_encode(x.get(), code, own ? order.get() : nullptr, codes.get(), absmax.get(),
                                 blocksize, numel, threads, dtype, nullptr) == ACCEL_OK);
  REQUIRE(accel_blockwise_decode(codes.get(), absmax.get(), code, back.get(), blocksize, dtype, numel, threads,
                                 ACCEL_UINT8, nullptr) == ACCEL_OK);
}

static void four_bits(int64_t numel, int64_t blocksize, int32_t dtype, int64_t threads, int64_t kind) {
  const auto x = exactly<char>(numel * bytes_of(dtype)), back = exactly<char>(numel * bytes_of(dtype));
  const auto packed = exactly<uint8_t>((numel + 1) / 2);
  const auto absmax = exactly<float>(blocks_of(numel, blocksize));
  fill_mixed(x.get(), numel, dtype, 5);
  REQUIRE(accel_four_bit_encode(x.get(), packed.get(), absmax.get(), blocksize, kind, numel, threads, dtype,
                                nullptr) == ACCEL_OK);
  REQUIRE(accel_four_bit_decode(packed.get(), absmax.get(), back.get(), blocksize, kind, numel, dtype, threads,
                                ACCEL_UINT8, nullptr) == ACCEL_OK);
}

static void refusals() {
  float x[4] = {1.0f, 2.0f, 3.0f, 4.0f}, absmax[4], out[4];
  uint8_t codes[4];
  const auto encode = [&](const void *from, int64_t blocksize, int64_t numel, int64_t threads, int32_t dtype) {
    return accel_blockwise_encode(from, nullptr, nullptr, codes, absmax, blocksize, numel, threads, dtype, nullptr);
  };
  REQUIRE(encode(x, 0, 4, 1, ACCEL_FLOAT32) == ACCEL_BAD_ARGUMENT);
  REQUIRE(encode(x, 4, -1, 1, ACCEL_FLOAT32) == ACCEL_BAD_ARGUMENT);
  REQUIRE(encode(x, 4, 4, 0, ACCEL_FLOAT32) == ACCEL_BAD_ARGUMENT);
  REQUIRE(encode(x, 4, 4, 1, ACCEL_FLOAT64) == ACCEL_BAD_DTYPE);
  REQUIRE(encode(nullptr, 4, 4, 1, ACCEL_FLOAT32) == ACCEL_BAD_ARGUMENT);
  REQUIRE(encode(nullptr, 4, 0, 1, ACCEL_FLOAT32) == ACCEL_OK);
  REQUIRE(accel_blockwise_encode(x, x, nullptr, codes, absmax, 4, 4, 1, ACCEL_FLOAT32, nullptr) ==
          ACCEL_BAD_ARGUMENT);
  REQUIRE(accel_blockwise_decode(codes, absmax, nullptr, out, 4, ACCEL_FLOAT32, 4, 1, ACCEL_INT8, nullptr) ==
          ACCEL_BAD_DTYPE);
  for (const int64_t kind : {-1, 2})
    REQUIRE(accel_four_bit_encode(x, codes, absmax, 4, kind, 4, 1, ACCEL_FLOAT32, nullptr) == ACCEL_BAD_ARGUMENT);
  REQUIRE(accel_four_bit_encode(x, codes, absmax, 3, 0, 4, 1, ACCEL_FLOAT32, nullptr) == ACCEL_BAD_ARGUMENT);
  REQUIRE(accel_four_bit_decode(codes, absmax, out, 3, 0, 4, ACCEL_FLOAT32, 1, ACCEL_UINT8, nullptr) ==
          ACCEL_BAD_ARGUMENT);
}

static void run(int32_t dtype, int64_t threads) {
  for (const int64_t numel : kNumels) {
    for (const int64_t blocksize : {1, 7, 64, 1024, 3000})
      for (const bool own : {false, true}) eight_bits(numel, blocksize, dtype, threads, own);
    for (const int64_t blocksize : {32, 64, 4096})
      for (const int64_t kind : {ACCEL_NF4, ACCEL_FP4}) four_bits(numel, blocksize, dtype, threads, kind);
  }
}

int main() { at_every_level(run, refusals); }
