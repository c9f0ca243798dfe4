// SPDX-License-Identifier: Apache-2.0
// Between float32 and the 16-bit types, for one SIMD level: included inside each target region.
// All levels give the same bits, except the payload of NaN.

namespace ACCEL_TARGET {

static inline uint32_t bits_of(float x) {
  uint32_t u;
  __builtin_memcpy(&u, &x, 4);
  return u;
}

static inline float float_of(uint32_t u) {
  float x;
  __builtin_memcpy(&x, &u, 4);
  return x;
}

// The first value if `mask` is all ones, the second if it is 0: a choice that is the same for all
// elements needs no loop of its own.
static inline float choose(uint32_t mask, float first, float second) {
  return float_of((bits_of(first) & mask) | (bits_of(second) & ~mask));
}

static inline float widen_bfloat16(uint16_t half) {
  return float_of(static_cast<uint32_t>(half) << 16);
}

static void load_bfloat16(float *__restrict to, const void *from, int64_t n) {
  const uint16_t *__restrict h = static_cast<const uint16_t *>(from);
  for (int64_t i = 0; i < n; ++i) to[i] = widen_bfloat16(h[i]);
}

static inline uint16_t narrow_bfloat16(float x) {
  const uint32_t u = bits_of(x);
  const uint32_t rounded = u + 0x7FFFu + (u >> 16 & 1u);
  return static_cast<uint16_t>((x != x ? 0x7FC00000u : rounded) >> 16);
}

static void store_bfloat16(void *to, const float *__restrict from, int64_t n, uint64_t, int64_t) {
  uint16_t *__restrict h = static_cast<uint16_t *>(to);
  for (int64_t i = 0; i < n; ++i) h[i] = narrow_bfloat16(from[i]);
}

static void store_bfloat16_stochastic(void *to, const float *__restrict from, int64_t n,
                                      uint64_t key, int64_t first) {
  uint16_t *__restrict h = static_cast<uint16_t *>(to);
  const uint32_t carry = accel_random_carry(static_cast<uint64_t>(first));
  const uint32_t low = static_cast<uint32_t>(first);
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t u = bits_of(from[i]);
    const uint32_t magnitude = u & 0x7FFFFFFFu;
    const uint32_t noise =
        accel_random_mix(key, carry, low + static_cast<uint32_t>(i)) & 0xFFFFu;
    const uint32_t rounded = (magnitude < 0x7F800000u ? u + noise : u) >> 16;
    h[i] = static_cast<uint16_t>(magnitude > 0x7F800000u ? 0x7FC0u : rounded);
  }
}

// Subnormals go through an exact float subtraction (Giesen, "half to float done quick").
static inline float widen_float16(uint16_t half) {
  const uint32_t magnitude = half & 0x7FFFu;
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000u) << 16;
  const uint32_t shifted = magnitude << 13;
  const uint32_t normal = shifted + (112u << 23);
  const uint32_t special = (shifted + (224u << 23)) | (magnitude > 0x7C00u ? 0x400000u : 0u);
  const uint32_t subnormal = bits_of(float_of(shifted + (113u << 23)) - float_of(113u << 23));
  const uint32_t body =
      magnitude >= 0x7C00u ? special : (magnitude < 0x0400u ? subnormal : normal);
  return float_of(body | sign);
}

// Adding 0.5 aligns a result below 2^-14 to the float16 grid with the processor's own rounding.
static inline uint16_t narrow_float16(float x) {
  const uint32_t u = bits_of(x);
  const uint32_t sign = u >> 16 & 0x8000u;
  const uint32_t magnitude = u & 0x7FFFFFFFu;
  const uint32_t tiny = bits_of(float_of(magnitude) + 0.5f) - 0x3F000000u;
  const uint32_t normal = (magnitude - (112u << 23) + 0xFFFu + (magnitude >> 13 & 1u)) >> 13;
  const uint32_t nan = 0x7E00u | (magnitude >> 13 & 0x3FFu);
  const uint32_t finite = magnitude < (113u << 23) ? tiny : normal;
  const uint32_t body = magnitude > 0x7F800000u ? nan : (magnitude >= (143u << 23) ? 0x7C00u : finite);
  return static_cast<uint16_t>(body | sign);
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
  for (; i < n; ++i) h[i] = narrow_float16(from[i]);
}

// Below 2^-14 the grid is 2^-24: the value times 2^24 is cut off after 16 bits of noise are added
// below the point, in integers; above it the noise goes below the last bit of the mantissa.
static void store_float16_stochastic(void *to, const float *__restrict from, int64_t n, uint64_t key,
                                     int64_t first) {
  uint16_t *__restrict h = static_cast<uint16_t *>(to);
  const uint32_t carry = accel_random_carry(static_cast<uint64_t>(first));
  const uint32_t low = static_cast<uint32_t>(first);
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t u = bits_of(from[i]);
    const uint32_t sign = u >> 16 & 0x8000u;
    const uint32_t magnitude = u & 0x7FFFFFFFu;
    const uint32_t noise = accel_random_mix(key, carry, low + static_cast<uint32_t>(i));
    const uint32_t small = magnitude < (113u << 23) ? magnitude : 0u;
    const int32_t fixed = static_cast<int32_t>(float_of(small) * 0x1p40f);
    const uint32_t tiny = (static_cast<uint32_t>(fixed) + (noise & 0xFFFFu)) >> 16;
    const uint32_t normal = (magnitude - (112u << 23) + (noise & 0x1FFFu)) >> 13;
    const uint32_t finite = magnitude < (113u << 23) ? tiny : normal;
    const uint32_t nan = 0x7E00u | (magnitude >> 13 & 0x3FFu);
    const uint32_t body = magnitude > 0x7F800000u ? nan : (magnitude >= (143u << 23) ? 0x7C00u : finite);
    h[i] = static_cast<uint16_t>(body | sign);
  }
}

static void store_float32(void *to, const float *__restrict from, int64_t n, uint64_t, int64_t) {
  __builtin_memcpy(to, from, static_cast<size_t>(n) * sizeof(float));
}

static void load_float32(float *__restrict to, const void *from, int64_t n) {
  __builtin_memcpy(to, from, static_cast<size_t>(n) * sizeof(float));
}

static const accel::Convert convert = {
    {load_float32, load_bfloat16, load_float16},
    {{store_float32, store_bfloat16, store_float16},
     {store_float32, store_bfloat16_stochastic, store_float16_stochastic}}};

}  // namespace ACCEL_TARGET
