// SPDX-License-Identifier: Apache-2.0
// Includes ACCEL_SOURCE once per SIMD level, with ACCEL_TARGET naming the level's namespace and
// ACCEL_LOWEST defined for the level that few processors still use, which needs no special loops for
// the usual cases. Each level defines ACCEL_TABLE, which is declared here for all of them.
//
// A translation unit holds every part of a library, or the one whose ACCEL_PART_* the build defines:
// parts are compiled side by side.
//
// The including file brings in every header beforehand: a standard header first seen inside a
// target region would be compiled for that target and could run on processors without it.

#if !defined(ACCEL_PART_BASELINE) && !defined(ACCEL_PART_AVX2) && !defined(ACCEL_PART_AVX512) && \
    !defined(ACCEL_PART_NEON) && !defined(ACCEL_PART_COMMON)
#define ACCEL_PART_BASELINE
#define ACCEL_PART_AVX2
#define ACCEL_PART_AVX512
#define ACCEL_PART_NEON
#define ACCEL_PART_COMMON
#endif

namespace baseline {
extern ACCEL_TABLE;
}
#ifdef ACCEL_PART_BASELINE
#define ACCEL_TARGET baseline
#define ACCEL_LOWEST 1
#include ACCEL_SOURCE
#undef ACCEL_LOWEST
#undef ACCEL_TARGET
#endif

#if defined(__x86_64__)
namespace avx2 {
extern ACCEL_TABLE;
}
namespace avx512 {
extern ACCEL_TABLE;
}

#define ACCEL_HAS_F16C 1
#ifdef ACCEL_PART_AVX2
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#endif
#define ACCEL_TARGET avx2
#include ACCEL_SOURCE
#undef ACCEL_TARGET
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif

#ifdef ACCEL_PART_AVX512
#if defined(__clang__)
// Before clang 16 one push takes one attribute.
#pragma clang attribute push(                                                      \
    __attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl"))), \
    apply_to = function)
#pragma clang attribute push(__attribute__((min_vector_width(512))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=512")
#endif
#define ACCEL_TARGET avx512
#include ACCEL_SOURCE
#undef ACCEL_TARGET
#if defined(__clang__)
#pragma clang attribute pop
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
#undef ACCEL_HAS_F16C

#elif defined(__aarch64__)
namespace neon {
extern ACCEL_TABLE;
}
#ifdef ACCEL_PART_NEON
#define ACCEL_TARGET neon
#include ACCEL_SOURCE
#undef ACCEL_TARGET
#endif
#endif
