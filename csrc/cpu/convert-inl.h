// SPDX-License-Identifier: Apache-2.0
// Between float32 and the 16-bit types, for one SIMD level: included inside each target region.
// All levels give the same bits, except the payload of NaN.

namespace ACCEL_TARGET {

using namespace accel;

static void load_bfloat16(float *__restrict to, const void *from, int64_t n) {
  const uint16_t *__restrict h = static_cast<const uint16_t *>(from);
  for (int64_t i = 0; i < n; ++i) to[i] = widen_bfloat16(h[i]);
}

static void store_bfloat16(void *to, const float *__restrict from, int64_t n, uint64_t, int64_t) {
  uint16_t *__restrict h = static_cast<uint16_t *>(to);
  for (int64_t i = 0; i < n; ++i) h[i] = static_cast<uint16_t>(narrow_bfloat16(from[i]));
}

static void store_bfloat16_stochastic(void *to, const float *__restrict from, int64_t n,
                                      uint64_t key, int64_t first) {
  uint16_t *__restrict h = static_cast<uint16_t *>(to);
  const uint32_t carry = accel_random_carry(static_cast<uint64_t>(first));
  const uint32_t low = static_cast<uint32_t>(first);
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t noise = accel_random_mix(key, carry, low + static_cast<uint32_t>(i));
    h[i] = static_cast<uint16_t>(narrow_bfloat16(from[i], noise));
  }
}

#if defined(ACCEL_HAS_F16C)
// One instruction each, by the compilers' own names: <immintrin.h> would double the compile time.
typedef float Floats __attribute__((vector_size(32)));
#ifdef __clang__
typedef __fp16 Halves __attribute__((vector_size(16)));
static inline Floats widen_eight(Halves half) { return __builtin_convertvector(half, Floats); }
static inline Halves narrow_eight(Floats wide) { return __builtin_convertvector(wide, Halves); }
#else
typedef short Halves __attribute__((vector_size(16)));
static inline Floats widen_eight(Halves half) { return __builtin_ia32_vcvtph2ps256(half); }
static inline Halves narrow_eight(Floats wide) { return __builtin_ia32_vcvtps2ph256(wide, 0); }
#endif
#endif

static void load_float16(float *__restrict to, const void *from, int64_t n) {
  const uint16_t *__restrict h = static_cast<const uint16_t *>(from);
  int64_t i = 0;
#if defined(ACCEL_HAS_F16C)
  for (; i + 8 <= n; i += 8) {
    Halves half;
    __builtin_memcpy(&half, h + i, sizeof half);
    const Floats wide = widen_eight(half);
    __builtin_memcpy(to + i, &wide, sizeof wide);
  }
#endif
  for (; i < n; ++i) to[i] = widen_float16(h[i]);
}

static void store_float16(void *to, const float *__restrict from, int64_t n, uint64_t, int64_t) {
  uint16_t *__restrict h = static_cast<uint16_t *>(to);
  int64_t i = 0;
#if defined(ACCEL_HAS_F16C)
  for (; i + 8 <= n; i += 8) {
    Floats wide;
    __builtin_memcpy(&wide, from + i, sizeof wide);
    const Halves half = narrow_eight(wide);
    __builtin_memcpy(h + i, &half, sizeof half);
  }
#endif
  for (; i < n; ++i) h[i] = static_cast<uint16_t>(narrow_float16(from[i]));
}

static void store_float16_stochastic(void *to, const float *__restrict from, int64_t n, uint64_t key,
                                     int64_t first) {
  uint16_t *__restrict h = static_cast<uint16_t *>(to);
  const uint32_t carry = accel_random_carry(static_cast<uint64_t>(first));
  const uint32_t low = static_cast<uint32_t>(first);
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t noise = accel_random_mix(key, carry, low + static_cast<uint32_t>(i));
    h[i] = static_cast<uint16_t>(narrow_float16(from[i], noise));
  }
}

static void store_float32(void *to, const float *__restrict from, int64_t n, uint64_t, int64_t) {
  __builtin_memcpy(to, from, static_cast<size_t>(n) * sizeof(float));
}

static void load_float32(float *__restrict to, const void *from, int64_t n) {
  __builtin_memcpy(to, from, static_cast<size_t>(n) * sizeof(float));
}

static const Convert convert = {
    {load_float32, load_bfloat16, load_float16},
    {{store_float32, store_bfloat16, store_float16},
     {store_float32, store_bfloat16_stochastic, store_float16_stochastic}}};

}  // namespace ACCEL_TARGET
