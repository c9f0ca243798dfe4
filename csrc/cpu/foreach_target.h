// SPDX-License-Identifier: Apache-2.0
// Includes ACCEL_SOURCE once per SIMD level, with ACCEL_TARGET naming the level's namespace and
// ACCEL_LOWEST defined for the level that few processors are left with, which needs no loops of its own
// for what is usual.
//
// The including file brings in every header beforehand: a standard header first seen inside a
// target region would be compiled for that target and could run on processors without it.

#define ACCEL_TARGET baseline
#define ACCEL_LOWEST 1
#include ACCEL_SOURCE
#undef ACCEL_LOWEST
#undef ACCEL_TARGET

#if defined(__x86_64__)
#define ACCEL_X86 1

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#endif
#define ACCEL_TARGET avx2
#define ACCEL_HAS_F16C 1
#include ACCEL_SOURCE
#undef ACCEL_TARGET
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

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
#undef ACCEL_HAS_F16C
#if defined(__clang__)
#pragma clang attribute pop
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#elif defined(__aarch64__)
#define ACCEL_TARGET neon
#include ACCEL_SOURCE
#undef ACCEL_TARGET
#endif
