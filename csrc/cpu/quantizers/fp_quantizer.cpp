// SPDX-License-Identifier: Apache-2.0
// Floating-point codes over groups on the CPU: see accel/fp_quantizer.h for the format.

#ifdef ACCEL_TARGET

#include "convert-inl.h"

namespace ACCEL_TARGET {

static uint32_t largest_of(const float *x, int64_t n, uint32_t given) {
  int32_t most = static_cast<int32_t>(given);
  for (int64_t i = 0; i < n; ++i) {
    const int32_t magnitude = static_cast<int32_t>(bits_of(x[i]) & 0x7FFFFFFFu);
    most = magnitude > most ? magnitude : most;
  }
  return static_cast<uint32_t>(most);
}

// The magnitude that is to be rounded; 0 in a group that has no numbers.
static inline float placed(float x, float lift, float factor, float most) {
  const float y = float_of(bits_of(x) & 0x7FFFFFFFu) * lift * factor;
  return y < most ? y : (y == y ? most : 0.0f);
}

static void encode(uint16_t *__restrict codes, const float *__restrict x, int64_t n, const accel::FloatFormat &format,
                   const accel::FloatGrid &grid) {
  const float lift = grid.lift, factor = grid.factor, most = format.most, least = format.least;
  const float rounder = format.rounder;
  const uint32_t shift = format.shift, below = format.below;
  const uint32_t half = (1u << (shift - 1u)) - 1u, sign = grid.scale == grid.scale ? 1u << (format.bits - 1) : 0u;
  for (int64_t i = 0; i < n; ++i) {
    const float y = placed(x[i], lift, factor, most);
    const uint32_t u = bits_of(y), small = bits_of(y + rounder) - bits_of(rounder);
    const uint32_t normal = ((u + half + (u >> shift & 1u)) >> shift) - below;
    const uint32_t negative = bits_of(x[i]) >> 31 ? sign : 0u;
    codes[i] = static_cast<uint16_t>((y < least ? small : normal) | negative);
  }
}

// `first` is the number of the first element; no block crosses a multiple of 2^32.
static void encode_stochastic(uint16_t *__restrict codes, const float *__restrict x, int64_t n,
                              const accel::FloatFormat &format, const accel::FloatGrid &grid, uint64_t key,
                              int64_t first) {
  const float lift = grid.lift, factor = grid.factor, most = format.most, least = format.least;
  const uint32_t shift = format.shift, below = format.below, one = 1u << format.mantissa;
  const uint32_t cut = (1u << shift) - 1u, sign = grid.scale == grid.scale ? 1u << (format.bits - 1) : 0u;
  const uint32_t carry = accel_random_carry(static_cast<uint64_t>(first)), low = static_cast<uint32_t>(first);
  for (int64_t i = 0; i < n; ++i) {
    const float y = placed(x[i], lift, factor, most);
    const float raised = y < least ? y + least : y;
    const uint32_t noise = accel_random_mix(key, carry, low + static_cast<uint32_t>(i)) & cut;
    const uint32_t code = ((bits_of(raised) + noise) >> shift) - (y < least ? below + one : below);
    const uint32_t negative = bits_of(x[i]) >> 31 ? sign : 0u;
    codes[i] = static_cast<uint16_t>(code | negative);
  }
}

static void decode(float *__restrict to, const uint16_t *__restrict codes, int64_t n, const accel::FloatFormat &format,
                   float scale) {
  const uint32_t shift = format.shift, below = format.below;
  const uint32_t magnitudes = (1u << (format.bits - 1)) - 1u, normal = 1u << format.mantissa;
  const uint32_t to_sign = 32u - static_cast<uint32_t>(format.bits);
  const float quantum = format.quantum;
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t code = codes[i], magnitude = code & magnitudes;
    const float small = static_cast<float>(static_cast<int32_t>(magnitude)) * quantum;
    const float x = magnitude < normal ? small : float_of((magnitude + below) << shift);
    to[i] = float_of(bits_of(x) | (code << to_sign & 0x80000000u)) * scale;
  }
}

const accel::FpQuantizerLevel fp_quantizer_level = {largest_of, encode, encode_stochastic, decode, &convert};

}  // namespace ACCEL_TARGET

#else

#include "../../common/quantizers/floats.h"
#include "convert.h"
#include "parallel.h"

