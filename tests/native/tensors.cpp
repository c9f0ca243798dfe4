// SPDX-License-Identifier: Apache-2.0
// The loops over a library's tensors, with a library of a page: every gradient is taken or none.
#include <atomic>
#include <deque>

#include "drive.h"

struct Record;
using Handle = Record *;  // what a handle points to

struct Record {
  Handle own = this, grad = nullptr;
  float value = 0.0f;
  std::atomic<int> kept{0};
  bool requires_grad = false, negated = false, interpreted = false, contiguous = true;
  int32_t layout = 7, dtype = 3;
  int64_t numel = 1;
  void *address = &value;
};

static const Record &at(const void *handle) { return **static_cast<const Handle *>(handle); }
static const void *grad_of(const void *record) { return &static_cast<const Record *>(record)->grad; }
static bool requires_grad(const void *record) { return static_cast<const Record *>(record)->requires_grad; }
static bool is_negated(const void *handle) { return at(handle).negated; }
static bool is_interpreted(const void *handle) { return at(handle).interpreted; }

static int32_t is_defined(void *handle, bool *answer) {
  *answer = *static_cast<Handle *>(handle) != nullptr;
  return 0;
}
static int32_t is_contiguous(void *handle, bool *answer) {
  *answer = at(handle).contiguous;
  return 0;
}
static int32_t layout_of(void *handle, int32_t *layout) {
  *layout = at(handle).layout;
  return 0;
}
static int32_t dtype_of(void *handle, int32_t *dtype) {
  *dtype = at(handle).dtype;
  return 0;
}
static int32_t numel_of(void *handle, int64_t *numel) {
  *numel = at(handle).numel;
  return at(handle).numel < 0;
}
static int32_t address_of(void *handle, void **address) {
  *address = at(handle).address;
  return 0;
}
static int32_t keep(void *handle, void **kept) {
  Record *const record = *static_cast<Handle *>(handle);
  record->kept.fetch_add(1);
  *kept = new Handle(record);
  return 0;
}
static int32_t let_go(void *kept) {
  (*static_cast<Handle *>(kept))->kept.fetch_sub(1);
  delete static_cast<Handle *>(kept);
  return 0;
}

// An interpreter of a page: objects are addresses, lists and dictionaries vectors of them.
using Objects = std::vector<void *>;

static void *item_of(void *list, int64_t index) {
  return (*static_cast<Objects *>(list))[static_cast<size_t>(index)];
}

static int32_t next_entry(void *dictionary, int64_t *position, void **key, void **value) {
  const Objects &objects = *static_cast<Objects *>(dictionary);
  if (*position == static_cast<int64_t>(objects.size())) return 0;
  *key = nullptr;
  *value = objects[static_cast<size_t>((*position)++)];
  return 1;
}

constexpr int64_t kTensors = 1500;

class Library {
 public:
  Library() : params(kTensors), grads(kTensors), states(kTensors), dictionaries(kTensors) {
    for (int64_t i = 0; i < kTensors; ++i) {
      const auto n = static_cast<size_t>(i);
      // Every seventh has no gradient.
      params[n].grad = i % 7 ? &grads[n] : nullptr;
      list.push_back(&params[n]);
      handles.push_back(&params[n].own);
      numels.push_back(i % 7 ? 1 : -1);
      sizes.push_back(i % 7 ? 4 : 0);
      dtypes.push_back(3);
      expected.push_back(i % 7 ? reinterpret_cast<int64_t>(&grads[n].value) : 0);
      fixed.push_back(&states[n].own);
      fixed_at.push_back(reinterpret_cast<int64_t>(&states[n].value));
      for (size_t entry = 0; entry < n % 3; ++entry) {
        dictionaries[n].push_back(&states[n] + entry);
        values.push_back(&states[n] + entry);
      }
    }
    for (Objects &dictionary : dictionaries) at_dictionaries.push_back(&dictionary);
    addresses.assign(kTensors, 0);
    for (int64_t &address : addresses) slots.push_back(&address);
    was = list;
  }

