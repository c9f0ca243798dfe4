// SPDX-License-Identifier: Apache-2.0
// Norms, scaling and sums over lists of tensors on SYCL devices: see accel/multi_tensor.h for the
// arithmetic. Nothing waits for the device. A group works on one chunk.

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels.h"

#include "../../common/lists.h"
#include "accel/multi_tensor.h"

namespace accel {
namespace {

ACCEL_ON_BOTH(
    kTables, enum Limits : int32_t {
      kRoles = 3,      // lists of one launch, at most
      kBatch = 16,     // tensors of one launch
      kSums = 128,     // tensors of one launch that adds up chunks
      kChunk = 8192    // elements of one group
    };
    // One tensor of each list, or a part of them. `dtypes` has 8 bits for each.
    struct Slot {
      uint64_t at[kRoles];
      int64_t numel;
      uint32_t first_group, dtypes;
    };
    // A call's sums on the device, and what becomes of them; addresses are 0 for absent ones.
    struct Sums {
      uint64_t chunks, tensors, norm, norms, inv_scale, noop_flag;
      int32_t skip;  // whether a set flag stops the call
    };
    struct ChunkTable {
      Sums sums;
      int64_t first_chunk;
      Slot slots[kBatch];
    };
    struct TensorTable {
      Sums sums;
      int64_t first_tensor;
      int64_t first_chunk[kSums + 1];  // the last one is the end
    };
    struct Total {
      Sums sums;
      int64_t count;
    };
    // How elements are written. A clip has the bound of the norm in a, and what a rounds off in b.
    struct Work {
      uint64_t noop_flag, norm;
      float a, b;
      int32_t arg_to_check, keep_nonfinite;
    };
    struct WorkTable {
      Work work;
      Slot slots[kBatch];
    };)

static_assert(kChunk == ACCEL_LISTS_CHUNK, "a group has one chunk");

// Chunks of one slot: with kBatch slots, work-items stay below the 2^31 that kernels can count. A test
// takes fewer, since no tensor of its has so many.
#ifndef ACCEL_MOST_CHUNKS
#define ACCEL_MOST_CHUNKS (1 << 18)
#endif
constexpr int64_t kMostChunks = ACCEL_MOST_CHUNKS;

constexpr char kKernels[] =
#include "multi_tensor.sycl"
    ;

enum Kernel { kChunkSums, kTensorSums, kTotalSum, kScale, kAxpby, kClip };

struct Lists {
  const void *const *at[kRoles];
  const int32_t *dtypes[kRoles];
  const int64_t *numels;
  int64_t count;
  int32_t roles;
};

int64_t chunks_of(int64_t numel) { return numel / kChunk + (numel % kChunk != 0); }

int64_t all_chunks(const Lists &lists) {
  int64_t chunks = 0;
  for (int64_t i = 0; i < lists.count; ++i) chunks += chunks_of(lists.numels[i]);
  return chunks;
}

int32_t check(const Lists &lists) {
  int32_t status = ACCEL_OK;
  for (int32_t role = 0; status == ACCEL_OK && role < lists.roles; ++role)
    status = check_list(lists.at[role], lists.dtypes[role], lists.numels, lists.count);
  return status;
}

// The part of tensor i from chunk `chunk` on.
Slot slot_of(const Lists &lists, int64_t i, int64_t chunk) {
  Slot slot{};
  for (int32_t role = 0; role < lists.roles; ++role) {
    const int32_t dtype = lists.dtypes[role][i];
    slot.at[role] = address(lists.at[role][i]) + static_cast<uint64_t>(chunk * kChunk * (dtype == ACCEL_FLOAT32 ? 4 : 2));
    slot.dtypes |= static_cast<uint32_t>(dtype) << (8 * role);
  }
  slot.numel = std::min(lists.numels[i] - chunk * kChunk, kMostChunks * kChunk);
  return slot;
}

// Fills the table's slots and calls start(groups), for as many tensors at a time as it holds.
template <class Table, class Start>
void for_slots(Table &table, const Lists &lists, const Start &start) {
  int32_t used = 0;
  uint32_t groups = 0;
  const auto flush = [&] {
    // Slots that are not in use begin after every group.
    for (int32_t j = used; j < kBatch; ++j) table.slots[j].first_group = UINT32_MAX;
    if (used) start(groups);
    groups = 0;
    used = 0;
  };
  for (int64_t i = 0; i < lists.count; ++i) {
    for (int64_t chunk = 0; chunk < chunks_of(lists.numels[i]); chunk += kMostChunks) {
      if (used == kBatch) flush();
      Slot &slot = table.slots[used++] = slot_of(lists, i, chunk);
      slot.first_group = groups;
      groups += static_cast<uint32_t>(chunks_of(slot.numel));
    }
  }
  flush();
}

const std::vector<sycl::kernel> &kernels_for(const sycl::queue &queue) {
  static Program *const program =
      new Program(common_source() + kTables + kKernels,
                  {"chunk_sums", "tensor_sums", "total_sum", "scale_lists", "axpby_lists", "clip_lists"});
  return program->kernels_for(queue);
}

void add_all(sycl::queue &queue, const Sums &sums, const Lists &list) {
  const std::vector<sycl::kernel> &kernels = kernels_for(queue);
  ChunkTable chunks{sums, 0, {}};
  for_slots(chunks, list, [&](uint32_t groups) {
    launch(queue, kernels[kChunkSums], groups, chunks);
    chunks.first_chunk += groups;
  });
  TensorTable tensors{sums, 0, {}};
  int64_t chunk = 0;
  for (int64_t first = 0; first < list.count; first += kSums) {
    const int64_t here = std::min<int64_t>(list.count - first, kSums);
    tensors.first_tensor = first;
    for (int64_t j = 0; j < here; ++j) {
      tensors.first_chunk[j] = chunk;
      chunk += chunks_of(list.numels[first + j]);
    }
    tensors.first_chunk[here] = chunk;
    launch(queue, kernels[kTensorSums], static_cast<uint32_t>(here), tensors);
  }
  launch(queue, kernels[kTotalSum], 1, Total{sums, list.count});
}

void work_all(sycl::queue &queue, Kernel which, const Work &work, const Lists &lists) {
  const sycl::kernel &kernel = kernels_for(queue)[which];
  WorkTable table{work, {}};
  for_slots(table, lists, [&](uint32_t groups) { launch(queue, kernel, groups, table); });
}

}  // namespace
}  // namespace accel

