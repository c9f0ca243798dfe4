// SPDX-License-Identifier: Apache-2.0
// Norms, scaling and sums over lists of tensors on CUDA devices: see accel/multi_tensor.h for the
// arithmetic. Nothing waits for the device. A block adds up one chunk, in an order of its own; chunks and
// tensors are added up in a fixed order.

#include <cmath>

#include "../../common/lists.h"
#include "accel/multi_tensor.h"
#include "elements.h"
#include "pieces.h"
#include "status.h"

namespace accel {
namespace {

static_assert(kChunk == ACCEL_LISTS_CHUNK, "a block has one chunk");

constexpr int kVector = 8;  // elements of one access of 16 bytes, two for float32

// The tensors of one launch, each role with element types of its own.
template <int ROLES, int CAPACITY>
struct Typed {
  Tensors<ROLES, CAPACITY> tensors;
  uint8_t dtypes[ROLES][CAPACITY];
};

template <int ROLES>
constexpr int typed_capacity(int64_t bytes) {
  return static_cast<int>((bytes - 128) / (16 + 9 * ROLES));
}

template <int ROLES>
struct Lists {
  void *const *at[ROLES];
  const int32_t *dtypes[ROLES];
};

ACCEL_DEVICE bool is_finite(float x) { return x - x == 0.0f; }

// Adds up `x` of all threads of a block in a fixed order. True on the thread that has the sum then.
#if defined(ACCEL_HOST_BUILD)
inline bool has_sum(double x, double *sum) {
  static thread_local double total;
  total = thread_index() == 0 ? x : total + x;
  *sum = total;
  return thread_index() == static_cast<uint32_t>(kThreads) - 1;
}
#else
__device__ __forceinline__ bool has_sum(double x, double *sum) {
  __shared__ double of_thread[kThreads];
  of_thread[threadIdx.x] = x;
  __syncthreads();
#pragma unroll
  for (int width = kThreads / 2; width > 0; width /= 2) {
    if (threadIdx.x < width) of_thread[threadIdx.x] += of_thread[threadIdx.x + width];
    __syncthreads();
  }
  *sum = of_thread[0];
  return threadIdx.x == 0;
}
#endif

// A call's sums on the device, and what becomes of them.
struct Sums {
  double *chunks, *tensors;
  float *norm, *norms;       // norms may be null
  const float *inv_scale;    // may be null
  int32_t *noop_flag;        // may be null
  bool skip;                 // whether a set flag stops the call

  ACCEL_DEVICE bool is_skipped() const { return skip && *noop_flag != 0; }
  ACCEL_DEVICE float norm_of(double squares) const {
    const double by = inv_scale ? fabs(static_cast<double>(*inv_scale)) : 1.0;
    return static_cast<float>(sqrt(squares) * by);
  }
};

template <int CAPACITY>
struct ChunkTable {
  static constexpr int kCapacity = CAPACITY;
  Typed<1, CAPACITY> typed;
  Sums sums;
  int64_t first_chunk;
};

struct SquaresBody {
  void *base;
  int32_t dtype;
  double sum;

