// SPDX-License-Identifier: Apache-2.0
// A step's tensors looked at, with an interpreter and a tensors' library of a page: all is kept or nothing.
#include <deque>
#include <memory>

#include "accel/tensors.h"
#include "drive.h"

// An object of whatever kind. Its references are counted: none may be lost or let go twice.
struct Object {
  Object *type = nullptr;
  int64_t references = 1;
  // Of a tensor:
  Object *grad = nullptr, *requires_grad = nullptr, *negated = nullptr, *offset = nullptr;
  accel_dl_tensor tensor = {};
  std::vector<int64_t> shape, strides;
  bool unreadable = false;
  // Of a list the values; of a dictionary the keys, too.
  std::vector<Object *> keys, values;
};

static Object tensor_type, parameter_type, dictionary_type, other_type, none, no, yes;
static Object grad_name, requires_grad_name, is_neg, storage_offset, eight, first_key, second_key, equal_key;
static int64_t errors = 0;

static Object &at(void *object) { return *static_cast<Object *>(object); }

static void *new_reference(Object *object) {
  ++object->references;
  return object;
}

static int32_t read(void *object, accel_dl_tensor *tensor) {
  if (at(object).unreadable) return --errors, -1;
  *tensor = at(object).tensor;
  tensor->ndim = static_cast<int32_t>(at(object).shape.size());
  tensor->shape = at(object).shape.data();
  tensor->strides = at(object).strides.data();
  return 0;
}

static void *attribute(void *object, void *name) {
  Object *const found = name == &grad_name ? at(object).grad : at(object).requires_grad;
  if (!found) return --errors, nullptr;
  return new_reference(found);
}

static void *call(void *function, void *const *arguments, uintptr_t count, void *) {
  REQUIRE((function == &is_neg || function == &storage_offset) && count == 1);
  Object *const found = function == &is_neg ? at(arguments[0]).negated : at(arguments[0]).offset;
  if (!found) return --errors, nullptr;
  return new_reference(found);
}

static void *type_of(void *object) { return new_reference(at(object).type); }

static void *item_of_list(void *list, intptr_t index) {
  const auto &values = at(list).values;
  if (static_cast<size_t>(index) >= values.size()) return --errors, nullptr;
  return values[static_cast<size_t>(index)];
}

static int32_t next_entry(void *dictionary, intptr_t *position, void **key, void **value) {
  const Object &all = at(dictionary);
  const auto place = static_cast<size_t>(*position);
  if (place >= all.keys.size()) return 0;
  *key = all.keys[place];
  *value = all.values[place];
  ++*position;
  return 1;
}

static void *item_of_dictionary(void *dictionary, void *key) {
  const Object &all = at(dictionary);
  for (size_t i = 0; i < all.keys.size(); ++i)
    if (all.keys[i] == key || (key == &second_key && all.keys[i] == &equal_key)) return all.values[i];
  return nullptr;
}

static void keep(void *object) { ++at(object).references; }

static void let_go(void *object) {
  --at(object).references;
  REQUIRE(at(object).references > 0);
}

static int64_t as_integer(void *object) {
  REQUIRE(object == &eight);
  return 8;
}

static void forget_error() { errors = 0; }

constexpr size_t kParams = 40;

// Parameters of 2 x 3 elements, a gradient each but every seventh, and states under two keys: one of the
// parameter's shape and one of a single element, which the fifths lack.
class Program {
 public:
  Program() : kept(kParams * 4), expected(kParams * 4), addresses(kParams * 4) {
    for (size_t i = 0; i < kParams; ++i) {
      Object &param = tensor({2, 3}, &parameter_type);
      params.values.push_back(&param);
      param.grad = i % 7 ? &tensor({2, 3}) : &none;
      Object &entry = made.emplace_back();
      entry.type = &dictionary_type;
      entry.keys = {&first_key};
      entry.values = {&tensor({2, 3})};
      if (i % 5) {
        entry.keys.push_back(&second_key);
        entry.values.push_back(&tensor({}));
      }
      states.keys.push_back(&param);
      states.values.push_back(&entry);
      places.push_back(static_cast<int64_t>(i));
      layout_at.push_back(0);
      devices.insert(devices.end(), {1, 0});
      expect(i);
    }
  }

  Object &tensor(std::vector<int64_t> shape, Object *type = &tensor_type) {
    Object &object = made.emplace_back();
    object.type = type;
    object.requires_grad = &no;
    object.negated = &no;
    object.shape = std::move(shape);
    object.strides.assign(object.shape.size(), 1);
    for (size_t d = object.shape.size(); d-- > 1;) object.strides[d - 1] = object.strides[d] * object.shape[d];
    object.tensor.device_type = 1;
    object.tensor.dtype_code = 2;
    object.tensor.dtype_bits = 32;
    object.tensor.dtype_lanes = 1;
    object.tensor.data = memory.emplace_back(new float[6]).get();
    object.tensor.byte_offset = 0;
    return object;
  }