namespace accel {

struct FpQuantizerLevel {
  uint32_t (*largest_of)(const float *x, int64_t n, uint32_t given);
  void (*encode)(uint16_t *codes, const float *x, int64_t n, const FloatFormat &format, const FloatGrid &grid);
  void (*encode_stochastic)(uint16_t *codes, const float *x, int64_t n, const FloatFormat &format,
                            const FloatGrid &grid, uint64_t key, int64_t first);
  void (*decode)(float *to, const uint16_t *codes, int64_t n, const FloatFormat &format, float scale);
  const Convert *convert;
};

}  // namespace accel

#define ACCEL_SOURCE "quantizers/fp_quantizer.cpp"
#define ACCEL_TABLE const accel::FpQuantizerLevel fp_quantizer_level
#include "foreach_target.h"

#ifdef ACCEL_PART_COMMON
#include "simd.h"

namespace accel {
namespace {

// Calls body(row) for every row, several to a thread at a time.
template <class Body>
void for_rows(int64_t rows, int64_t elements, int64_t threads, const Body &body) {
  const int64_t several = elements < 1 << 16 ? (1 << 16) / (elements + 1) + 1 : 1;
  const int64_t worth = lesser(threads, 1 + rows * elements / kWorthAThread);
  for_items((rows + several - 1) / several, static_cast<int32_t>(lesser(worth, 1 << 20)), [&](int64_t item) {
    for (int64_t row = item * several; row < lesser(rows, (item + 1) * several); ++row) body(row);
  });
}

// Codes of 4 and 12 bits come in pairs, of 6 bits in fours; a block has whole ones.
void pack(uint8_t *to, const uint16_t *codes, int64_t n, int32_t bits) {
  if (bits == 8) {
    for (int64_t i = 0; i < n; ++i) to[i] = static_cast<uint8_t>(codes[i]);
  } else if (bits == 4) {
    for (int64_t i = 0; i < n / 2; ++i) to[i] = static_cast<uint8_t>(codes[2 * i] | codes[2 * i + 1] << 4);
  } else {
    const int64_t several = 24 / bits;
    for (int64_t i = 0; i < n / several; ++i) {
      uint32_t all = 0;
      for (int64_t k = 0; k < several; ++k) all |= static_cast<uint32_t>(codes[i * several + k]) << (k * bits);
      for (int64_t k = 0; k < 3; ++k) to[3 * i + k] = static_cast<uint8_t>(all >> (8 * k));
    }
  }
}

void unpack(uint16_t *codes, const uint8_t *from, int64_t n, int32_t bits) {
  if (bits == 8) {
    for (int64_t i = 0; i < n; ++i) codes[i] = from[i];
  } else if (bits == 4) {
    for (int64_t i = 0; i < n / 2; ++i) {
      codes[2 * i] = from[i] & 15u;
      codes[2 * i + 1] = from[i] >> 4;
    }
  } else {
    const int64_t several = 24 / bits;
    const uint32_t mask = (1u << bits) - 1u;
    for (int64_t i = 0; i < n / several; ++i) {
      const uint8_t *const at = from + 3 * i;
      const uint32_t all = at[0] | static_cast<uint32_t>(at[1]) << 8 | static_cast<uint32_t>(at[2]) << 16;
      for (int64_t k = 0; k < several; ++k) codes[i * several + k] = static_cast<uint16_t>(all >> (k * bits) & mask);
    }
  }
}

// Where an index of a selection begins: in rows, and how many it has.
struct Selection {
  const int32_t *indexes;
  int64_t rows;
};

int32_t decode_rows(void *val, const uint8_t *coded, const FloatFormat &format, const FloatRows &rows,
                    const Selection &selected, int64_t numel, int64_t threads, int32_t dtype) {
  if (threads < 1) return ACCEL_BAD_ARGUMENT;
  const FpQuantizerLevel &level = ACCEL_FOR_LEVEL(fp_quantizer_level);
  const bool whole = dtype == ACCEL_FLOAT32;
  const int64_t n = rows.elements;
  for_rows(numel / n, n, threads, [&](int64_t row) {
    alignas(64) float buffer[kBlock];
    alignas(64) uint16_t codes[kBlock];
    int64_t source = row;
    if (selected.indexes) source = selected.indexes[row / selected.rows] * selected.rows + row % selected.rows;
    const uint8_t *const from = coded + source * rows.bytes;
    float scale;
    memcpy(&scale, from + rows.codes, 4);
    for (int64_t at = 0; at < n; at += kBlock) {
      const int64_t size = lesser(kBlock, n - at);
      char *const place = static_cast<char *>(val) + (row * n + at) * element_size(dtype);
      float *const values = whole ? reinterpret_cast<float *>(place) : buffer;
      unpack(codes, from + at * format.bits / 8, size, format.bits);
      level.decode(values, codes, size, format, scale);
      if (!whole) level.convert->store[ACCEL_ROUND_NEAREST][dtype](place, values, size, 0, 0);
    }
  });
  return ACCEL_OK;
}

}  // namespace
}  // namespace accel

