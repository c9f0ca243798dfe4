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

constexpr int64_t kTensors = 1500;

class Library {
 public:
  Library() : params(kTensors), grads(kTensors) {
    for (int64_t i = 0; i < kTensors; ++i) {
      const auto n = static_cast<size_t>(i);
      // Every seventh has no gradient.
      params[n].grad = i % 7 ? &grads[n] : nullptr;
      handles.push_back(&params[n].own);
      numels.push_back(i % 7 ? 1 : -1);
      dtypes.push_back(3);
      expected.push_back(i % 7 ? reinterpret_cast<int64_t>(&grads[n].value) : 0);
    }
  }

  int32_t take(int32_t threads) {
    const accel_tensor_api api = {sizeof(accel_tensor_api), grad_of, requires_grad, is_negated,
                                  is_interpreted, is_defined, is_contiguous, layout_of, dtype_of,
                                  numel_of, address_of, keep, let_go, 7};
    addresses.assign(kTensors, 0);
    std::vector<void *> kept(kTensors);
    const int32_t status = accel_take_grads(&api, handles.data(), numels.data(), dtypes.data(),
                                            kTensors, addresses.data(), kept.data(), threads);
    for (size_t i = 0; i < kept.size(); ++i) {
      REQUIRE((kept[i] != nullptr) == (status == ACCEL_OK && numels[i] >= 0));
      REQUIRE(grads[i].kept == (kept[i] != nullptr));
    }
    accel_let_go(&api, kept.data(), kTensors);
    for (const Record &grad : grads) REQUIRE(grad.kept == 0);
    for (void *handle : kept) REQUIRE(handle == nullptr);
    return status;
  }

  std::deque<Record> params, grads;
  std::vector<void *> handles;
  std::vector<int64_t> numels, addresses, expected;
  std::vector<int32_t> dtypes;
};

template <class Spoil>
static void refuses(const Spoil &spoil) {
  for (int64_t index : {1, 750, 1499})
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
  library.numels[8] = 0;
  library.expected[8] = 0;
  REQUIRE(library.take(threads) == ACCEL_OK);
  REQUIRE(library.addresses == library.expected);
}

static void watches(int32_t threads) {
  Library library;
  std::vector<int64_t> known;
  for (Record &param : library.params) known.push_back(reinterpret_cast<int64_t>(&param.value));
  const auto moved = [&] {
    return accel_any_moved(library.handles.data(), known.data(), kTensors, address_of, threads);
  };
  REQUIRE(moved() == 0);
  for (size_t index : {0, 750, 1499}) {
    ++known[index];
    REQUIRE(moved() == 1);
    --known[index];
  }
  REQUIRE(moved() == 0);
}

int main() {
  for (int32_t threads : {1, 3}) {
    takes(threads);
    watches(threads);
  }
  from_many_threads([] { takes(3); });
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
}
