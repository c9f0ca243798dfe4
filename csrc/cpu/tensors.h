// SPDX-License-Identifier: Apache-2.0
// Loops over thousands of tensors through their library's handles: see accel/cpu.h. Included once per
// library.
#pragma once

#include <cstdint>

#include "accel/cpu.h"
#include "parallel.h"

namespace accel {

// A handle points to a pointer to the tensor's record.
inline const void *record_of(const void *handle) { return *static_cast<const void *const *>(handle); }

inline void ask_for_record(const void *handle) {
  const char *const record = static_cast<const char *>(record_of(handle));
  for (int line = 0; line < 3; ++line) __builtin_prefetch(record + 64 * line);
}

// Keeps one tensor's gradient and writes its address; false where it is not as expected.
inline bool take_grad(const accel_tensor_api &api, const void *handle, int64_t numel, int32_t dtype,
                      int64_t *address, void **kept) {
  void *const grad = const_cast<void *>(api.grad_of(record_of(handle)));
  bool defined = false, contiguous = false;
  int32_t own_layout = 0, own_dtype = 0;
  int64_t own_numel = 0;
  void *at = nullptr;
  if (api.is_defined(grad, &defined) != 0 || defined != (numel >= 0)) return false;
  if (!defined) return true;
  // Threads without the interpreter's lock must not be the ones to ask it.
  const bool plain =
      !api.is_interpreted(grad) &&
      api.layout_of(grad, &own_layout) == 0 && own_layout == api.strided &&
      api.dtype_of(grad, &own_dtype) == 0 && own_dtype == dtype &&
      api.numel_of(grad, &own_numel) == 0 && own_numel == numel &&
      api.is_contiguous(grad, &contiguous) == 0 && contiguous &&
      !api.requires_grad(record_of(grad)) && !api.is_negated(grad) &&
      api.address_of(grad, &at) == 0 && (at != nullptr || numel == 0);
  if (!plain || api.keep(grad, kept) != 0) return false;
  *address = reinterpret_cast<int64_t>(at);
  return true;
}

}  // namespace accel

int32_t accel_any_moved(void *const *handles, const int64_t *expected, int64_t count,
                        accel_address_of address_of, int32_t num_threads) {
  constexpr int64_t kAhead = 12, kWorthATeam = 256;
  bool moved = false;
  accel::for_ranges<kWorthATeam>(count, num_threads, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      if (i + kAhead < end) accel::ask_for_record(handles[i + kAhead]);
      void *address = nullptr;
      if (address_of(handles[i], &address) != 0 || reinterpret_cast<int64_t>(address) != expected[i])
        return accel::store(moved, true);
    }
  });
  return moved;
}

int64_t accel_first_overlap(const int64_t *starts, const int64_t *stops, int64_t known,
                            const int64_t *begins, const int64_t *sizes, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    if (sizes[i] == 0) continue;
    // The last known block that starts before this one's end is the one that may reach into it.
    int64_t low = 0, high = known;
    while (low < high) {
      const int64_t middle = low + (high - low) / 2;
      if (starts[middle] < begins[i] + sizes[i]) low = middle + 1;
      else high = middle;
    }
    if (low > 0 && stops[low - 1] > begins[i]) return i;
  }
  return -1;
}

int32_t accel_take_grads(const accel_tensor_api *api, void *const *handles, const int64_t *numels,
                         const int32_t *dtypes, int64_t count, int64_t *addresses, void **kept,
                         int32_t num_threads) {
  constexpr int64_t kAhead = 16, kGradAhead = 8, kWorthATeam = 128;
  if (!api || api->struct_size != sizeof *api) return ACCEL_BAD_STRUCT;
  bool odd = false;
  accel::for_ranges<kWorthATeam>(count, num_threads, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      if (i + kAhead < end) accel::ask_for_record(handles[i + kAhead]);
      if (i + kGradAhead < end)
        accel::ask_for_record(api->grad_of(accel::record_of(handles[i + kGradAhead])));
      if (!accel::take_grad(*api, handles[i], numels[i], dtypes[i], addresses + i, kept + i))
        return accel::store(odd, true);
    }
  });
  if (!odd) return ACCEL_OK;
  accel_let_go(api, kept, count);
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
