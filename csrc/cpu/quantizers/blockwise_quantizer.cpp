// SPDX-License-Identifier: Apache-2.0
// Codes of 8 and 4 bits over blocks on the CPU: see accel/blockwise_quantizer.h for the formats.

#ifdef ACCEL_TARGET

#include "convert-inl.h"

namespace ACCEL_TARGET {

// The magnitudes of floats are ordered as their bits are, infinity and NaN last.
static inline float absmax_of(const float *x, int64_t n) {
  uint32_t most = 0;
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t magnitude = bits_of(x[i]) & 0x7FFFFFFFu;
    most = magnitude > most ? magnitude : most;
  }
  return float_of(most > 0x7F800000u ? 0x7FC00000u : most);
}

static inline int32_t larger(int32_t one, int32_t other) { return one > other ? one : other; }
static inline int32_t smaller(int32_t one, int32_t other) { return one < other ? one : other; }

// The number of bounds below a number whose magnitude is at most 1, or next to it.
static inline uint32_t place_of(float x, const uint32_t *cells) {
  const int32_t bits = static_cast<int32_t>(bits_of(x)), key = bits ^ (bits >> 31 & 0x7FFFFFFF);
  const int32_t number = key >> accel::kCellBits;
  const int32_t cell = larger(number, accel::kCellOfLeast - 1) + smaller(number, -accel::kCellOfLeast);
  const uint32_t found = cells[cell + accel::kBelowZero + 1];
  const uint32_t inside = static_cast<uint32_t>(key) & ((1u << accel::kCellBits) - 1u);
  return (found >> (accel::kCellBits + 1)) + (inside >= (found & accel::kNever) ? 1u : 0u);
}

static void encode(uint8_t *__restrict codes, const float *__restrict x, int64_t n, float absmax,
                   const accel::Codebook &book) {
  const accel::Factors by = accel::factors_of(absmax);
  const uint32_t *__restrict cells = book.cells;
  if (cells && by.is_plain) {
    for (int64_t i = 0; i < n; ++i)
      codes[i] = static_cast<uint8_t>(place_of(x[i] * by.shift * by.inverse, cells));
  } else {
    for (int64_t rare = 0; rare < n; ++rare) {
      const float plain = x[rare] * by.shift * by.inverse;
      const float y = by.is_plain ? plain : accel::unscaled(x[rare], absmax);
      codes[rare] = static_cast<uint8_t>(accel::search(book.values, y));
    }
  }
  if (book.order)
    for (int64_t rare = 0; rare < n; ++rare) codes[rare] = book.order[codes[rare]];
}

static void encode_blocks(uint8_t *codes, float *absmax, const float *x, int64_t n, int64_t blocksize,
                          const accel::Codebook &book) {
  for (int64_t at = 0; at < n; at += blocksize) {
    const int64_t size = accel::lesser(blocksize, n - at);
    const float most = absmax_of(x + at, size);
    encode(codes + at, x + at, size, most, book);
    *absmax++ = most;
  }
}

// Above each bound in turn, which are in rising order.
template <int kBounds>
static inline __attribute__((always_inline)) uint8_t four_bit_code(float y, const accel::FourBit &four) {
  uint32_t code = four.codes[0];
#pragma GCC unroll 16
  for (int bound = 0; bound < kBounds; ++bound)
    code = y > four.bounds[bound] ? uint32_t{four.codes[bound + 1]} : code;
  return static_cast<uint8_t>(code);
}

// For an even number of elements, at most kBlock.
template <int kKind>
static void encode_nibbles(uint8_t *__restrict packed, const float *__restrict y, int64_t n) {
  constexpr accel::FourBit four = accel::four_bits[kKind];
  alignas(64) uint8_t codes[accel::kBlock];
  for (int64_t i = 0; i < n; ++i) codes[i] = four_bit_code<four.count>(y[i], four);
  const int64_t pairs = n / 2;
  for (int64_t pair = 0; pair < pairs; ++pair)
    packed[pair] = static_cast<uint8_t>(codes[2 * pair] << 4 | codes[2 * pair + 1]);
}

static void scale(float *__restrict y, const float *__restrict x, int64_t n, float absmax) {
  const accel::Factors by = accel::factors_of(absmax);
  for (int64_t i = 0; i < n; ++i) y[i] = x[i] * by.shift * by.inverse;
  if (!by.is_plain)
    for (int64_t rare = 0; rare < n; ++rare) y[rare] = accel::unscaled(x[rare], absmax);
}

// Of elements that are scaled; `y` has room for one more.
static void encode_scaled(uint8_t *packed, float *y, int64_t n, int64_t kind) {
  if (n % 2) y[n++] = 0.0f;
  if (kind == ACCEL_NF4)
    encode_nibbles<ACCEL_NF4>(packed, y, n);
  else
    encode_nibbles<ACCEL_FP4>(packed, y, n);
}

