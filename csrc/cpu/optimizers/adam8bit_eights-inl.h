// SPDX-License-Identifier: Apache-2.0
// The loops of adam8bit.cpp over eight elements at a time, for levels with AVX2: included inside the
// namespace of each. They give the same bits, and prefetch.
//
// GCC compiles plain loops between 8 and 32 bits through 16 bits, and reorders every half. The names are
// the compiler's own: <immintrin.h> would double the compile time. The formulas are repeated here,
// because GCC splits vectors that are wider than the target of the function that uses them.

typedef uint32_t Words __attribute__((vector_size(32)));
typedef float Values __attribute__((vector_size(32)));
typedef int Ints __attribute__((vector_size(32)));
typedef short Shorts __attribute__((vector_size(32)));
typedef char Bytes __attribute__((vector_size(16)));
typedef char WideBytes __attribute__((vector_size(32)));
typedef int64_t Pair __attribute__((vector_size(16)));

template <class Vector, class T>
static inline Vector read(const T *from) {
  Vector vector;
  __builtin_memcpy(&vector, from, sizeof vector);
  return vector;
}

template <class Vector, class T>
static inline void write(T *to, const Vector &vector) {
  __builtin_memcpy(to, &vector, sizeof vector);
}

static inline Bytes eight_codes(const uint8_t *codes) { return as<Bytes>(Pair{read<int64_t>(codes), 0}); }

static inline Words greater(const Words &a, const Words &b) {
  return as<Words>(__builtin_ia32_pmaxud256(as<Ints>(a), as<Ints>(b)));
}

static inline uint32_t greatest(const Words &words) {
  const Words of_two = greater(words, __builtin_shuffle(words, Words{4, 5, 6, 7, 0, 1, 2, 3}));
  const Words of_four = greater(of_two, __builtin_shuffle(of_two, Words{2, 3, 0, 1, 6, 7, 4, 5}));
  return greater(of_four, __builtin_shuffle(of_four, Words{1, 0, 3, 2, 5, 4, 7, 6}))[0];
}

// The unit with the signs of `bits`.
static inline Values with_signs(const Words &bits, uint32_t unit) {
  const Values above = as<Values>(Words{} + unit), below = as<Values>(Words{} + (unit | 0x80000000u));
  return __builtin_ia32_blendvps256(above, below, as<Values>(bits));
}

// `decode` and `update` in one, for scales above 0. Meanwhile the parameters and gradients of the
// block after the next are prefetched, a line at a time: all at once they would wait for each other.
static inline __attribute__((always_inline)) Largest update_eights(
    Moments &to, const float *__restrict p, const float *__restrict grad, const Codes &m,
    const Codes &v, const AdamScalars &given, bool RARE) {
  const AdamScalars s = given;
  const uint32_t m_unit = unit_signed(*m.scale), v_unit = unit_unsigned(*v.scale);
  Words largest_m = {}, largest_v = {};
  for (int64_t line = 0; line < kCodes; line += 16) {
    __builtin_prefetch(grad + 2 * kCodes + line);
    __builtin_prefetch(p + 2 * kCodes + line);
#pragma GCC unroll 2
    for (int64_t i = line; i < line + 16; i += 8) {
      const Words m_code = as<Words>(__builtin_ia32_pmovsxbd256(eight_codes(m.codes + i)));
      const Words v_code = as<Words>(__builtin_ia32_pmovzxbd256(eight_codes(v.codes + i)));
      const Words m_bits = (m_code << 20 & 0x87F00000u) + m_unit;
      const Values old_m = as<Values>(m_bits) - with_signs(m_code, m_unit);
      const Values old_v = as<Values>((v_code << 20) + v_unit);
      Values g = read<Values>(grad + i);
      if (RARE) g = g * s.grad_factor;
      if (RARE) g = s.has_l2 ? g + s.l2 * read<Values>(p + i) : g;
      const Values base = RARE && s.from_grad ? g : old_m;
      const Values new_m = base + s.m_weight * (g - old_m);
      const Values new_v = s.beta2 * old_v + s.v_weight * g * g;
      write(to.m + i, new_m);
      write(to.v + i, new_v);
      write(to.root + i, __builtin_ia32_sqrtps256(new_v));
      largest_m = greater(largest_m, as<Words>(new_m) & 0x7FFFFFFFu);
      largest_v = greater(largest_v, as<Words>(new_v));
    }
  }
  return {greatest(largest_m), greatest(largest_v)};
}

// The upper 12 bits of sixteen words, in the order in which one instruction packs them.
static inline Shorts shifted_down(const Words &low, const Words &high) {
  return as<Shorts>(__builtin_ia32_packusdw256(as<Ints>(low >> 20), as<Ints>(high >> 20)));
}

// Of words 0000s000 0ccccccc bytes sccccccc, still in words: 16 times the upper half plus the lower.
static inline Shorts signs_down(const Shorts &codes) {
  return __builtin_ia32_pmaddubsw256(as<WideBytes>(codes), as<WideBytes>(Shorts{} + 0x1001));
}

static inline void store_codes(uint8_t *codes, Shorts low, Shorts high) {
  const Ints packed = as<Ints>(__builtin_ia32_packuswb256(low, high));
  write(codes, __builtin_ia32_permvarsi256(packed, Ints{0, 4, 1, 5, 2, 6, 3, 7}));
}

// `encode` and `narrow` in one.
static void encode_eights(uint8_t *__restrict m_codes, uint8_t *__restrict v_codes, float *__restrict p,
                          const Moments &from, uint32_t m_unit, uint32_t v_unit, uint32_t first_noise,
                          const AdamScalars &given) {
  const AdamScalars s = given;
  const auto m_first = static_cast<short>(m_unit >> 20), v_first = static_cast<short>(v_unit >> 20);
  const Words least_v = Words{} + v_unit;
  Words noise = Words{0, 1, 2, 3, 4, 5, 6, 7} * uint32_t{kLattice} + first_noise;
  Words m[4], v[4];
  for (int64_t i = 0; i < kCodes; i += 32) {
#pragma GCC unroll 4
    for (int64_t k = 0; k < 4; ++k) {
      const int64_t at = i + 8 * k;
      const Words new_m = read<Words>(from.m + at);
      const Values change = s.step_size * as<Values>(new_m) / (read<Values>(from.root + at) + s.eps);
      write(p + at, read<Values>(p + at) * s.keep - change);
      const Values moved = as<Values>(new_m) + with_signs(new_m, m_unit);
      m[k] = as<Words>(moved) + (noise & 0xFFFFFu);
      v[k] = greater(read<Words>(from.v + at), least_v) + (noise >> 12);
      noise += 8u * kLattice;
    }
    const Shorts m0 = shifted_down(m[0], m[1]), m1 = shifted_down(m[2], m[3]);
    const Shorts v0 = shifted_down(v[0], v[1]), v1 = shifted_down(v[2], v[3]);
    store_codes(m_codes + i, signs_down(m0 - m_first), signs_down(m1 - m_first));
    store_codes(v_codes + i, v0 - v_first, v1 - v_first);
  }
}
