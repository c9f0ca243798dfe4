// SPDX-License-Identifier: Apache-2.0
// Norms, scaling and sums over lists of tensors on the CPU: see accel/multi_tensor.h for the
// arithmetic.

#ifdef ACCEL_TARGET

#include "convert-inl.h"
#include "stream-inl.h"

namespace ACCEL_TARGET {

// Squares of float32 are exact in double, so that it makes no difference whether a sum is fused.
static void add_squares(const float *x, int64_t n, double *given) {
  double sums[accel::kSums];
  __builtin_memcpy(sums, given, sizeof sums);
  int64_t i = 0;
  for (; i + accel::kSums <= n; i += accel::kSums) {
#ifndef ACCEL_LOWEST
    ask_for(i + kAhead, x);
#endif
    for (int64_t k = 0; k < accel::kSums; ++k) {
      const double value = static_cast<double>(x[i + k]);
      sums[k] += value * value;
    }
  }
  for (int64_t k = 0; i + k < n; ++k) {
    const double value = static_cast<double>(x[i + k]);
    sums[k] += value * value;
  }
  __builtin_memcpy(given, sums, sizeof sums);
}

static inline uint32_t larger(uint32_t one, uint32_t other) { return one > other ? one : other; }

// The magnitudes of floats are ordered as their bits are, infinity and NaN last.
static uint32_t largest(const float *x, int64_t n) {
  uint32_t most = 0;
  for (int64_t i = 0; i < n; ++i) most = larger(most, bits_of(x[i]) & 0x7FFFFFFFu);
  return most;
}

// What is written is what is read, or elsewhere.
static void scale(float *to, const float *x, int64_t n, float by) {
  for_elements(n, [=](int64_t i) { to[i] = x[i] * by; }, x);
}

static void axpby(float *to, const float *x, const float *y, int64_t n, float a, float b) {
  for_elements(n, [=](int64_t i) { to[i] = a * x[i] + b * y[i]; }, x, y);
}

const accel::ListsLevel lists_level = {add_squares, largest, scale, axpby, &convert};

}  // namespace ACCEL_TARGET

#else

#include "accel/multi_tensor.h"
#include "convert.h"

namespace accel {

// Sums that stand side by side at every level, so that all levels add in the same order.
constexpr int64_t kSums = 32;

struct ListsLevel {
  void (*add_squares)(const float *x, int64_t n, double *sums);
  uint32_t (*largest)(const float *x, int64_t n);
  void (*scale)(float *to, const float *x, int64_t n, float by);
  void (*axpby)(float *to, const float *x, const float *y, int64_t n, float a, float b);
  const Convert *convert;
};

}  // namespace accel

#define ACCEL_SOURCE "lists/multi_tensor.cpp"
#define ACCEL_TABLE const accel::ListsLevel lists_level
#include "foreach_target.h"

#ifdef ACCEL_PART_COMMON
#include "../../common/lists.h"
#include "array.h"
#include "parallel.h"
#include "lists/reader.h"
#include "simd.h"

namespace accel {
namespace {

constexpr int64_t kChunk = ACCEL_LISTS_CHUNK;
constexpr int64_t kGroup = 1 << 16;  // elements that a thread takes at once, at least
constexpr uint32_t kInfinity = 0x7F800000u;

// Elements of one tensor that one thread works on from end to end.
struct Chunk {
  int64_t tensor, begin, n;
  double squares;
};

struct List {
  void *const *at;
  const int32_t *dtypes;

  char *place(int64_t tensor, int64_t element) const {
    return static_cast<char *>(at[tensor]) + element * element_size(dtypes[tensor]);
  }
};

List list_of(const void *const *at, const int32_t *dtypes) {
  return {const_cast<void *const *>(reinterpret_cast<const void *const *>(at)), dtypes};
}

int32_t check(const int64_t *numels, int64_t count, int64_t threads) {
  if (count < 0 || threads < 1 || (count && !numels)) return ACCEL_BAD_ARGUMENT;
  for (int64_t i = 0; i < count; ++i)
    if (numels[i] < 0) return ACCEL_BAD_ARGUMENT;
  return ACCEL_OK;
}

int32_t check(const List &list, const int64_t *numels, int64_t count) {
  return check_list(list.at, list.dtypes, numels, count);
}

// All chunks of a call's tensors, in order, and who works on them.
class Chunks {
 public:
  explicit Chunks(int64_t threads) : threads_(threads) {}