static void encode_four(uint8_t *packed, const float *x, int64_t n, float absmax, int64_t kind) {
  alignas(64) float y[accel::kBlock];
  for (int64_t at = 0; at < n; at += accel::kBlock) {
    const int64_t size = accel::lesser(accel::kBlock, n - at);
    scale(y, x + at, size, absmax);
    encode_scaled(packed + at / 2, y, size, kind);
  }
}

static void encode_four_blocks(uint8_t *packed, float *absmax, const float *x, int64_t n,
                               int64_t blocksize, int64_t kind) {
  alignas(64) float y[accel::kBlock];
  const int64_t several = accel::kBlock / blocksize * blocksize;
  for (int64_t at = 0; at < n;) {
    const int64_t size = accel::lesser(several ? several : blocksize, n - at);
    for (int64_t from = at; from < at + size; from += blocksize) {
      const int64_t own = accel::lesser(blocksize, at + size - from);
      *absmax = absmax_of(x + from, own);
      if (several) scale(y + (from - at), x + from, own, *absmax);
      else encode_four(packed + from / 2, x + from, own, *absmax, kind);
      ++absmax;
    }
    if (several) encode_scaled(packed + at / 2, y, size, kind);
    at += size;
  }
}

static void decode(float *__restrict to, const uint8_t *__restrict codes, int64_t n, float absmax,
                   const float *__restrict values) {
  for (int64_t i = 0; i < n; ++i) to[i] = values[codes[i]] * absmax;
}

#if defined(ACCEL_HAS_F16C) && !defined(__clang__)
// GCC would look every code up in memory; a table of sixteen floats fits into two registers.
typedef int32_t Indices __attribute__((vector_size(32)));
typedef uint32_t Bits __attribute__((vector_size(32)));

// Of codes in the lower four bits, whatever the upper ones are.
static inline Floats look_up(Floats low, Floats high, Indices codes) {
#ifdef __AVX512VL__
  return __builtin_ia32_vpermt2varps256_mask(codes, low, high, 0xFF);
#else
  const Floats below = __builtin_ia32_permvarsf256(low, codes);
  const Floats above = __builtin_ia32_permvarsf256(high, codes);
  return __builtin_ia32_blendvps256(below, above, (Floats)(codes << 28));
#endif
}

// Returns how many elements are done: whole eights.
static int64_t decode_eights(float *__restrict to, const uint8_t *__restrict packed, int64_t n,
                             const float *scaled) {
  Floats low, high;
  __builtin_memcpy(&low, scaled, sizeof low);
  __builtin_memcpy(&high, scaled + 8, sizeof high);
  int64_t at = 0;
  for (; at + 8 <= n; at += 8) {
    uint32_t word;
    __builtin_memcpy(&word, packed + at / 2, sizeof word);
    const Bits codes = (Bits{} + word) >> Bits{4, 0, 12, 8, 20, 16, 28, 24};
    const Floats found = look_up(low, high, (Indices)codes);
    __builtin_memcpy(to + at, &found, sizeof found);
  }
  return at;
}
#else
static int64_t decode_eights(float *, const uint8_t *, int64_t, const float *) { return 0; }
#endif

static void decode_four(float *__restrict to, const uint8_t *__restrict packed, int64_t n, float absmax,
                        const float *__restrict values) {
  float scaled[16];
  for (int code = 0; code < 16; ++code) scaled[code] = values[code] * absmax;
  const int64_t pairs = n / 2;
  for (int64_t pair = decode_eights(to, packed, n, scaled) / 2; pair < pairs; ++pair) {
    to[2 * pair] = scaled[packed[pair] >> 4];
    to[2 * pair + 1] = scaled[packed[pair] & 15];
  }
  if (n % 2) to[n - 1] = scaled[packed[pairs] >> 4];
}

const accel::BlockwiseLevel blockwise_level = {absmax_of,   encode,      encode_blocks,
                                               encode_four, encode_four_blocks, decode,
                                               decode_four, &convert};

}  // namespace ACCEL_TARGET

#else

#include "accel/blockwise_quantizer.h"
#include "convert.h"
#include "parallel.h"
#include "quantizers/cells.h"