  Object &param(size_t i) { return *params.values[i]; }
  Object &state(size_t i, size_t key) { return *states.values[i]->values[key]; }

  int32_t take() {
    const accel_python python = {
        sizeof(accel_python), read, attribute, call, type_of, item_of_list, item_of_dictionary,
        next_entry, keep, let_go, as_integer, forget_error, &none, &no, &tensor_type, &parameter_type,
        &dictionary_type, &grad_name, &requires_grad_name, &is_neg, &storage_offset};
    const accel_watch watch = {
        sizeof(accel_watch), &python, kParams, 2, static_cast<int64_t>(written_from.size()), keys,
        expected.data(), layout_at.data(), layouts, places.data(), devices.data(), written_from.data(),
        written_to.data(), kept.data()};
    int32_t status = ACCEL_OK;
    for (int again = 0; again < 2; ++again) {
      status = accel_watch_take(&watch, &params, &states);
      int64_t held = 0;
      for (Object &object : made) held += object.references - 1;
      int64_t wanted = 0;
      for (size_t i = 0; i < kParams; ++i) wanted += i % 7 ? i % 5 ? 4 : 3 : 0;
      REQUIRE(held == (status == ACCEL_OK ? wanted : 0));
      REQUIRE(errors == 0);
    }
    accel_watch_release(&watch);
    for (const Object &object : made) REQUIRE(object.references == 1);
    for (const Object *object : {&tensor_type, &dictionary_type, &none, &no, &yes, &eight}) REQUIRE(object->references == 1);
    return status;
  }

  std::deque<Object> made;
  std::deque<std::unique_ptr<float[]>> memory;
  Object params, states;
  std::vector<void *> kept;
  std::vector<accel_expected> expected;
  std::vector<int64_t> addresses, layout_at, places, written_from, written_to;
  std::vector<int32_t> devices;
  void *const keys[2] = {&first_key, &second_key};
  const int64_t layouts[5] = {2, 2, 3, 3, 1};

 private:
  void expect(size_t i) {
    if (i % 7 == 0) return;
    Object *const objects[] = {&param(i), param(i).grad, &state(i, 0), i % 5 ? &state(i, 1) : nullptr};
    for (size_t k = 0; k < 4; ++k) {
      if (!objects[k]) continue;
      addresses[4 * i + k] = reinterpret_cast<int64_t>(objects[k]->tensor.data);
      expected[4 * i + k] = {&addresses[4 * i + k], k == 3 ? 1 : -1, 2 | 32 << 8 | 1 << 16, k != 1};
    }
  }
};

template <class Spoil>
static void refuses(const Spoil &spoil) {
  for (size_t index : {size_t{1}, size_t{18}, kParams - 1}) {
    Program program;
    spoil(program, index);
    REQUIRE(program.take() == ACCEL_UNSUPPORTED);
  }
}

template <class Change>
static void takes(const Change &change) {
  for (size_t index : {size_t{1}, size_t{18}, kParams - 1}) {
    Program program;
    change(program, index);
    REQUIRE(program.take() == ACCEL_OK);
  }
}

template <class Spoil>
static void refuses_any_tensor(const Spoil &spoil) {
  refuses([&](Program &p, size_t i) { spoil(p.param(i)); });
  refuses([&](Program &p, size_t i) { spoil(*p.param(i).grad); });
  refuses([&](Program &p, size_t i) { spoil(p.state(i, 0)); });
  refuses([&](Program &p, size_t i) { spoil(p.state(i, 1)); });
}

static float elsewhere[6];

static void gradients_elsewhere() {
  Program program;
  program.param(9).grad->tensor.data = elsewhere;
  program.param(10).grad->tensor.byte_offset = 8;
  REQUIRE(program.take() == ACCEL_OK);
  REQUIRE(program.addresses[4 * 9 + 1] == reinterpret_cast<int64_t>(elsewhere));
  const int64_t start = reinterpret_cast<int64_t>(program.param(10).grad->tensor.data);
  REQUIRE(program.addresses[4 * 10 + 1] == start + 8);
}

static void no_tensors() {
  accel_python python = {};
  accel_watch watch = {};
  watch.python = &python;
  watch.struct_size = sizeof watch;
  REQUIRE(accel_watch_take(&watch, nullptr, nullptr) == ACCEL_BAD_STRUCT);
  python.struct_size = sizeof python;
  REQUIRE(accel_watch_take(&watch, nullptr, nullptr) == ACCEL_OK);
  watch.struct_size += 8;
  REQUIRE(accel_watch_take(&watch, nullptr, nullptr) == ACCEL_BAD_STRUCT);
  REQUIRE(accel_watch_take(nullptr, nullptr, nullptr) == ACCEL_BAD_STRUCT);
}