int32_t accel_multi_tensor_norm(int32_t *noop_flag, const void *const *tensors,
                                const float *inv_scale, float *norm, float *norms, double *workspace,
                                int32_t per_tensor, int32_t skip, const int64_t *numels,
                                int64_t count, const int32_t *dtypes, int64_t, int32_t flag_dtype,
                                void *stream) {
  using namespace accel;
  const Lists list = {{tensors}, {dtypes}, numels, count, 1};
  const int32_t status = check(list);
  if (status != ACCEL_OK) return status;
  if (!noop_flag || !norm || (count && (!workspace || (per_tensor && !norms)))) return ACCEL_BAD_ARGUMENT;
  if (flag_dtype != ACCEL_INT32) return ACCEL_BAD_DTYPE;
  const Sums sums = {address(workspace), address(workspace + all_chunks(list)), address(norm),
                     per_tensor ? address(norms) : 0, address(inv_scale), address(noop_flag), skip != 0};
  return guarded(stream, [&](sycl::queue &queue) { add_all(queue, sums, list); });
}

int32_t accel_multi_tensor_scale_(int32_t *noop_flag, const void *const *inputs,
                                  void *const *outputs, double scale, const int64_t *numels,
                                  int64_t count, const int32_t *input_dtypes,
                                  const int32_t *output_dtypes, int64_t, int32_t flag_dtype,
                                  void *stream) {
  using namespace accel;
  const Lists lists = {{inputs, outputs}, {input_dtypes, output_dtypes}, numels, count, 2};
  const int32_t status = check(lists);
  if (status != ACCEL_OK) return status;
  if (!noop_flag) return ACCEL_BAD_ARGUMENT;
  if (flag_dtype != ACCEL_INT32) return ACCEL_BAD_DTYPE;
  const Work work = {address(noop_flag), 0, static_cast<float>(scale), 0.0f, 0, 0};
  return guarded(stream, [&](sycl::queue &queue) { work_all(queue, kScale, work, lists); });
}

int32_t accel_multi_tensor_axpby_(int32_t *noop_flag, const void *const *xs, const void *const *ys,
                                  void *const *outputs, double a, double b, int64_t arg_to_check,
                                  const int64_t *numels, int64_t count, const int32_t *x_dtypes,
                                  const int32_t *y_dtypes, const int32_t *output_dtypes, int64_t,
                                  int32_t flag_dtype, void *stream) {
  using namespace accel;
  const Lists lists = {{xs, ys, outputs}, {x_dtypes, y_dtypes, output_dtypes}, numels, count, 3};
  const int32_t status = check(lists);
  if (status != ACCEL_OK) return status;
  if (!noop_flag || arg_to_check < -1 || arg_to_check > 1) return ACCEL_BAD_ARGUMENT;
  if (flag_dtype != ACCEL_INT32) return ACCEL_BAD_DTYPE;
  const Work work = {address(noop_flag), 0, static_cast<float>(a), static_cast<float>(b),
                     static_cast<int32_t>(arg_to_check), 0};
  return guarded(stream, [&](sycl::queue &queue) { work_all(queue, kAxpby, work, lists); });
}

int32_t accel_multi_tensor_clip_(void *const *tensors, float *norm, double *workspace, double max_norm,
                                 int32_t keep_nonfinite, const int64_t *numels, int64_t count,
                                 const int32_t *dtypes, int64_t, int32_t, void *stream) {
  using namespace accel;
  const Lists list = {{tensors}, {dtypes}, numels, count, 1};
  const int32_t status = check(list);
  if (status != ACCEL_OK) return status;
  if (!norm || (count && !workspace)) return ACCEL_BAD_ARGUMENT;
  const Sums sums = {address(workspace), address(workspace + all_chunks(list)), address(norm), 0, 0, 0, false};
  // A bound beyond float's range bounds as the largest float does: no finite norm is above it.
  constexpr double kMost = std::numeric_limits<float>::max();
  const double most = std::isfinite(max_norm) ? std::max(-kMost, std::min(max_norm, kMost)) : max_norm;
  const float bound = static_cast<float>(most);
  const float rest = std::isfinite(bound) ? static_cast<float>(most - static_cast<double>(bound)) : 0.0f;
  const Work work = {0, address(norm), bound, rest, 0, keep_nonfinite != 0};
  const Lists both = {{tensors, tensors}, {dtypes, dtypes}, numels, count, 2};
  return guarded(stream, [&](sycl::queue &queue) {
    add_all(queue, sums, list);
    work_all(queue, kClip, work, both);
  });
}
