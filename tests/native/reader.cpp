// SPDX-License-Identifier: Apache-2.0
// A call's lists looked at, with an interpreter of a page: references are given back, and nothing is
// touched beyond table and room, whatever is unusual and wherever it stands.
#include <deque>
#include <functional>
#include <memory>

#include "lists/reader.h"

#include "drive.h"

struct Object {
  Object *type = nullptr;
  int64_t references = 1;
  Object *grad = nullptr, *requires_grad = nullptr, *negated = nullptr, *version = nullptr, *offset = nullptr;
  accel_dl_tensor tensor = {};
  std::vector<int64_t> shape, strides;
  bool unreadable = false;
  std::vector<Object *> values;
};

static Object tensor_type, parameter_type, other_type, none, no, yes, one, three;
static Object grad_name, requires_grad_name, version_name, is_neg, storage_offset;
static int64_t errors = 0;

static Object &at(void *object) { return *static_cast<Object *>(object); }

static void *new_reference(Object *object) {
  if (!object) return --errors, nullptr;
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
  const Object &of = at(object);
  return new_reference(name == &grad_name ? of.grad : name == &version_name ? of.version : of.requires_grad);
}

static void *call(void *function, void *const *arguments, uintptr_t count, void *) {
  REQUIRE((function == &is_neg || function == &storage_offset) && count == 1);
  return new_reference(function == &is_neg ? at(arguments[0]).negated : at(arguments[0]).offset);
}

static void *type_of(void *object) { return new_reference(at(object).type); }

static void *item_of_list(void *list, intptr_t index) {
  const auto &values = at(list).values;
  if (static_cast<size_t>(index) >= values.size()) return --errors, nullptr;
  return values[static_cast<size_t>(index)];
}

static int32_t put(void *list, intptr_t index, void *object) {
  Object *&place = at(list).values[static_cast<size_t>(index)];
  --place->references;
  place = static_cast<Object *>(object);
  return 0;
}

static void let_go(void *object) {
  --at(object).references;
  REQUIRE(at(object).references > 0);
}

static int64_t as_integer(void *object) { return object == &three ? 3 : -1; }

static void forget_error() { errors = 0; }

constexpr int64_t kTensors = 9;
static int64_t memory[3][kTensors * 8];

// Lists of tensors of 2 x 3, float32, bfloat16 and float16 in turn, in memory of their own.
struct Program {
  explicit Program(int64_t count) : lists(static_cast<size_t>(count)) {
    for (size_t k = 0; k < lists.size(); ++k) {
      for (int64_t i = 0; i < kTensors; ++i) lists[k].values.push_back(&tensor(memory[k] + i * 8, (i + 1) % 3));
      all.values.push_back(&lists[k]);
    }
    python = {sizeof python, read, attribute, call, type_of, item_of_list, nullptr, nullptr, nullptr,
              let_go, as_integer, forget_error, &none, &no, &tensor_type, &parameter_type, nullptr,
              &grad_name, &requires_grad_name, &is_neg, &storage_offset};
    given = {sizeof given, &python, put, &version_name, count, kTensors, 1u << (count - 1), (1u << (count - 1)) - 1,
             0, 1u << (count - 1), 0, 0, 1, 0};
  }

  Object &tensor(void *data, int64_t kind) {
    Object &made = objects.emplace_back();
    made.type = &tensor_type;
    made.negated = made.requires_grad = &no;
    made.version = &one;
    made.tensor = {data, 1, 0, 0, static_cast<uint8_t>(kind == 1 ? 4 : 2), static_cast<uint8_t>(kind ? 16 : 32),
                   1, nullptr, nullptr, 0};
    made.shape = {2, 3};
    made.strides = {3, 1};
    return made;
  }

  Object &of(size_t list, size_t place) { return *lists[list].values[place]; }

  int32_t run(Object *sources = &none) {
    const auto count = static_cast<size_t>(given.lists * given.count);
    table.reset(new int64_t[count + static_cast<size_t>(given.count) + (count + 1) / 2]);
    std::unique_ptr<int64_t[]> room(new int64_t[2 * static_cast<size_t>(given.count) + 6 * (count + 1)]);
    const int32_t status = accel_read_lists(&given, sources, &all, table.get(), room.get());
    REQUIRE(errors == 0);
    for (const Object &object : objects) REQUIRE(object.references == 1);
    return status;
  }

  std::deque<Object> objects;
  std::vector<Object> lists;
  Object all;
  accel_python python;
  accel_read given;
  std::unique_ptr<int64_t[]> table;
};

