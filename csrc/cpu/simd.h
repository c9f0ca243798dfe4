// SPDX-License-Identifier: Apache-2.0
// The SIMD level that runs: the processor's best, or the forced one. Included once per library; it
// defines the library's exports beside the op.
#pragma once

#include <cstdint>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "accel/cpu.h"
#include "accel/op.h"
#include "parallel.h"

namespace accel {

inline uint32_t simd_available() {
  uint32_t levels = 1u << ACCEL_SIMD_BASELINE;
#if defined(__x86_64__)
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  const bool f16c = __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & bit_F16C);
  // __builtin_cpu_supports also checks that the operating system saves the wide registers.
  if (f16c && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    levels |= 1u << ACCEL_SIMD_AVX2;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
      levels |= 1u << ACCEL_SIMD_AVX512;
  }
#elif defined(__aarch64__)
  levels |= 1u << ACCEL_SIMD_NEON;
#endif
  return levels;
}

inline int32_t forced_level = -1;
inline int32_t best_level = -1;  // until the first use

inline int32_t simd_level() {
  const int32_t forced = load(forced_level);
  if (forced >= 0) return forced;
  if (load(best_level) < 0) store(best_level, 31 - __builtin_clz(simd_available()));
  return load(best_level);
}

// The table of the level in use among one per compiled level, lowest first.
template <class T>
inline const T &for_level(const T &lowest) {
  return lowest;
}
template <class T, class... More>
inline const T &for_level(const T &lowest, const More &...rising) {
  const T *const tables[] = {&lowest, &rising...};
  const int32_t level = simd_level();
  return *tables[level == ACCEL_SIMD_NEON ? 1 : level];
}

}  // namespace accel

// The table `name` that every level's namespace defines, for the level in use.
#if defined(__x86_64__)
#define ACCEL_FOR_LEVEL(name) accel::for_level(baseline::name, avx2::name, avx512::name)
#elif defined(__aarch64__)
#define ACCEL_FOR_LEVEL(name) accel::for_level(baseline::name, neon::name)
#else
#define ACCEL_FOR_LEVEL(name) accel::for_level(baseline::name)
#endif

uint32_t accel_simd_available(void) { return accel::simd_available(); }

int32_t accel_simd_level(void) { return accel::simd_level(); }

int32_t accel_simd_force(int32_t level) {
  if (level < 0 || level > 31 || !(accel::simd_available() >> level & 1u)) return ACCEL_UNSUPPORTED;
  accel::store(accel::forced_level, level);
  return ACCEL_OK;
}