  template <int N>
  ACCEL_DEVICE void at(int64_t i) {
    float x[N];
    load(Any(), dtype, base, i, x);
    ACCEL_UNROLL
    for (int k = 0; k < N; ++k) sum += static_cast<double>(x[k]) * static_cast<double>(x[k]);
  }
};

template <int CAPACITY>
ACCEL_KERNEL chunk_kernel(const ACCEL_KERNEL_CONSTANT ChunkTable<CAPACITY> table) {
  if (table.sums.is_skipped()) return;
  const Tensors<1, CAPACITY> &tensors = table.typed.tensors;
  const Piece piece = piece_of(tensors, block_index());
  SquaresBody body{tensors.at[0][piece.slot], table.typed.dtypes[0][piece.slot], 0.0};
  for_share<kVector>(piece.begin, piece.end, is_aligned(tensors, piece.slot, 1), body);
  double sum;
  if (has_sum(body.sum, &sum)) table.sums.chunks[table.first_chunk + block_index()] = sum;
}

// One block a tensor, the empty ones too.
template <int CAPACITY>
struct TensorTable {
  Sums sums;
  int64_t first_tensor;
  int64_t first_chunk[CAPACITY + 1];  // the last one is the end
};

template <int CAPACITY>
ACCEL_KERNEL tensor_kernel(const ACCEL_KERNEL_CONSTANT TensorTable<CAPACITY> table) {
  const uint32_t j = block_index();
  const int64_t tensor = table.first_tensor + j;
  const bool skipped = table.sums.is_skipped();
  double own = 0.0, sum;
  if (!skipped)
    for (int64_t i = table.first_chunk[j] + thread_index(); i < table.first_chunk[j + 1]; i += kThreads)
      own += table.sums.chunks[i];
  if (!has_sum(own, &sum)) return;
  table.sums.tensors[tensor] = sum;
  if (table.sums.norms) table.sums.norms[tensor] = table.sums.norm_of(sum);
}

struct Total {
  Sums sums;
  int64_t count;
};

// One block. No tensor's norm is larger than that of all, which is not finite if one of them is not.
ACCEL_KERNEL total_kernel(const ACCEL_KERNEL_CONSTANT Total total) {
  const Sums &sums = total.sums;
  double own = 0.0, sum;
  for (int64_t i = thread_index(); i < total.count; i += kThreads) own += sums.tensors[i];
  if (!has_sum(own, &sum)) return;
  *sums.norm = sums.norm_of(sum);
  if (sums.noop_flag && !is_finite(*sums.norm)) *sums.noop_flag = 1;
}

// Fills the table's types and launches, for as many tensors at a time as it holds.
template <int ROLES, class Table, class Launch>
int32_t for_typed(Table &table, Typed<ROLES, Table::kCapacity> &typed, const Lists<ROLES> &lists,
                  const int64_t *numels, int64_t count, const Launch &start) {
  const auto place = [&](int role, int64_t i) { return lists.at[role][i]; };
  const auto flush = [&](const Tensors<ROLES, Table::kCapacity> &tensors, int64_t blocks) {
    for (int role = 0; role < ROLES; ++role)
      for (int32_t j = 0; j < tensors.count; ++j)
        typed.dtypes[role][j] = static_cast<uint8_t>(lists.dtypes[role][tensors.index[j]]);
    return start(table, blocks);
  };
  return for_launches(typed.tensors, numels, count, place, flush);
}

template <int CAPACITY>
int32_t add_chunks(const Sums &sums, const Lists<1> &list, const int64_t *numels, int64_t count,
                   Stream stream) {
  using Table = ChunkTable<CAPACITY>;
  Table table;
  table.sums = sums;
  table.first_chunk = 0;
  const auto start = [&](Table &given, int64_t blocks) {
    const int32_t status = launch(chunk_kernel<CAPACITY>, blocks, stream, given);
    given.first_chunk += blocks;
    return status;
  };
  return for_typed<1>(table, table.typed, list, numels, count, start);
}

int32_t add_all(const Sums &sums, const Lists<1> &list, const int64_t *numels, int64_t count,
                Stream stream) {
  constexpr int kFew = typed_capacity<1>(1024), kMany = typed_capacity<1>(kParameterBytes);
  int32_t status = count <= kFew ? add_chunks<kFew>(sums, list, numels, count, stream)
                                 : add_chunks<kMany>(sums, list, numels, count, stream);
  constexpr int kCapacity = static_cast<int>((kParameterBytes - 128) / 8);
  TensorTable<kCapacity> table;
  table.sums = sums;
  int64_t chunk = 0;
  for (int64_t first = 0; first < count && status == ACCEL_OK; first += kCapacity) {
    const int64_t here = count - first < kCapacity ? count - first : kCapacity;
    table.first_tensor = first;
    for (int64_t j = 0; j < here; ++j) {
      table.first_chunk[j] = chunk;
      chunk += blocks_of(numels[first + j]);
    }
    table.first_chunk[here] = chunk;
    status = launch(tensor_kernel<kCapacity>, here, stream, table);
  }
  return status == ACCEL_OK ? launch(total_kernel, 1, stream, Total{sums, count}) : status;
}

// ---- What is written, element by element: `Work` says how.

struct ScaleWork {
  static constexpr int kRoles = 2;
  int32_t *noop_flag;
  float by;

  ACCEL_DEVICE bool begin(float *factor) const {
    *factor = by;
    return true;
  }
  ACCEL_DEVICE float run(float factor, const float *x, bool *finite) const {
    *finite = *finite && is_finite(x[0]);
    return x[0] * factor;
  }
};

struct ClipWork {
  static constexpr int kRoles = 2;
  int32_t *noop_flag;  // null
  const float *norm;
  double max_norm;
  bool keep_nonfinite;