static void usual() {
  for (int64_t count : {1, 2, 3}) {
    Program program(count);
    REQUIRE(program.run() == ACCEL_OK);
    for (int64_t i = 0; i < kTensors; ++i) {
      REQUIRE(program.table[static_cast<size_t>((count - 1) * kTensors + i)] ==
              reinterpret_cast<int64_t>(memory[count - 1] + i * 8));
      REQUIRE(program.table[static_cast<size_t>(count * kTensors + i)] == 6);
    }
    program.given.detached = 7;
    for (size_t k = 0; k + 1 < static_cast<size_t>(count); ++k) program.of(k, 4).tensor = program.of(count - 1, 4).tensor;
    REQUIRE(program.run() == ACCEL_OK);  // in place
    program.given.in_place = 0;
    REQUIRE(program.run() == (count == 1 ? ACCEL_OK : ACCEL_UNSUPPORTED));
  }
}

static void unusual() {
  const std::function<void(Object &)> changes[] = {
      [](Object &t) { t.type = &other_type; },
      [](Object &t) { t.negated = &yes; },
      [](Object &t) { t.negated = nullptr; },
      [](Object &t) { t.requires_grad = &yes; },
      [](Object &t) { t.version = nullptr; },
      [](Object &t) { t.unreadable = true; },
      [](Object &t) { t.tensor.device_type = 2; },
      [](Object &t) { t.tensor.device_id = 1; },
      [](Object &t) { t.tensor.dtype_bits = 64; },
      [](Object &t) { t.tensor.dtype_lanes = 2; },
      [](Object &t) { t.strides = {1, 2}; },
      [](Object &t) { t.tensor.data = nullptr; },
      [](Object &t) { t.tensor.data = nullptr, t.tensor.byte_offset = 12, t.offset = &three; },
      [](Object &t) { t.shape = {3, 2}, t.strides = {2, 1}; },
      [](Object &t) { t.shape = {6}, t.strides = {1}; },
      [](Object &t) { t.tensor.byte_offset = 56; },
      [](Object &t) { t.tensor.data = memory[0]; },
  };
  for (const auto &change : changes)
    for (size_t place : {size_t{1}, size_t{kTensors - 2}}) {
      Program program(2);
      program.given.detached = 3;
      change(program.of(1, place));
      REQUIRE(program.run() == ACCEL_UNSUPPORTED);
    }
  Program program(2);
  program.given.apart_from = reinterpret_cast<int64_t>(memory[1] + 8);
  program.given.apart_to = program.given.apart_from + 4;
  REQUIRE(program.run() == ACCEL_UNSUPPORTED);
  program.lists[1].values.pop_back();
  REQUIRE(program.run() == ACCEL_UNSUPPORTED);
  program.given.struct_size -= 1;
  REQUIRE(program.run() == ACCEL_BAD_STRUCT);
}

// Gradients are put into the first list, which keeps them; a parameter without one ends the look.
static void gradients() {
  Program program(1);
  Object sources;
  std::vector<Object> params(kTensors);
  for (size_t i = 0; i < kTensors; ++i) {
    params[i].grad = &program.of(0, i);
    sources.values.push_back(&params[i]);
    program.lists[0].values[i] = &none;
  }
  std::unique_ptr<int64_t[]> table(new int64_t[kTensors * 3]), room(new int64_t[2 * kTensors + 6 * (kTensors + 1)]);
  const auto look = [&] { return accel_read_lists(&program.given, &sources, &program.all, table.get(), room.get()); };
  REQUIRE(look() == ACCEL_OK);
  for (size_t i = 0; i < kTensors; ++i)
    REQUIRE(program.lists[0].values[i] == params[i].grad && params[i].grad->references == 2);
  for (auto *&value : program.lists[0].values) --value->references, value = &none;
  none.type = &other_type;
  params[5].grad = &none;
  REQUIRE(look() == ACCEL_UNSUPPORTED && errors == 0);
  params[5].grad = nullptr;
  REQUIRE(look() == ACCEL_UNSUPPORTED && errors == 0);
}

// Against every pair of blocks, for many small programs.
static void overlaps() {
  uint32_t seed = 1;
  for (int turn = 0; turn < 20000; ++turn) {
    std::vector<accel::Span> spans, room(8);
    bool apart = true;
    for (int i = 0; i < 2 + turn % 7; ++i) {
      seed = seed * 1664525u + 1013904223u;
      const int64_t from = seed >> 26, size = 1 + (seed >> 20 & 3);
      const accel::Span own = {from, from + size, seed >> 16 & 1};
      for (const accel::Span &other : spans)
        if ((own.written || other.written) && own.from < other.to && other.from < own.to) apart = false;
      spans.push_back(own);
    }
    const auto count = static_cast<int64_t>(spans.size());
    REQUIRE(accel::are_apart(accel::sorted(spans.data(), room.data(), count), count) == apart);
  }
}

int main() {
  usual();
  unusual();
  gradients();
  overlaps();
}