namespace accel {

constexpr FourBit four_bits[] = {nf4(), fp4()};

// The values of 8-bit codes and how to find them.
struct Codebook {
  const float *values;    // rising
  const uint8_t *order;   // their codes; null if their places are
  const uint32_t *cells;  // null if there is no table for them
};

struct BlockwiseLevel {
  float (*absmax_of)(const float *x, int64_t n);
  void (*encode)(uint8_t *codes, const float *x, int64_t n, float absmax, const Codebook &book);
  void (*encode_blocks)(uint8_t *codes, float *absmax, const float *x, int64_t n, int64_t blocksize,
                        const Codebook &book);
  void (*encode_four)(uint8_t *packed, const float *x, int64_t n, float absmax, int64_t kind);
  void (*encode_four_blocks)(uint8_t *packed, float *absmax, const float *x, int64_t n,
                             int64_t blocksize, int64_t kind);
  void (*decode)(float *to, const uint8_t *codes, int64_t n, float absmax, const float *values);
  void (*decode_four)(float *to, const uint8_t *packed, int64_t n, float absmax, const float *values);
  const Convert *convert;
};

}  // namespace accel

#define ACCEL_SOURCE "quantizers/blockwise_quantizer.cpp"
#define ACCEL_TABLE const accel::BlockwiseLevel blockwise_level
#include "foreach_target.h"

#ifdef ACCEL_PART_COMMON
#include "simd.h"

namespace accel {
namespace {

constexpr Map kDynamic = dynamic_map();
constexpr Cells kDynamicCells = cells_of(kDynamic.values);
static_assert(kDynamicCells.is_whole, "no two bounds of the dynamic map are in one cell");

constexpr int64_t kGroup = 1 << 16;  // elements that a thread takes at once, at least

int32_t check(const void *floats, const void *codes, const void *absmax, int64_t blocksize, int64_t numel,
              int64_t threads, int32_t dtype) {
  if (threads < 1) return ACCEL_BAD_ARGUMENT;
  return check_blocks(floats, codes, absmax, blocksize, numel, dtype);
}

// Calls body(first, n) for groups of whole blocks, which cover all elements once.
template <class Body>
void for_groups(int64_t numel, int64_t blocksize, int64_t threads, const Body &body) {
  const int64_t group = blocksize < kGroup ? (kGroup + blocksize - 1) / blocksize * blocksize : blocksize;
  const int64_t worth = lesser(threads, 1 + numel / kWorthAThread);
  for_items(numel / group + (numel % group != 0), static_cast<int32_t>(lesser(worth, 1 << 20)),
            [&](int64_t item) { body(item * group, lesser(group, numel - item * group)); });
}

// Blocks of at most kBlock elements are encoded several at once, larger ones part by part.
// blocks(first, x, n) encodes whole blocks, part(first, x, n, absmax) a part of one.
template <class Blocks, class Part>
void encode_group(const BlockwiseLevel &level, const void *a, int32_t dtype, float *absmax, int64_t first,
                  int64_t n, int64_t blocksize, const Blocks &blocks, const Part &part) {
  alignas(64) float buffer[kBlock];
  const auto block_at = [&](int64_t at, int64_t size) {
    return Block(*level.convert, dtype, const_cast<void *>(a), at, size, buffer);
  };
  const int64_t end = first + n;
  if (dtype == ACCEL_FLOAT32 || blocksize <= kBlock) {
    const int64_t stride = dtype == ACCEL_FLOAT32 ? n : kBlock / blocksize * blocksize;
    for (int64_t at = first; at < end; at += stride) {
      const int64_t size = lesser(stride, end - at);
      blocks(at, block_at(at, size).values, size);
    }
    return;
  }
  for (int64_t at = first; at < end; at += blocksize) {
    const int64_t stop = lesser(at + blocksize, end);
    float of_parts[2];
    float most = 0.0f;
    for (int64_t from = at; from < stop; from += kBlock) {
      const int64_t size = lesser(kBlock, stop - from);
      of_parts[0] = most;
      of_parts[1] = level.absmax_of(block_at(from, size).values, size);
      most = level.absmax_of(of_parts, 2);
    }
    absmax[at / blocksize] = most;
    for (int64_t from = at; from < stop; from += kBlock) {
      const int64_t size = lesser(kBlock, stop - from);
      part(from, block_at(from, size).values, size, most);
    }
  }
}

// run(to, first, n, absmax) decodes elements of one block.
template <class Run>
void decode_group(const BlockwiseLevel &level, void *out, int32_t dtype, const float *absmax, int64_t first,
                  int64_t n, int64_t blocksize, const Run &run) {
  alignas(64) float buffer[kBlock];
  char *const to = static_cast<char *>(out);
  const bool whole = dtype == ACCEL_FLOAT32;
  const int64_t end = first + n;
  for (int64_t at = first; at < end;) {
    const int64_t stop = whole ? end : lesser(end, at + kBlock);
    float *const values = whole ? reinterpret_cast<float *>(to) + at : buffer;
    for (int64_t from = at; from < stop;) {
      const int64_t block = from / blocksize, next = lesser(stop, (block + 1) * blocksize);
      run(values + (from - at), from, next - from, absmax[block]);
      from = next;
    }
    if (!whole)
      level.convert->store[ACCEL_ROUND_NEAREST][dtype](to + at * element_size(dtype), buffer, stop - at, 0, 0);
    at = stop;
  }
}

}  // namespace
}  // namespace accel