  // False if there is no memory.
  [[nodiscard]] bool prepare(const int64_t *numels, int64_t count) {
    int64_t chunks = 0;
    for (int64_t i = 0; i < count; ++i) {
      chunks += (numels[i] + kChunk - 1) / kChunk;
      elements_ += numels[i];
    }
    if (!all_.reserve(chunks + 1) || !groups_.reserve(elements_ / kGroup + 2)) return false;
    int64_t room = 0;
    for (int64_t i = 0; i < count; ++i)
      for (int64_t begin = 0; begin < numels[i]; begin += kChunk) {
        const int64_t n = lesser(kChunk, numels[i] - begin);
        if (room <= 0) {
          groups_.add(all_.size());
          room = kGroup;
        }
        room -= n;
        all_.add({i, begin, n, 0.0});
      }
    groups_.add(all_.size());
    return true;
  }

  int64_t size() const { return all_.size(); }
  const Chunk &operator[](int64_t i) const { return all_[i]; }

  // Calls body(chunk) for every chunk once; from the last one back if `backwards`, since what was
  // read last is still in the caches.
  template <class Body>
  void each(const Body &body, bool backwards = false) {
    const int64_t groups = groups_.size() - 1;
    const int64_t threads = lesser(threads_, 1 + elements_ / kWorthAThread);
    for_items(groups, static_cast<int32_t>(lesser(threads, 1 << 20)), [&](int64_t item) {
      const int64_t group = backwards ? groups - 1 - item : item;
      for (int64_t i = groups_[group]; i < groups_[group + 1]; ++i) body(all_[i]);
    });
  }

