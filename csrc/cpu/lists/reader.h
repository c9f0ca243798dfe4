// SPDX-License-Identifier: Apache-2.0
// Checks and reads a call's lists of tensors: see accel/lists.h. Included once per library; it reads
// no tensor's memory, so that the tensors may be on any device.
#pragma once

#include <cstdint>

#include "accel/lists.h"
#include "objects.h"

namespace accel {

// A block of memory.
struct Span {
  int64_t from, to, written;
};

// Sorts by where spans begin; returns where they are then, which may be `room`.
inline Span *sorted(Span *spans, Span *room, int64_t count) {
  bool rising = true;
  for (int64_t i = 1; rising && i < count; ++i) rising = spans[i - 1].from <= spans[i].from;
  if (rising) return spans;
  for (int64_t width = 1; width < count; width *= 2) {
    for (int64_t low = 0; low < count; low += 2 * width) {
      const int64_t middle = low + width < count ? low + width : count;
      const int64_t high = low + 2 * width < count ? low + 2 * width : count;
      for (int64_t left = low, right = middle, at = low; at < high; ++at) {
        const bool first = left < middle && (right == high || spans[left].from <= spans[right].from);
        room[at] = spans[first ? left++ : right++];
      }
    }
    Span *const other = spans;
    spans = room;
    room = other;
  }
  return spans;
}

// Whether no written span shares a byte with another one.
inline bool are_apart(const Span *rising, int64_t count) {
  int64_t end = INT64_MIN, written_end = INT64_MIN;
  for (int64_t i = 0; i < count; ++i) {
    const Span &span = rising[i];
    if (span.from < (span.written ? end : written_end)) return false;
    if (span.to > end) end = span.to;
    if (span.written && span.to > written_end) written_end = span.to;
  }
  return true;
}

class Reader : Objects {
 public:
  Reader(const accel_read &read, int64_t *table, int64_t *room)
      : Objects(*read.python),
        r_(read),
        addresses_(table),
        numels_(table + read.lists * read.count),
        codes_(reinterpret_cast<int32_t *>(numels_ + read.count)),
        shapes_(room),
        spans_(reinterpret_cast<Span *>(room + 2 * read.count)) {}

  bool run(void *sources, void *lists) {
    for (int64_t k = 0; k < r_.lists; ++k) {
      void *const list = py_.item_of_list(lists, k);
      if (!list) return error();
      for (int64_t i = 0; i < r_.count; ++i) {
        const bool fetched = k == 0 && sources != py_.none;
        void *const tensor = fetched ? gradient(sources, list, i) : py_.item_of_list(list, i);
        if (!tensor) return error();
        if (!is_plain(tensor, k) || !take(tensor, k, i)) return false;
      }
    }
    return !r_.written || written_are_apart();
  }

 private:
  // The gradient of what is at a place, which the list keeps; null if there is none.
  void *gradient(void *sources, void *list, int64_t i) {
    void *const source = py_.item_of_list(sources, i);
    void *const grad = source ? py_.attribute(source, py_.grad) : nullptr;
    if (!grad || r_.put(list, i, grad) != 0) return nullptr;
    return grad;
  }

  static bool has(uint64_t mask, int64_t k) { return mask >> k & 1; }

  // Whether only the tensors' library handles a tensor, and it may be used as list k's are.
  bool is_plain(void *tensor, int64_t k) {
    if (!is_type(tensor, py_.tensor) && !is_type(tensor, py_.parameter)) return false;
    if (!is_positive(tensor) || (has(r_.detached, k) && !is_detached(tensor))) return false;
    if (!has(r_.versioned, k)) return true;
    void *const version = py_.attribute(tensor, r_.version);
    if (!version) return error();
    py_.let_go(version);
    return true;
  }

  static int32_t code_of(const accel_dl_tensor &t) {
    if (t.dtype_lanes != 1) return -1;
    if (t.dtype_code == 2 && t.dtype_bits == 32) return ACCEL_FLOAT32;
    if (t.dtype_code == 4 && t.dtype_bits == 16) return ACCEL_BFLOAT16;
    return t.dtype_code == 2 && t.dtype_bits == 16 ? ACCEL_FLOAT16 : -1;
  }

  bool take(void *tensor, int64_t k, int64_t i) {
    accel_dl_tensor t;
    if (py_.read(tensor, &t) != 0) return error();
    const int32_t code = code_of(t);
    if (code < 0 || t.device_type != r_.device_type || t.device_id != r_.device_id) return false;
    const int64_t numel = contiguous(t);
    const uint64_t address = reinterpret_cast<uint64_t>(t.data) + t.byte_offset;
    if (numel < 0 || (numel > 0 && (!t.data || is_offset(tensor, address, t.dtype_bits / 8)))) return false;
    if (k == 0) {
      numels_[i] = numel;
      // Shapes stay where they are while their tensors do, which the lists keep.
      shapes_[2 * i] = t.ndim;
      shapes_[2 * i + 1] = reinterpret_cast<int64_t>(t.shape);
    } else if (!has_shape(t, shapes_[2 * i], reinterpret_cast<const int64_t *>(shapes_[2 * i + 1]))) {
      return false;
    }
    addresses_[k * r_.count + i] = static_cast<int64_t>(address);
    codes_[k * r_.count + i] = code;
    return true;
  }

  static bool has_shape(const accel_dl_tensor &t, int64_t ndim, const int64_t *shape) {
    if (t.ndim != ndim) return false;
    for (int64_t d = 0; d < ndim; ++d)
      if (t.shape[d] != shape[d]) return false;
    return true;
  }

  // Whether a tensor is also the one at the same index of a written list.
  bool is_written(int64_t k, int64_t i) const {
    const int64_t at = k * r_.count + i;
    for (int64_t w = 0; w < r_.lists; ++w) {
      const int64_t other = w * r_.count + i;
      if (has(r_.written, w) && addresses_[at] == addresses_[other] && codes_[at] == codes_[other]) return true;
    }
    return false;
  }

  bool written_are_apart() {
    int64_t count = 0;
    for (int64_t k = 0; k < r_.lists; ++k)
      for (int64_t i = 0; i < r_.count; ++i) {
        const int64_t from = addresses_[k * r_.count + i];
        if (numels_[i] == 0 || (has(r_.in_place, k) && is_written(k, i))) continue;
        const int64_t bytes = codes_[k * r_.count + i] == ACCEL_FLOAT32 ? 4 : 2;
        spans_[count++] = {from, from + numels_[i] * bytes, has(r_.written, k)};
      }
    if (r_.apart_from < r_.apart_to) spans_[count++] = {r_.apart_from, r_.apart_to, 1};
    return are_apart(sorted(spans_, spans_ + (r_.lists * r_.count + 1), count), count);
  }

  const accel_read &r_;
  int64_t *const addresses_, *const numels_;
  int32_t *const codes_;
  int64_t *const shapes_;
  Span *const spans_;
};

}  // namespace accel

int32_t accel_read_lists(const accel_read *read, void *sources, void *lists, int64_t *table,
                         int64_t *room) {
  if (!read || read->struct_size != sizeof *read || !read->python) return ACCEL_BAD_STRUCT;
  if (read->python->struct_size != sizeof *read->python) return ACCEL_BAD_STRUCT;
  if (read->lists < 1 || read->lists > 64 || read->count < 0 || !table || !room) return ACCEL_BAD_ARGUMENT;
  return accel::Reader(*read, table, room).run(sources, lists) ? ACCEL_OK : ACCEL_UNSUPPORTED;
}
