// SPDX-License-Identifier: Apache-2.0
// The table that convert-inl.h fills for every SIMD level, indexed by accel_dtype and accel_rounding.
#pragma once

#include <cstddef>
#include <cstdint>

#include "../common/random.h"
#include "../common/rounding.h"
#include "accel/abi.h"

namespace accel {

using Load = void (*)(float *to, const void *from, int64_t n);
// `key` and `first`, the index of the first element in the whole tensor, choose the random bits.
using Store = void (*)(void *to, const float *from, int64_t n, uint64_t key, int64_t first);

struct Convert {
  Load load[3];
  Store store[2][3];
};

// Elements that are widened to float32, updated and narrowed again while they are in the L1 cache.
constexpr int64_t kBlock = 1024;

inline int64_t element_size(int32_t dtype) { return dtype == ACCEL_FLOAT32 ? 4 : 2; }

// The random bits of a tensor's elements; `first` is the number of its first one in the whole tensor.
struct Noise {
  uint64_t key;
  int64_t first;
};

// Narrows the n elements of a tensor from `first` on.
inline void narrow_to(const Convert &convert, int32_t rounding, int32_t dtype, char *to,
                      const float *from, int64_t first, int64_t n, const Noise &noise) {
  const Store store = convert.store[rounding][dtype];
  const int64_t at = noise.first + first, before = (int64_t{1} << 32) - (at & 0xFFFFFFFF);
  const int64_t head = n < before ? n : before;  // no store crosses a multiple of 2^32
  store(to, from, head, noise.key, at);
  if (head < n) store(to + head * element_size(dtype), from + head, n - head, noise.key, at + head);
}

// One block of a tensor as float32: in place if it is float32 already, else in `buffer`; null if
// there is no tensor.
class Block {
 public:
  Block() = default;
  Block(const Convert &convert, int32_t dtype, void *tensor, int64_t first, int64_t n, float *buffer)
      : first_(first), n_(n), dtype_(dtype) {
    if (!tensor) return;
    at_ = static_cast<char *>(tensor) + first * element_size(dtype);
    values = dtype == ACCEL_FLOAT32 ? reinterpret_cast<float *>(at_) : buffer;
    load(convert);
  }

  // Reads the tensor, again after a store: 16 bits have been rounded by it.
  void load(const Convert &convert) {
    if (dtype_ != ACCEL_FLOAT32) convert.load[dtype_](values, at_, n_);
  }

  void store(const Convert &convert, int32_t rounding, const Noise &noise) const {
    if (values && dtype_ != ACCEL_FLOAT32)
      narrow_to(convert, rounding, dtype_, at_, values, first_, n_, noise);
  }

  float *values = nullptr;

 private:
  char *at_ = nullptr;
  int64_t first_ = 0, n_ = 0;
  int32_t dtype_ = ACCEL_FLOAT32;
};

// The loop of one SIMD level over elements of a block that are updated by themselves.
template <class Op>
struct ElementLevel {
  void (*block)(float *p, const float *grad, float *const *states, int64_t n,
                const typename Op::Scalars &s);
  const Convert *convert;
};

}  // namespace accel