 private:
  Array<Chunk> all_;
  Array<int64_t> groups_;  // where each begins; the last one is the end
  int64_t threads_, elements_ = 0;
};

// Calls body(first, n) for blocks of a chunk: all of it if nothing has to be converted.
template <class Body>
void for_blocks(const Chunk &chunk, bool whole, const Body &body) {
  const int64_t stride = whole ? chunk.n : kBlock, end = chunk.begin + chunk.n;
  for (int64_t at = chunk.begin; at < end; at += stride) body(at, lesser(stride, end - at));
}

bool is_float32(const List &list, int64_t tensor) { return list.dtypes[tensor] == ACCEL_FLOAT32; }

double squares_of(const ListsLevel &level, const List &list, const Chunk &chunk) {
  alignas(64) double sums[kSums] = {};
  alignas(64) float buffer[kBlock];
  const int32_t dtype = list.dtypes[chunk.tensor];
  for_blocks(chunk, dtype == ACCEL_FLOAT32, [&](int64_t first, int64_t n) {
    const Block block(*level.convert, dtype, list.at[chunk.tensor], first, n, buffer);
    level.add_squares(block.values, n, sums);
  });
  for (int64_t width = kSums / 2; width > 0; width /= 2)
    for (int64_t k = 0; k < width; ++k) sums[k] += sums[k + width];
  return sums[0];
}

// The root of the sum of all squares; calls one(tensor, squares) for every tensor.
template <class One>
double norm_of(const ListsLevel &level, const List &list, Chunks &chunks, int64_t count,
               const One &one) {
  chunks.each([&](Chunk &chunk) { chunk.squares = squares_of(level, list, chunk); });
  double total = 0.0;
  int64_t next = 0;
  for (int64_t i = 0; i < count; ++i) {
    double squares = 0.0;
    for (; next < chunks.size() && chunks[next].tensor == i; ++next) squares += chunks[next].squares;
    one(i, squares);
    total += squares;
  }
  return __builtin_sqrt(total);
}

void scale_chunk(const ListsLevel &level, const List &from, const List &to, const Chunk &chunk,
                 float by, uint32_t *largest) {
  const int64_t i = chunk.tensor;
  const bool whole = is_float32(from, i) && is_float32(to, i) && !largest;
  for_blocks(chunk, whole, [&](int64_t first, int64_t n) {
    alignas(64) float buffers[2][kBlock];
    const Block x(*level.convert, from.dtypes[i], from.at[i], first, n, buffers[0]);
    if (largest) {
      const uint32_t most = level.largest(x.values, n);
      *largest = most > *largest ? most : *largest;
    }
    char *const place = to.place(i, first);
    float *const out = is_float32(to, i) ? reinterpret_cast<float *>(place) : buffers[1];
    level.scale(out, x.values, n, by);
    if (!is_float32(to, i))
      narrow_to(*level.convert, ACCEL_ROUND_NEAREST, to.dtypes[i], place, out, first, n, {0, 0});
  });
}

void axpby_chunk(const ListsLevel &level, const List *lists, const Chunk &chunk, float a, float b,
                 int64_t arg_to_check, uint32_t *largest) {
  const int64_t i = chunk.tensor;
  const List &to = lists[2];
  for_blocks(chunk, false, [&](int64_t first, int64_t n) {
    alignas(64) float buffers[3][kBlock];
    const Block x(*level.convert, lists[0].dtypes[i], lists[0].at[i], first, n, buffers[0]);
    const Block y(*level.convert, lists[1].dtypes[i], lists[1].at[i], first, n, buffers[1]);
    for (int64_t which = 0; which < 2; ++which) {
      if (arg_to_check >= 0 && arg_to_check != which) continue;
      const uint32_t most = level.largest(which ? y.values : x.values, n);
      *largest = most > *largest ? most : *largest;
    }
    char *const place = to.place(i, first);
    float *const out = is_float32(to, i) ? reinterpret_cast<float *>(place) : buffers[2];
    level.axpby(out, x.values, y.values, n, a, b);
    if (!is_float32(to, i))
      narrow_to(*level.convert, ACCEL_ROUND_NEAREST, to.dtypes[i], place, out, first, n, {0, 0});
  });
}

bool is_finite(float x) {
  return x - x == 0.0f;
}

}  // namespace
}  // namespace accel

int32_t accel_multi_tensor_norm(int32_t *noop_flag, const void *const *tensors,
                                const float *inv_scale, float *norm, float *norms, double *,
                                int32_t per_tensor, int32_t skip, const int64_t *numels,
                                int64_t count, const int32_t *dtypes, int64_t threads,
                                int32_t flag_dtype, void *) {
  using namespace accel;
  const List list = list_of(tensors, dtypes);
  int32_t status = check(numels, count, threads);
  if (status == ACCEL_OK) status = check(list, numels, count);
  if (status != ACCEL_OK) return status;
  if (!noop_flag || !norm || (per_tensor && count && !norms)) return ACCEL_BAD_ARGUMENT;
  if (flag_dtype != ACCEL_INT32) return ACCEL_BAD_DTYPE;
  if (skip && *noop_flag != 0) {
    *norm = 0.0f;
    for (int64_t i = 0; per_tensor && i < count; ++i) norms[i] = 0.0f;
    return ACCEL_OK;
  }
  Chunks chunks(threads);
  if (!chunks.prepare(numels, count)) return ACCEL_NO_MEMORY;
  const double by = inv_scale ? __builtin_fabs(static_cast<double>(*inv_scale)) : 1.0;
  bool finite = true;
  const auto one = [&](int64_t i, double squares) {
    if (!per_tensor) return;
    norms[i] = static_cast<float>(__builtin_sqrt(squares) * by);
    finite = finite && is_finite(norms[i]);
  };
  *norm = static_cast<float>(norm_of(ACCEL_FOR_LEVEL(lists_level), list, chunks, count, one) * by);
  if (!finite || !is_finite(*norm)) *noop_flag = 1;
  return ACCEL_OK;
}

