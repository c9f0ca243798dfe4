// SPDX-License-Identifier: Apache-2.0
#include "accel/multi_tensor.h"

#include <cmath>

#include "drive.h"

constexpr int32_t kTypes[] = {ACCEL_FLOAT32, ACCEL_BFLOAT16, ACCEL_FLOAT16};

// Every tensor in memory of its exact size; types alternate, beginning with the shift-th.
struct Mixed {
  explicit Mixed(int shift) {
    for (int64_t i = 0; i < kCount; ++i) {
      dtypes.push_back(kTypes[(i + shift) % 3]);
      const size_t bytes = static_cast<size_t>(kNumels[i] * bytes_of(dtypes.back()));
      memory.emplace_back(new char[bytes]());
      at.push_back(memory.back().get());
      uint32_t seed = static_cast<uint32_t>(i + shift);
      for (int64_t e = 0; e < kNumels[i]; ++e) {
        seed = seed * 1664525u + 1013904223u;
        if (dtypes.back() == ACCEL_FLOAT32)
          static_cast<float *>(at.back())[e] = static_cast<float>(static_cast<int32_t>(seed)) * 1e-9f;
        else
          static_cast<uint16_t *>(at.back())[e] = static_cast<uint16_t>(seed >> 16 & 0xBFFFu);
      }
    }
  }

  const void *const *read() const { return const_cast<const void *const *>(at.data()); }

  std::vector<std::unique_ptr<char[]>> memory;
  std::vector<void *> at;
  std::vector<int32_t> dtypes;
};

static void run(int shift, int64_t threads) {
  Mixed x(shift), y(shift + 1), out(shift + 2);
  const auto given = std::make_unique<float>(0.5f);
  const auto flag = std::make_unique<int32_t>(0);
  const auto norm = std::make_unique<float>(-1.0f);
  std::unique_ptr<float[]> norms(new float[kCount]);
  const auto norm_of = [&](const float *by, bool each, bool skip, int64_t count = kCount) {
    return accel_multi_tensor_norm(flag.get(), x.read(), by, norm.get(), each ? norms.get() : nullptr,
                                   nullptr, each, skip, kNumels, count, x.dtypes.data(), threads,
                                   ACCEL_INT32, nullptr);
  };
  REQUIRE(norm_of(nullptr, true, false) == ACCEL_OK && *norm > 0.0f && *flag == 0);
  REQUIRE(norms[0] == 0.0f && norms[12] > 0.0f);
  const float whole = *norm;
  REQUIRE(norm_of(given.get(), false, false) == ACCEL_OK && std::fabs(*norm - whole / 2) <= 1e-6f * whole);
  *flag = 1;
  REQUIRE(norm_of(nullptr, true, true) == ACCEL_OK && *norm == 0.0f && norms[12] == 0.0f);
  *flag = 0;
  REQUIRE(norm_of(nullptr, false, false, 0) == ACCEL_OK && *norm == 0.0f);
  REQUIRE(norm_of(nullptr, false, false, -1) == ACCEL_BAD_ARGUMENT);

  const auto scale = [&](int64_t with, const void *const *from, int32_t dtype) {
    return accel_multi_tensor_scale_(flag.get(), from, out.at.data(), 0.25, kNumels, kCount,
                                     x.dtypes.data(), out.dtypes.data(), with, dtype, nullptr);
  };
  REQUIRE(scale(threads, x.read(), ACCEL_INT32) == ACCEL_OK && *flag == 0);
  REQUIRE(scale(0, x.read(), ACCEL_INT32) == ACCEL_BAD_ARGUMENT);
  REQUIRE(scale(threads, nullptr, ACCEL_INT32) == ACCEL_BAD_ARGUMENT);
  REQUIRE(scale(threads, x.read(), ACCEL_INT64) == ACCEL_BAD_DTYPE);
  const auto axpby = [&](void *const *to, const int32_t *dtypes, int64_t check) {
    return accel_multi_tensor_axpby_(flag.get(), x.read(), y.read(), to, 0.5, -2.0, check, kNumels,
                                     kCount, x.dtypes.data(), y.dtypes.data(), dtypes, threads,
                                     ACCEL_INT32, nullptr);
  };
  REQUIRE(axpby(out.at.data(), out.dtypes.data(), -1) == ACCEL_OK && *flag == 0);
  REQUIRE(axpby(y.at.data(), y.dtypes.data(), 0) == ACCEL_OK);
  REQUIRE(axpby(y.at.data(), y.dtypes.data(), 2) == ACCEL_BAD_ARGUMENT);
  const auto clip = [&](double most, bool keep) {
    return accel_multi_tensor_clip_(x.at.data(), norm.get(), nullptr, most, keep, kNumels, kCount,
                                    x.dtypes.data(), threads, ACCEL_FLOAT32, nullptr);
  };
  REQUIRE(clip(1.0, false) == ACCEL_OK && *norm == whole);
  REQUIRE(clip(1e9, false) == ACCEL_OK && std::fabs(*norm - 1.0f) < 0.02f);
  // Infinity in a tensor that every type has.
  for (int64_t e = 0; e < 2; ++e) static_cast<uint16_t *>(x.at[12])[e] = e ? 0x7F80u : 0u;
  if (x.dtypes[12] != ACCEL_FLOAT16) {
    *flag = 0;
    REQUIRE(scale(threads, x.read(), ACCEL_INT32) == ACCEL_OK && *flag == 1);
    REQUIRE(clip(1.0, true) == ACCEL_OK && std::isinf(*norm));
  }
  out.dtypes[3] = ACCEL_FLOAT64;
  REQUIRE(scale(threads, x.read(), ACCEL_INT32) == ACCEL_BAD_DTYPE);
}

int main() {
  for (int32_t level = 0; level < 4; ++level) {
    if (accel_simd_force(level) != ACCEL_OK) continue;
    for (int shift = 0; shift < 3; ++shift)
      for (int64_t threads : {1, 3}) run(shift, threads);
  }
  from_many_threads([] { run(0, 3); });
}
