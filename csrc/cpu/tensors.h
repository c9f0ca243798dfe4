// SPDX-License-Identifier: Apache-2.0
// Loops over thousands of tensors through their library's handles: see accel/cpu.h. Included once per
// library.
#pragma once

#include <cstdint>

#include "accel/cpu.h"
#include "parallel.h"

namespace accel {

// How many entries ahead handles, then records, then what these point to are asked for.
constexpr int64_t kHandleAhead = 48, kRecordAhead = 32, kMemoryAhead = 16;

// A handle points to a pointer to the tensor's record.
inline const void *record_of(const void *handle) { return *static_cast<const void *const *>(handle); }

inline void ask_for_record(const void *handle) {
  const char *const record = static_cast<const char *>(record_of(handle));
  for (int line = 0; line < 3; ++line) __builtin_prefetch(record + 64 * line);
}

// The third word of torch's records points to where a tensor's address is kept. Where it does not,
// something else is asked for in vain.
inline void ask_for_storage(const void *handle) {
  const char *const storage = static_cast<const char *const *>(record_of(handle))[2];
  for (int line = 0; line < 2; ++line) __builtin_prefetch(storage + 64 * line);
}

inline void ask_ahead(void *const *handles, int64_t i, int64_t end) {
  if (i + kHandleAhead < end) __builtin_prefetch(handles[i + kHandleAhead]);
  if (i + kRecordAhead < end) ask_for_record(handles[i + kRecordAhead]);
}

// Whether the list and the dictionaries hold what they held.
inline bool same_objects(const accel_snapshot &s, void *list) {
  for (int64_t i = 0; i < s.num_params; ++i)
    if (s.item_of(list, i) != s.params[i]) return false;
  int64_t seen = 0;
  for (int64_t i = 0; i < s.num_dictionaries; ++i) {
    if (i + kRecordAhead < s.num_dictionaries) __builtin_prefetch(s.dictionaries[i + kRecordAhead]);
    void *key = nullptr, *value = nullptr;
    for (int64_t at = 0; s.next_entry(s.dictionaries[i], &at, &key, &value); ++seen)
      if (seen == s.num_values || s.values[seen] != value) return false;
  }
  return seen == s.num_values;
}

inline bool any_moved(const accel_snapshot &s, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; ++i) {
    ask_ahead(s.fixed, i, end);
    if (i + kMemoryAhead < end) ask_for_storage(s.fixed[i + kMemoryAhead]);
    void *at = nullptr;
    if (s.api->address_of(s.fixed[i], &at) != 0 || reinterpret_cast<int64_t>(at) != s.fixed_at[i])
      return true;
  }
  return false;
}

// Whether a block of memory shares a byte with one that is written.
inline bool meets_written(const accel_snapshot &s, int64_t begin, int64_t size) {
  // The last written block that starts before this one's end is the one that may reach into it.
  int64_t low = 0, high = s.num_written;
  while (low < high) {
    const int64_t middle = low + (high - low) / 2;
    if (s.written_from[middle] < begin + size) low = middle + 1;
    else high = middle;
  }
  return size > 0 && low > 0 && s.written_to[low - 1] > begin;
}

// Keeps one parameter's gradient; false where it is not as expected.
inline bool take_grad(const accel_snapshot &s, int64_t i) {
  const accel_tensor_api &api = *s.api;
  void *const grad = const_cast<void *>(api.grad_of(record_of(s.handles[i])));
  bool defined = false, contiguous = false;
  int32_t layout = 0, dtype = 0;
  int64_t numel = 0;
  void *memory = nullptr;
  if (api.is_defined(grad, &defined) != 0 || defined != (s.numels[i] >= 0)) return false;
  if (!defined) return true;
  // Threads without the interpreter's lock must not be the ones to ask it.
  const bool plain =
      !api.is_interpreted(grad) &&
      api.layout_of(grad, &layout) == 0 && layout == api.strided &&
      api.dtype_of(grad, &dtype) == 0 && dtype == s.dtypes[i] &&
      api.numel_of(grad, &numel) == 0 && numel == s.numels[i] &&
      api.is_contiguous(grad, &contiguous) == 0 && contiguous &&
      !api.requires_grad(record_of(grad)) && !api.is_negated(grad) &&
      api.address_of(grad, &memory) == 0 && (memory != nullptr || numel == 0);
  if (!plain) return false;
  const int64_t at = reinterpret_cast<int64_t>(memory);
  if (at != *s.slots[i] && meets_written(s, at, s.sizes[i])) return false;
  *s.slots[i] = at;
  return api.keep(grad, s.kept + i) == 0;
}

inline bool take_grads(const accel_snapshot &s, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; ++i) {
    ask_ahead(s.handles, i, end);
    if (i + kMemoryAhead < end)
      ask_for_record(s.api->grad_of(record_of(s.handles[i + kMemoryAhead])));
    if (!take_grad(s, i)) return false;
  }
  return true;
}

}  // namespace accel

int32_t accel_take_grads(const accel_snapshot *snapshot, void *list, int32_t num_threads) {
  constexpr int64_t kWorthATeam = 64;
  if (!snapshot || snapshot->struct_size != sizeof *snapshot) return ACCEL_BAD_STRUCT;
  const accel_snapshot &s = *snapshot;
  if (!s.api || s.api->struct_size != sizeof *s.api) return ACCEL_BAD_STRUCT;
  accel_let_go(s.api, s.kept, s.num_params);
  if (!accel::same_objects(s, list)) return ACCEL_UNSUPPORTED;
  if (s.num_params == 0) return ACCEL_OK;
  bool odd = false;
  accel::for_ranges<kWorthATeam>(s.num_params, num_threads, [&](int64_t begin, int64_t end) {
    const auto share = [&](int64_t param) { return s.num_fixed * param / s.num_params; };
    if (accel::any_moved(s, share(begin), share(end)) || !accel::take_grads(s, begin, end))
      accel::store(odd, true);
  });
  if (!odd) return ACCEL_OK;
  accel_let_go(s.api, s.kept, s.num_params);
  return ACCEL_UNSUPPORTED;
}

void accel_let_go(const accel_tensor_api *api, void **kept, int64_t count) {
  constexpr int64_t kAhead = 12;
  for (int64_t i = 0; i < count; ++i) {
    if (i + kAhead < count && kept[i + kAhead]) __builtin_prefetch(accel::record_of(kept[i + kAhead]), 1);
    if (kept[i]) api->let_go(kept[i]);
    kept[i] = nullptr;
  }
}