  int32_t take(int32_t threads) {
    const accel_tensor_api api = {sizeof(accel_tensor_api), grad_of, requires_grad, is_negated,
                                  is_interpreted, is_defined, is_contiguous, layout_of, dtype_of,
                                  numel_of, address_of, keep, let_go, 7};
    std::vector<void *> kept(kTensors);
    const accel_snapshot snapshot = {
        sizeof(accel_snapshot), &api, next_entry, item_of, kTensors,
        static_cast<int64_t>(values.size()), kTensors, kTensors,
        static_cast<int64_t>(written_from.size()), at_dictionaries.data(), values.data(), fixed.data(),
        fixed_at.data(), was.data(), handles.data(), numels.data(), sizes.data(), dtypes.data(),
        slots.data(), kept.data(), written_from.data(), written_to.data()};
    const int32_t status = accel_take_grads(&snapshot, &list, threads);
    for (size_t i = 0; i < kept.size(); ++i) {
      REQUIRE((kept[i] != nullptr) == (status == ACCEL_OK && numels[i] >= 0));
      REQUIRE(grads[i].kept == (kept[i] != nullptr));
    }
    // What the step before has kept is let go.
    if (status == ACCEL_OK) {
      REQUIRE(accel_take_grads(&snapshot, &list, threads) == ACCEL_OK);
      for (const Record &grad : grads) REQUIRE(grad.kept <= 1);
    }
    accel_let_go(&api, kept.data(), kTensors);
    for (const Record &grad : grads) REQUIRE(grad.kept == 0);
    for (void *handle : kept) REQUIRE(handle == nullptr);
    return status;
  }

  std::deque<Record> params, grads, states;
  std::deque<Objects> dictionaries;
  Objects list, was, handles, fixed, values, at_dictionaries;
  std::vector<int64_t> numels, sizes, addresses, expected, fixed_at, written_from, written_to;
  std::vector<int64_t *> slots;
  std::vector<int32_t> dtypes;
};

template <class Spoil>
static void refuses(const Spoil &spoil) {
  for (int64_t index : {1, 751, 1499})
    for (int32_t threads : {1, 3}) {
      Library library;
      spoil(library, static_cast<size_t>(index));
      REQUIRE(library.take(threads) == ACCEL_UNSUPPORTED);
    }
}

static void takes(int32_t threads) {
  Library library;
  library.grads[8].numel = 0;
  library.grads[8].address = nullptr;
  library.numels[8] = library.sizes[8] = 0;
  library.expected[8] = 0;
  // Right before and right behind a gradient, and around one that has no bytes.
  const auto byte_of = [&](size_t i) { return reinterpret_cast<int64_t>(&library.grads[i].value); };
  library.written_from = {0, byte_of(9) - 4, byte_of(9) + 4};
  library.written_to = {1, byte_of(9), byte_of(9) + 8};
  REQUIRE(library.take(threads) == ACCEL_OK);
  REQUIRE(library.addresses == library.expected);
}

static void no_tensors() {
  accel_tensor_api api = {};
  accel_snapshot snapshot = {};
  snapshot.api = &api;
  snapshot.struct_size = sizeof snapshot;
  REQUIRE(accel_take_grads(&snapshot, nullptr, 3) == ACCEL_BAD_STRUCT);
  api.struct_size = sizeof api;
  REQUIRE(accel_take_grads(&snapshot, nullptr, 3) == ACCEL_OK);
  snapshot.struct_size += 8;
  REQUIRE(accel_take_grads(&snapshot, nullptr, 3) == ACCEL_BAD_STRUCT);
  REQUIRE(accel_take_grads(nullptr, nullptr, 3) == ACCEL_BAD_STRUCT);
}

int main() {
  for (int32_t threads : {1, 3}) takes(threads);
  from_many_threads([] { takes(3); });
  no_tensors();
  refuses([](Library &l, size_t i) { l.grads[i].requires_grad = true; });
  refuses([](Library &l, size_t i) { l.grads[i].negated = true; });
  refuses([](Library &l, size_t i) { l.grads[i].interpreted = true; });
  refuses([](Library &l, size_t i) { l.grads[i].contiguous = false; });
  refuses([](Library &l, size_t i) { l.grads[i].layout = 8; });
  refuses([](Library &l, size_t i) { l.grads[i].dtype = 4; });
  refuses([](Library &l, size_t i) { l.grads[i].numel = 2; });
  refuses([](Library &l, size_t i) { l.grads[i].numel = -1; });
  refuses([](Library &l, size_t i) { l.grads[i].address = nullptr; });
  refuses([](Library &l, size_t i) { l.params[i].grad = nullptr; });
  refuses([](Library &l, size_t i) { l.params[i - i % 7].grad = &l.grads[i]; });
  refuses([](Library &l, size_t i) { ++l.fixed_at[i]; });
  refuses([](Library &l, size_t i) { l.list[i] = &l.grads[i]; });
  refuses([](Library &l, size_t i) { l.dictionaries[i].push_back(&l); });
  refuses([](Library &l, size_t i) { l.dictionaries[i].back() = &l; });
  refuses([](Library &l, size_t i) { l.dictionaries[i].clear(); });
  refuses([](Library &l, size_t i) {
    l.written_from = {reinterpret_cast<int64_t>(&l.grads[i].value) + 3};
    l.written_to = {l.written_from[0] + 1};
  });
}
