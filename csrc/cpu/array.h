// SPDX-License-Identifier: Apache-2.0
// An array of plain values: <vector> takes longer to read than an op takes to compile, and an
// exception would tie the library to a C++ runtime.
#pragma once

#include <cstdint>
#include <cstdlib>

namespace accel {

template <class T>
class Array {
 public:
  static_assert(__is_trivially_copyable(T), "values are moved as bytes");

  Array() = default;
  Array(const Array &) = delete;
  Array &operator=(const Array &) = delete;
  ~Array() { std::free(values_); }

  // Allocates `wanted` values, once; false if there is no memory for them.
  [[nodiscard]] bool reserve(int64_t wanted) {
    values_ = static_cast<T *>(std::malloc(static_cast<size_t>(wanted) * sizeof(T)));
    return values_ != nullptr;
  }
  // The caller stays within the reserved size.
  void add(const T &value) { values_[size_++] = value; }

  int64_t size() const { return size_; }
  T &operator[](int64_t i) { return values_[i]; }
  const T &operator[](int64_t i) const { return values_[i]; }

 private:
  T *values_ = nullptr;
  int64_t size_ = 0;
};

}  // namespace accel