  ACCEL_DEVICE bool begin(float *factor) const {
    *factor = accel_clip_coefficient(*norm, max_norm);
    return *factor != 1.0f && !(keep_nonfinite && !is_finite(*norm));
  }
  ACCEL_DEVICE float run(float factor, const float *x, bool *) const { return x[0] * factor; }
};

struct AxpbyWork {
  static constexpr int kRoles = 3;
  int32_t *noop_flag;
  float a, b;
  int32_t arg_to_check;

  ACCEL_DEVICE bool begin(float *factor) const {
    *factor = a;
    return true;
  }
  ACCEL_DEVICE float run(float factor, const float *x, bool *finite) const {
    if (arg_to_check != 1) *finite = *finite && is_finite(x[0]);
    if (arg_to_check != 0) *finite = *finite && is_finite(x[1]);
    return factor * x[0] + b * x[1];
  }
};

template <class Work, int CAPACITY>
struct WorkTable {
  static constexpr int kCapacity = CAPACITY;
  Typed<Work::kRoles, CAPACITY> typed;
  Work work;
};

template <class Work, int CAPACITY>
struct WorkBody {
  const WorkTable<Work, CAPACITY> &table;
  int32_t slot;
  float factor;
  bool finite;

  template <int N>
  ACCEL_DEVICE void at(int64_t i) {
    constexpr int kRead = Work::kRoles - 1;
    float x[kRead][N], out[N];
    ACCEL_UNROLL
    for (int r = 0; r < kRead; ++r) load(Any(), table.typed.dtypes[r][slot], place(r), i, x[r]);
    ACCEL_UNROLL
    for (int k = 0; k < N; ++k) {
      float own[kRead];
      ACCEL_UNROLL
      for (int r = 0; r < kRead; ++r) own[r] = x[r][k];
      out[k] = table.work.run(factor, own, &finite);
    }
    store(Any(), table.typed.dtypes[kRead][slot], place(kRead), i, out, Rounding{false, 0});
  }

  ACCEL_DEVICE void *place(int role) const { return table.typed.tensors.at[role][slot]; }
};

template <class Work, int CAPACITY>
ACCEL_KERNEL work_kernel(const ACCEL_KERNEL_CONSTANT WorkTable<Work, CAPACITY> table) {
  float factor;
  if (!table.work.begin(&factor)) return;
  const auto &tensors = table.typed.tensors;
  const Piece piece = piece_of(tensors, block_index());
  WorkBody<Work, CAPACITY> body{table, piece.slot, factor, true};
  for_share<kVector>(piece.begin, piece.end, is_aligned(tensors, piece.slot, Work::kRoles), body);
  if (!body.finite) *table.work.noop_flag = 1;
}

template <class Work, int CAPACITY>
int32_t work_as(const Work &work, const Lists<Work::kRoles> &lists, const int64_t *numels,
                int64_t count, Stream stream) {
  WorkTable<Work, CAPACITY> table;
  table.work = work;
  const auto start = [&](const WorkTable<Work, CAPACITY> &given, int64_t blocks) {
    return launch(work_kernel<Work, CAPACITY>, blocks, stream, given);
  };
  return for_typed<Work::kRoles>(table, table.typed, lists, numels, count, start);
}

template <class Work>
int32_t work_all(const Work &work, const Lists<Work::kRoles> &lists, const int64_t *numels,
                 int64_t count, Stream stream) {
  constexpr int kFew = typed_capacity<Work::kRoles>(1024);
  constexpr int kMany = typed_capacity<Work::kRoles>(kParameterBytes);
  return count <= kFew ? work_as<Work, kFew>(work, lists, numels, count, stream)
                       : work_as<Work, kMany>(work, lists, numels, count, stream);
}

template <int ROLES>
int32_t check(const Lists<ROLES> &lists, const int64_t *numels, int64_t count) {
  int32_t status = ACCEL_OK;
  for (int role = 0; status == ACCEL_OK && role < ROLES; ++role)
    status = check_list(lists.at[role], lists.dtypes[role], numels, count);
  return status;
}

void *const *writable(const void *const *at) { return const_cast<void *const *>(at); }

int64_t chunks_of(const int64_t *numels, int64_t count) {
  int64_t chunks = 0;
  for (int64_t i = 0; i < count; ++i) chunks += blocks_of(numels[i]);
  return chunks;
}

}  // namespace
}  // namespace accel