int main() {
  takes([](Program &, size_t) {});
  gradients_elsewhere();
  no_tensors();
  // What is allowed to change.
  takes([](Program &p, size_t i) { p.state(i, 1).shape = p.state(i, 1).strides = {1}; });
  takes([](Program &p, size_t i) { std::swap(p.states.values[i]->keys[0], p.states.values[i]->keys[1]);
                                   std::swap(p.states.values[i]->values[0], p.states.values[i]->values[1]); });
  takes([](Program &p, size_t i) { p.states.values[i]->keys[1] = &equal_key; });
  takes([](Program &p, size_t i) { p.states.values[i]->keys.insert(p.states.values[i]->keys.begin(), &other_type);
                                   p.states.values[i]->values.insert(p.states.values[i]->values.begin(), &other_type); });
  // An address of nothing, plus where the tensor begins in it.
  refuses([](Program &p, size_t i) { p.param(i).grad->tensor.data = reinterpret_cast<void *>(32);
                                     p.param(i).grad->offset = &eight; });
  refuses([](Program &p, size_t i) { p.param(i).grad->tensor.data = reinterpret_cast<void *>(32); });
  takes([](Program &p, size_t i) { p.param(i).grad->tensor.data = reinterpret_cast<void *>(36);
                                   p.param(i).grad->offset = &eight; });
  // What each tensor is watched for.
  refuses_any_tensor([](Object &o) { o.type = &other_type; });
  refuses_any_tensor([](Object &o) { o.negated = &yes; });
  refuses_any_tensor([](Object &o) { o.negated = nullptr; });
  refuses_any_tensor([](Object &o) { o.unreadable = true; });
  refuses_any_tensor([](Object &o) { o.tensor.dtype_bits = 64; });
  refuses_any_tensor([](Object &o) { o.tensor.dtype_code = 4; });
  refuses_any_tensor([](Object &o) { o.tensor.dtype_lanes = 2; });
  refuses_any_tensor([](Object &o) { o.tensor.device_type = 2; });
  refuses_any_tensor([](Object &o) { o.tensor.device_id = 1; });
  refuses_any_tensor([](Object &o) { o.tensor.data = nullptr; });
  refuses_any_tensor([](Object &o) { o.shape.push_back(2), o.strides.push_back(1); });
  const auto refuses_moved = [](auto of) { refuses([of](Program &p, size_t i) { of(p, i).tensor.data = elsewhere; }); };
  refuses_moved([](Program &p, size_t i) -> Object & { return p.param(i); });
  refuses_moved([](Program &p, size_t i) -> Object & { return p.state(i, 0); });
  refuses_moved([](Program &p, size_t i) -> Object & { return p.state(i, 1); });
  refuses([](Program &p, size_t i) { p.param(i).strides = {1, 2}; });
  refuses([](Program &p, size_t i) { p.param(i).grad->strides = {1, 2}; });
  refuses([](Program &p, size_t i) { p.param(i).shape = {3, 2}; });
  refuses([](Program &p, size_t i) { p.param(i).grad->shape = {2, 2}; });
  refuses([](Program &p, size_t i) { p.param(i).grad->requires_grad = &yes; });
  refuses([](Program &p, size_t i) { p.param(i).grad->requires_grad = nullptr; });
  refuses([](Program &p, size_t i) { p.param(i).grad = &none; });
  refuses([](Program &p, size_t i) { p.param(i).grad = nullptr; });
  refuses([](Program &p, size_t i) { p.param(i - i % 7).grad = p.param(i).grad; });
  refuses([](Program &p, size_t i) { std::swap(p.params.values[i], p.params.values[i - 1]); });
  refuses([](Program &p, size_t i) { p.params.values.resize(i); });
  refuses([](Program &p, size_t i) { p.states.values[i]->type = &other_type; });
  refuses([](Program &p, size_t i) { p.states.values[i]->keys.clear(), p.states.values[i]->values.clear(); });
  refuses([](Program &p, size_t i) { p.states.keys.resize(i), p.states.values.resize(i); });
  refuses([](Program &p, size_t i) {
    p.param(i).grad->tensor.data = elsewhere;
    p.written_from = {reinterpret_cast<int64_t>(elsewhere) + 20};
    p.written_to = {p.written_from[0] + 40};
  });
  takes([](Program &p, size_t i) {
    p.param(i).grad->tensor.data = elsewhere;
    p.written_from = {0, reinterpret_cast<int64_t>(elsewhere) + 24};
    p.written_to = {reinterpret_cast<int64_t>(elsewhere), p.written_from[1] + 40};
  });
}
