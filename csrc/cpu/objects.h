// SPDX-License-Identifier: Apache-2.0
// Facts about a program's tensors that every native loop over them needs. No tensor's memory is read,
// so the tensors may be on any device.
#pragma once

#include <cstdint>

#include "accel/tensors.h"

namespace accel {

// A lower address may be a null pointer plus an offset: no storage of a terabyte is expected.
constexpr uint64_t kLow = uint64_t{1} << 40;

// The base of loops over tensors. All is called with the interpreter's lock held.
class Objects {
 protected:
  explicit Objects(const accel_python &python) : py_(python) {}

  bool error() {
    py_.forget_error();
    return false;
  }

  bool is_type(void *object, void *type) {
    void *const found = py_.type_of(object);
    py_.let_go(found);
    return found == type;
  }

  // Takes a new reference, or null after an error.
  bool is_no(void *answer) {
    if (!answer) return error();
    py_.let_go(answer);
    return answer == py_.no;
  }

  // True for a tensor that holds its own values, not their negatives.
  bool is_positive(void *tensor) {
    void *const argument[] = {tensor};
    return is_no(py_.call(py_.is_neg, argument, 1, nullptr));
  }

  bool is_detached(void *tensor) { return is_no(py_.attribute(tensor, py_.requires_grad)); }

  // True if an address is a tensor's place in a storage that begins at 0, since it was freed.
  bool is_offset(void *tensor, uint64_t address, uint64_t element_bytes) {
    if (address >= kLow) return false;
    void *const argument[] = {tensor};
    void *const offset = py_.call(py_.storage_offset, argument, 1, nullptr);
    if (!offset) return !error();
    const int64_t elements = py_.as_integer(offset);
    py_.let_go(offset);
    return elements < 0 || address == static_cast<uint64_t>(elements) * element_bytes;
  }

  // The number of elements, or -1 for a tensor that is not contiguous.
  static int64_t contiguous(const accel_dl_tensor &t) {
    int64_t numel = 1;
    bool dense = true;
    for (int64_t d = t.ndim; d-- > 0; numel *= t.shape[d]) dense &= t.shape[d] == 1 || t.strides[d] == numel;
    return dense || numel == 0 ? numel : -1;
  }

  const accel_python &py_;
};

}  // namespace accel
