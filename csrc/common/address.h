// SPDX-License-Identifier: Apache-2.0
// A device's addresses as the host sets them: pointers on CUDA, integers on SYCL.
#pragma once

#include <cstdint>

namespace accel {

template <class T>
void set_address(T *&field, const void *at) {
  field = static_cast<T *>(const_cast<void *>(at));
}

inline void set_address(uint64_t &field, const void *at) { field = reinterpret_cast<uintptr_t>(at); }

}  // namespace accel