int32_t accel_blockwise_encode(const void *a, const float *code, const uint8_t *order, uint8_t *codes,
                               float *absmax, int64_t blocksize, int64_t numel, int64_t threads,
                               int32_t dtype, void *) {
  using namespace accel;
  const int32_t status = check(a, codes, absmax, blocksize, numel, threads, dtype);
  if (status != ACCEL_OK) return status;
  if (!code != !order) return ACCEL_BAD_ARGUMENT;
  const Cells own = code ? cells_of(code) : Cells{};
  const Codebook book = {code ? code : kDynamic.values, order,
                         !code ? kDynamicCells.at : (own.is_whole ? own.at : nullptr)};
  const BlockwiseLevel &level = ACCEL_FOR_LEVEL(blockwise_level);
  for_groups(numel, blocksize, threads, [&](int64_t first, int64_t n) {
    encode_group(
        level, a, dtype, absmax, first, n, blocksize,
        [&](int64_t at, const float *x, int64_t size) {
          level.encode_blocks(codes + at, absmax + at / blocksize, x, size, blocksize, book);
        },
        [&](int64_t at, const float *x, int64_t size, float most) {
          level.encode(codes + at, x, size, most, book);
        });
  });
  return ACCEL_OK;
}

int32_t accel_blockwise_decode(const uint8_t *codes, const float *absmax, const float *code, void *out,
                               int64_t blocksize, int32_t out_dtype, int64_t numel, int64_t threads,
                               int32_t codes_dtype, void *) {
  using namespace accel;
  const int32_t status = check(out, codes, absmax, blocksize, numel, threads, out_dtype);
  if (status != ACCEL_OK) return status;
  if (codes_dtype != ACCEL_UINT8) return ACCEL_BAD_DTYPE;
  const float *const values = code ? code : kDynamic.values;
  const BlockwiseLevel &level = ACCEL_FOR_LEVEL(blockwise_level);
  for_groups(numel, blocksize, threads, [&](int64_t first, int64_t n) {
    decode_group(level, out, out_dtype, absmax, first, n, blocksize,
                 [&](float *to, int64_t at, int64_t size, float most) {
                   level.decode(to, codes + at, size, most, values);
                 });
  });
  return ACCEL_OK;
}

int32_t accel_four_bit_encode(const void *a, uint8_t *packed, float *absmax, int64_t blocksize,
                              int64_t kind, int64_t numel, int64_t threads, int32_t dtype, void *) {
  using namespace accel;
  const int32_t status = check(a, packed, absmax, blocksize, numel, threads, dtype);
  if (status != ACCEL_OK) return status;
  if (!is_four_bit(blocksize, kind)) return ACCEL_BAD_ARGUMENT;
  const BlockwiseLevel &level = ACCEL_FOR_LEVEL(blockwise_level);
  for_groups(numel, blocksize, threads, [&](int64_t first, int64_t n) {
    encode_group(
        level, a, dtype, absmax, first, n, blocksize,
        [&](int64_t at, const float *x, int64_t size) {
          level.encode_four_blocks(packed + at / 2, absmax + at / blocksize, x, size, blocksize, kind);
        },
        [&](int64_t at, const float *x, int64_t size, float most) {
          level.encode_four(packed + at / 2, x, size, most, kind);
        });
  });
  return ACCEL_OK;
}

int32_t accel_four_bit_decode(const uint8_t *packed, const float *absmax, void *out, int64_t blocksize,
                              int64_t kind, int64_t numel, int32_t out_dtype, int64_t threads,
                              int32_t packed_dtype, void *) {
  using namespace accel;
  const int32_t status = check(out, packed, absmax, blocksize, numel, threads, out_dtype);
  if (status != ACCEL_OK) return status;
  if (packed_dtype != ACCEL_UINT8) return ACCEL_BAD_DTYPE;
  if (!is_four_bit(blocksize, kind)) return ACCEL_BAD_ARGUMENT;
  const BlockwiseLevel &level = ACCEL_FOR_LEVEL(blockwise_level);
  for_groups(numel, blocksize, threads, [&](int64_t first, int64_t n) {
    decode_group(level, out, out_dtype, absmax, first, n, blocksize,
                 [&](float *to, int64_t at, int64_t size, float most) {
                   level.decode_four(to, packed + at / 2, size, most, four_bits[kind].values);
                 });
  });
  return ACCEL_OK;
}

#endif
#endif
