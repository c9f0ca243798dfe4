// SPDX-License-Identifier: Apache-2.0
// Codes of 8 bits, eight elements at a time, for levels with AVX2: included inside the namespace of each.
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

template <bool SIGNED>
static inline Values decode_eight(const uint8_t *codes, uint32_t unit) {
  if (!SIGNED) {
    const Words wide = as<Words>(__builtin_ia32_pmovzxbd256(eight_codes(codes)));
    return as<Values>((wide << 20) + unit);
  }
  const Words wide = as<Words>(__builtin_ia32_pmovsxbd256(eight_codes(codes)));
  return as<Values>((wide << 20 & 0x87F00000u) + unit) - with_signs(wide, unit);
}

// The bits of moments with noise, for codes that cut off the lower 20.
template <bool SIGNED>
static inline Words blur_eight(const Words &moments, uint32_t unit, const Words &noise) {
  if (!SIGNED) return greater(moments, Words{} + unit) + (noise >> 12);
  return as<Words>(as<Values>(moments) + with_signs(moments, unit)) + (noise & 0xFFFFFu);
}

// Stores the codes of 32 moments with noise.
template <bool SIGNED>
static inline void store_blurred(uint8_t *codes, const Words (&blurred)[4], uint32_t unit) {
  const auto first = static_cast<short>(unit >> 20);
  const Shorts low = shifted_down(blurred[0], blurred[1]) - first;
  const Shorts high = shifted_down(blurred[2], blurred[3]) - first;
  if (SIGNED) store_codes(codes, signs_down(low), signs_down(high));
  else store_codes(codes, low, high);
}
