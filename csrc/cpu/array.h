// SPDX-License-Identifier: Apache-2.0
// A growing array of plain values: <vector> takes longer to read than an op takes to compile.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <new>

namespace accel {

template <class T>
class Array {
 public:
  static_assert(__is_trivially_copyable(T), "values are moved as bytes");

  Array() = default;
  Array(const Array &) = delete;
  Array &operator=(const Array &) = delete;
  ~Array() { std::free(values_); }

  // Both throw std::bad_alloc; the values stay as they are.
  void reserve(int64_t wanted) {
    if (wanted <= room_) return;
    void *const grown = std::realloc(values_, static_cast<size_t>(wanted) * sizeof(T));
    if (!grown) throw std::bad_alloc();
    values_ = static_cast<T *>(grown);
    room_ = wanted;
  }
  void add(const T &value) {
    const T kept = value;
    if (size_ == room_) reserve(room_ ? 2 * room_ : 1);
    values_[size_++] = kept;
  }

  int64_t size() const { return size_; }
  T &operator[](int64_t i) { return values_[i]; }
  const T &operator[](int64_t i) const { return values_[i]; }

 private:
  T *values_ = nullptr;
  int64_t size_ = 0, room_ = 0;
};

}  // namespace accel
