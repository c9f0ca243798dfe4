// SPDX-License-Identifier: Apache-2.0
// What memory alone allows a quantizer: every element read once, every code written once, or the reverse.
#include <cstdint>

#define WIDEST __attribute__((target_clones("avx512f", "avx2", "default")))

// A byte for each element.
WIDEST static void narrow(uint8_t *to, const float *x, int64_t n) {
  for (int64_t i = 0; i < n; ++i) to[i] = static_cast<uint8_t>(static_cast<int32_t>(x[i]));
}

// Four bytes for each eight elements.
WIDEST static void narrow_four(uint8_t *to, const float *x, int64_t n) {
  uint32_t *const words = reinterpret_cast<uint32_t *>(to);
  const uint32_t *const bits = reinterpret_cast<const uint32_t *>(x);
  for (int64_t i = 0; i < n / 8; ++i) {
    uint32_t all = 0;
    for (int k = 0; k < 8; ++k) all |= bits[8 * i + k];
    words[i] = all;
  }
}

WIDEST static void widen(float *to, const uint8_t *x, int64_t n) {
  for (int64_t i = 0; i < n; ++i) to[i] = x[i];
}

WIDEST static void widen_four(float *to, const uint8_t *x, int64_t n) {
  for (int64_t i = 0; i < n / 2; ++i) {
    to[2 * i] = x[i] >> 4;
    to[2 * i + 1] = x[i] & 15;
  }
}

constexpr int64_t kPart = 1 << 16;

// Both hold a multiple of kPart elements; `four` says that codes have 4 bits.
extern "C" __attribute__((visibility("default"))) void bench_encode_pass(uint8_t *codes, const float *x, int64_t n,
                                                                         int32_t four, int32_t threads) {
#pragma omp parallel for schedule(dynamic) num_threads(threads)
  for (int64_t part = 0; part < n / kPart; ++part) {
    if (four) narrow_four(codes + part * kPart / 2, x + part * kPart, kPart);
    else narrow(codes + part * kPart, x + part * kPart, kPart);
  }
}

extern "C" __attribute__((visibility("default"))) void bench_decode_pass(float *x, const uint8_t *codes, int64_t n,
                                                                         int32_t four, int32_t threads) {
#pragma omp parallel for schedule(dynamic) num_threads(threads)
  for (int64_t part = 0; part < n / kPart; ++part) {
    if (four) widen_four(x + part * kPart, codes + part * kPart / 2, kPart);
    else widen(x + part * kPart, codes + part * kPart, kPart);
  }
}