int32_t accel_fp_quantize(const void *val, uint8_t *out, int64_t group_size, int64_t bits, int64_t mantissa,
                          int32_t stochastic, int64_t seed, int64_t numel, int64_t out_bytes, int64_t threads,
                          int32_t dtype, void *) {
  using namespace accel;
  FloatFormat format{};
  FloatRows rows{};
  const int32_t status = check_rows(val, out, group_size, bits, mantissa, numel, out_bytes, dtype, format, rows);
  if (status != ACCEL_OK) return status;
  if (threads < 1 || rows.count != numel / group_size) return ACCEL_BAD_ARGUMENT;
  const FpQuantizerLevel &level = ACCEL_FOR_LEVEL(fp_quantizer_level);
  const int64_t n = rows.elements;
  const uint64_t key = accel_random_key(static_cast<uint64_t>(seed), 0, 0);
  for_rows(rows.count, n, threads, [&](int64_t row) {
    alignas(64) float buffer[kBlock];
    alignas(64) uint16_t codes[kBlock];
    const auto part = [&](int64_t at, int64_t size) {
      return Block(*level.convert, dtype, const_cast<void *>(val), row * n + at, size, buffer).values;
    };
    uint32_t largest = 0;
    for (int64_t at = 0; at < n; at += kBlock) {
      const int64_t size = lesser(kBlock, n - at);
      largest = level.largest_of(part(at, size), size, largest);
    }
    float magnitude;
    memcpy(&magnitude, &largest, 4);
    const FloatGrid grid = float_grid(largest, magnitude, format.most, __builtin_nanf(""));
    uint8_t *const to = out + row * rows.bytes;
    for (int64_t at = 0; at < n; at += kBlock) {
      const int64_t size = lesser(kBlock, n - at);
      const float *const x = part(at, size);
      if (stochastic) {
        const int64_t first = row * n + at, head = lesser(size, (int64_t{1} << 32) - (first & 0xFFFFFFFF));
        level.encode_stochastic(codes, x, head, format, grid, key, first);
        level.encode_stochastic(codes + head, x + head, size - head, format, grid, key, first + head);
      } else {
        level.encode(codes, x, size, format, grid);
      }
      pack(to + at * format.bits / 8, codes, size, format.bits);
    }
    memcpy(to + rows.codes, &grid.scale, 4);
  });
  return ACCEL_OK;
}

int32_t accel_fp_dequantize(void *val, const uint8_t *coded, int64_t group_size, int64_t bits, int64_t mantissa,
                            int64_t numel, int64_t coded_bytes, int64_t threads, int32_t dtype, void *) {
  using namespace accel;
  FloatFormat format{};
  FloatRows rows{};
  const int32_t status = check_rows(val, coded, group_size, bits, mantissa, numel, coded_bytes, dtype, format, rows);
  if (status != ACCEL_OK) return status;
  if (rows.count != numel / group_size) return ACCEL_BAD_ARGUMENT;
  return decode_rows(val, coded, format, rows, {nullptr, 0}, numel, threads, dtype);
}

int32_t accel_fp_selective_dequantize(void *val, const uint8_t *coded, const int32_t *indexes, int64_t group_size,
                                      int64_t bits, int64_t mantissa, int64_t numel, int64_t coded_bytes,
                                      int64_t index_count, int64_t threads, int32_t dtype, void *) {
  using namespace accel;
  FloatFormat format{};
  FloatRows rows{};
  const int32_t status = check_rows(val, coded, group_size, bits, mantissa, numel, coded_bytes, dtype, format, rows);
  if (status != ACCEL_OK) return status;
  const int64_t wanted = numel / group_size;
  if (!indexes || index_count < 1 || wanted % index_count) return ACCEL_BAD_ARGUMENT;
  const int64_t each = wanted / index_count;
  for (int64_t i = 0; each && i < index_count; ++i)
    if (indexes[i] < 0 || indexes[i] >= rows.count / each) return ACCEL_UNSUPPORTED;  // the reference names it
  return decode_rows(val, coded, format, rows, {indexes, each}, numel, threads, dtype);
}

#endif
#endif
