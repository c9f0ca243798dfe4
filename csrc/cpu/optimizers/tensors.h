// SPDX-License-Identifier: Apache-2.0
// The check of a step's tensors: see accel/tensors.h. Included once per library.
#pragma once

#include <cstdint>

#include "accel/tensors.h"
#include "objects.h"
#include "parallel.h"

namespace accel {

// The check of one step's tensors.
class Look : Objects {
 public:
  explicit Look(const accel_watch &watch) : Objects(*watch.python), w_(watch), width_(watch.num_keys + 2) {}

  // True if parameter i is as expected; its objects are kept alive either way.
  bool take(void *params, void *states, int64_t i) {
    const accel_expected *const expected = w_.expected + i * width_;
    void **const kept = w_.kept + i * width_;
    void *const param = py_.item_of_list(params, i);
    if (!param) return error();
    void *const grad = py_.attribute(param, py_.grad);
    if (!grad) return error();
    if (grad == py_.none || !expected[1].slot) {
      const bool agreed = grad == py_.none && !expected[1].slot;
      py_.let_go(grad);
      return agreed;
    }
    keep(kept, param);
    kept[1] = grad;
    return is_plain(param, py_.parameter) && is_plain(grad, nullptr) && is_detached(grad) &&
           keep_states(states, param, i) && read_all(expected, kept, i);
  }

 private:
  void keep(void **place, void *object) {
    py_.keep(object);
    *place = object;
  }

  // True for a plain tensor, without a subclass, that holds its own values.
  bool is_plain(void *tensor, void *also) {
    return (is_type(tensor, py_.tensor) || (also && is_type(tensor, also))) && is_positive(tensor);
  }

  bool keep_states(void *states, void *param, int64_t i) {
    const accel_expected *const expected = w_.expected + i * width_ + 2;
    void **const kept = w_.kept + i * width_ + 2;
    intptr_t place = w_.places[i];
    void *key = nullptr, *entry = nullptr;
    if (!py_.next_entry(states, &place, &key, &entry) || key != param) return false;
    if (!is_type(entry, py_.dictionary)) return false;
    void *value = nullptr;
    int64_t next = 0;  // entries are usually in the keys' order
    for (intptr_t position = 0; py_.next_entry(entry, &position, &key, &value);) {
      const int64_t k = index_of(key, next);
      if (k < 0) continue;
      next = k + 1;
      if (expected[k].slot) keep(kept + k, value);
    }
    for (int64_t k = 0; k < w_.num_keys; ++k) {
      if (!expected[k].slot || kept[k]) continue;
      // Perhaps under an equal key that is another string.
      void *const found = py_.item_of_dictionary(entry, w_.keys[k]);
      if (!found) return error();
      keep(kept + k, found);
    }
    for (int64_t k = 0; k < w_.num_keys; ++k)
      if (kept[k] && !is_plain(kept[k], nullptr)) return false;
    return true;
  }

  int64_t index_of(void *key, int64_t first) const {
    for (int64_t k = first; k < w_.num_keys; ++k)
      if (w_.keys[k] == key) return k;
    for (int64_t k = 0; k < lesser(first, w_.num_keys); ++k)
      if (w_.keys[k] == key) return k;
    return -1;
  }

  bool read_all(const accel_expected *expected, void *const *kept, int64_t i) {
    for (int64_t k = 0; k < width_; ++k)
      if (kept[k] && !read(expected[k], kept[k], i)) return false;
    return true;
  }

  bool read(const accel_expected &expected, void *object, int64_t i) {
    accel_dl_tensor t;
    if (py_.read(object, &t) != 0) return error();
    const uint32_t dtype = t.dtype_code | uint32_t{t.dtype_bits} << 8 | uint32_t{t.dtype_lanes} << 16;
    if (dtype != expected.dtype || t.device_type != w_.devices[2 * i] || t.device_id != w_.devices[2 * i + 1])
      return false;
    const int64_t numel = expected.numel < 0 ? laid_out(t, w_.layouts + w_.layout_at[i]) : contiguous(t);
    if (numel < 0 || (expected.numel >= 0 && numel != expected.numel) || (numel > 0 && !t.data)) return false;
    const int64_t address = reinterpret_cast<int64_t>(t.data) + static_cast<int64_t>(t.byte_offset);
    if (address == *expected.slot) return true;
    // A moved tensor that is written may share memory with others, which needs the full check.
    if (expected.written || meets_written(address, numel * (t.dtype_bits / 8))) return false;
    if (numel > 0 && is_offset(object, static_cast<uint64_t>(address), t.dtype_bits / 8)) return false;
    *expected.slot = address;
    return true;
  }

  // The number of elements, or -1 for another layout: strides count only of dimensions that are moved along.
  static int64_t laid_out(const accel_dl_tensor &t, const int64_t *layout) {
    const int64_t ndim = *layout++;
    const int64_t *const strides = layout + ndim;
    if (t.ndim != ndim) return -1;
    int64_t numel = 1;
    for (int64_t d = 0; d < ndim; ++d) {
      if (t.shape[d] != layout[d]) return -1;
      numel *= t.shape[d];
    }
    for (int64_t d = 0; d < ndim && numel > 0; ++d)
      if (t.shape[d] > 1 && t.strides[d] != strides[d]) return -1;
    return numel;
  }

  // True if a block of memory shares a byte with one that is written.
  bool meets_written(int64_t begin, int64_t size) const {
    // The last written block that starts before this one's end is the one that may reach into it.
    int64_t low = 0, high = w_.num_written;
    while (low < high) {
      const int64_t middle = low + (high - low) / 2;
      if (w_.written_from[middle] < begin + size) low = middle + 1;
      else high = middle;
    }
    return size > 0 && low > 0 && w_.written_to[low - 1] > begin;
  }

  const accel_watch &w_;
  const int64_t width_;
};

}  // namespace accel

int32_t accel_watch_take(const accel_watch *watch, void *params, void *states) {
  if (!watch || watch->struct_size != sizeof *watch) return ACCEL_BAD_STRUCT;
  if (!watch->python || watch->python->struct_size != sizeof *watch->python) return ACCEL_BAD_STRUCT;
  accel_watch_release(watch);
  accel::Look look(*watch);
  for (int64_t i = 0; i < watch->num_params; ++i)
    if (!look.take(params, states, i)) {
      accel_watch_release(watch);
      return ACCEL_UNSUPPORTED;
    }
  return ACCEL_OK;
}

void accel_watch_release(const accel_watch *watch) {
  const int64_t count = watch->num_params * (watch->num_keys + 2);
  for (int64_t i = 0; i < count; ++i) {
    void *const object = watch->kept[i];
    watch->kept[i] = nullptr;
    if (object) watch->python->let_go(object);
  }
}