int32_t accel_multi_tensor_scale_(int32_t *noop_flag, const void *const *inputs,
                                  void *const *outputs, double scale, const int64_t *numels,
                                  int64_t count, const int32_t *input_dtypes,
                                  const int32_t *output_dtypes, int64_t threads, int32_t flag_dtype,
                                  void *) {
  using namespace accel;
  const List from = list_of(inputs, input_dtypes), to = {outputs, output_dtypes};
  int32_t status = check(numels, count, threads);
  if (status == ACCEL_OK) status = check(from, numels, count);
  if (status == ACCEL_OK) status = check(to, numels, count);
  if (status != ACCEL_OK) return status;
  if (!noop_flag) return ACCEL_BAD_ARGUMENT;
  if (flag_dtype != ACCEL_INT32) return ACCEL_BAD_DTYPE;
  Chunks chunks(threads);
  if (!chunks.prepare(numels, count)) return ACCEL_NO_MEMORY;
  const ListsLevel &level = ACCEL_FOR_LEVEL(lists_level);
  const float by = static_cast<float>(scale);
  int32_t overflow = 0;
  chunks.each([&](const Chunk &chunk) {
    uint32_t largest = 0;
    scale_chunk(level, from, to, chunk, by, &largest);
    if (largest >= kInfinity) store(overflow, 1);
  });
  if (overflow) *noop_flag = 1;
  return ACCEL_OK;
}

int32_t accel_multi_tensor_axpby_(int32_t *noop_flag, const void *const *xs, const void *const *ys,
                                  void *const *outputs, double a, double b, int64_t arg_to_check,
                                  const int64_t *numels, int64_t count, const int32_t *x_dtypes,
                                  const int32_t *y_dtypes, const int32_t *output_dtypes,
                                  int64_t threads, int32_t flag_dtype, void *) {
  using namespace accel;
  const List lists[] = {list_of(xs, x_dtypes), list_of(ys, y_dtypes), {outputs, output_dtypes}};
  int32_t status = check(numels, count, threads);
  for (const List &list : lists)
    if (status == ACCEL_OK) status = check(list, numels, count);
  if (status != ACCEL_OK) return status;
  if (!noop_flag || arg_to_check < -1 || arg_to_check > 1) return ACCEL_BAD_ARGUMENT;
  if (flag_dtype != ACCEL_INT32) return ACCEL_BAD_DTYPE;
  Chunks chunks(threads);
  if (!chunks.prepare(numels, count)) return ACCEL_NO_MEMORY;
  const ListsLevel &level = ACCEL_FOR_LEVEL(lists_level);
  int32_t overflow = 0;
  chunks.each([&](const Chunk &chunk) {
    uint32_t largest = 0;
    axpby_chunk(level, lists, chunk, static_cast<float>(a), static_cast<float>(b), arg_to_check,
                &largest);
    if (largest >= kInfinity) store(overflow, 1);
  });
  if (overflow) *noop_flag = 1;
  return ACCEL_OK;
}

int32_t accel_multi_tensor_clip_(void *const *tensors, float *norm, double *, double max_norm,
                                 int32_t keep_nonfinite, const int64_t *numels, int64_t count,
                                 const int32_t *dtypes, int64_t threads, int32_t, void *) {
  using namespace accel;
  const List list = {tensors, dtypes};
  int32_t status = check(numels, count, threads);
  if (status == ACCEL_OK) status = check(list, numels, count);
  if (status != ACCEL_OK) return status;
  if (!norm) return ACCEL_BAD_ARGUMENT;
  Chunks chunks(threads);
  if (!chunks.prepare(numels, count)) return ACCEL_NO_MEMORY;
  const ListsLevel &level = ACCEL_FOR_LEVEL(lists_level);
  *norm = static_cast<float>(norm_of(level, list, chunks, count, [](int64_t, double) {}));
  if (keep_nonfinite && !is_finite(*norm)) return ACCEL_OK;
  const float by = accel_clip_coefficient(*norm, max_norm);
  if (by == 1.0f) return ACCEL_OK;  // a product with 1 has the bits that are there
  const auto scale = [&](const Chunk &chunk) { scale_chunk(level, list, list, chunk, by, nullptr); };
  chunks.each(scale, true);
  return ACCEL_OK;
}

#endif
#endif