int32_t accel_multi_tensor_norm(int32_t *noop_flag, const void *const *tensors,
                                const float *inv_scale, float *norm, float *norms, double *workspace,
                                int32_t per_tensor, int32_t skip, const int64_t *numels,
                                int64_t count, const int32_t *dtypes, int64_t, int32_t flag_dtype,
                                void *stream) {
  using namespace accel;
  const Lists<1> list = {{writable(tensors)}, {dtypes}};
  const int32_t status = check(list, numels, count);
  if (status != ACCEL_OK) return status;
  if (!noop_flag || !norm || (count && (!workspace || (per_tensor && !norms)))) return ACCEL_BAD_ARGUMENT;
  if (flag_dtype != ACCEL_INT32) return ACCEL_BAD_DTYPE;
  const Sums sums = {workspace, workspace + chunks_of(numels, count), norm, per_tensor ? norms : nullptr,
                     inv_scale, noop_flag, skip != 0};
  return add_all(sums, list, numels, count, static_cast<Stream>(stream));
}

int32_t accel_multi_tensor_scale_(int32_t *noop_flag, const void *const *inputs,
                                  void *const *outputs, double scale, const int64_t *numels,
                                  int64_t count, const int32_t *input_dtypes,
                                  const int32_t *output_dtypes, int64_t, int32_t flag_dtype,
                                  void *stream) {
  using namespace accel;
  const Lists<2> lists = {{writable(inputs), outputs}, {input_dtypes, output_dtypes}};
  const int32_t status = check(lists, numels, count);
  if (status != ACCEL_OK) return status;
  if (!noop_flag) return ACCEL_BAD_ARGUMENT;
  if (flag_dtype != ACCEL_INT32) return ACCEL_BAD_DTYPE;
  const ScaleWork work = {noop_flag, static_cast<float>(scale)};
  return work_all(work, lists, numels, count, static_cast<Stream>(stream));
}

int32_t accel_multi_tensor_axpby_(int32_t *noop_flag, const void *const *xs, const void *const *ys,
                                  void *const *outputs, double a, double b, int64_t arg_to_check,
                                  const int64_t *numels, int64_t count, const int32_t *x_dtypes,
                                  const int32_t *y_dtypes, const int32_t *output_dtypes, int64_t,
                                  int32_t flag_dtype, void *stream) {
  using namespace accel;
  const Lists<3> lists = {{writable(xs), writable(ys), outputs}, {x_dtypes, y_dtypes, output_dtypes}};
  const int32_t status = check(lists, numels, count);
  if (status != ACCEL_OK) return status;
  if (!noop_flag || arg_to_check < -1 || arg_to_check > 1) return ACCEL_BAD_ARGUMENT;
  if (flag_dtype != ACCEL_INT32) return ACCEL_BAD_DTYPE;
  const AxpbyWork work = {noop_flag, static_cast<float>(a), static_cast<float>(b),
                          static_cast<int32_t>(arg_to_check)};
  return work_all(work, lists, numels, count, static_cast<Stream>(stream));
}

int32_t accel_multi_tensor_clip_(void *const *tensors, float *norm, double *workspace, double max_norm,
                                 int32_t keep_nonfinite, const int64_t *numels, int64_t count,
                                 const int32_t *dtypes, int64_t, int32_t, void *stream) {
  using namespace accel;
  const Lists<1> list = {{tensors}, {dtypes}};
  int32_t status = check(list, numels, count);
  if (status != ACCEL_OK) return status;
  if (!norm || (count && !workspace)) return ACCEL_BAD_ARGUMENT;
  const Stream on = static_cast<Stream>(stream);
  const Sums sums = {workspace, workspace + chunks_of(numels, count), norm, nullptr, nullptr, nullptr, false};
  status = add_all(sums, list, numels, count, on);
  if (status != ACCEL_OK) return status;
  const Lists<2> both = {{tensors, tensors}, {dtypes, dtypes}};
  return work_all(ClipWork{nullptr, norm, max_norm, keep_nonfinite != 0}, both, numels, count, on);
}
