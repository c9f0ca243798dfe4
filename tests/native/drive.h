// SPDX-License-Identifier: Apache-2.0
// What the drivers share: tensors in memory of their exact size, and the arguments of every case.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <thread>
#include <vector>

#include "accel/cpu.h"
#include "team.h"

#define REQUIRE(condition)                                                       \
  do {                                                                           \
    if (!(condition)) {                                                          \
      std::fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);       \
      std::exit(1);                                                              \
    }                                                                            \
  } while (false)

constexpr int64_t kNumels[] = {0, 1, 15, 16, 17, 255, 256, 257, 1023, 1024, 1025, 0, 40000, 33};
constexpr int64_t kCount = sizeof kNumels / sizeof *kNumels;
// Of tensors in a longer list, and of parts that cross a multiple of 2^32.
constexpr uint32_t kNumbers[kCount] = {9, 7, 5, 3, 1, 0, 2, 4, 6, 8, 10, 12, 14, 0xFFFFFFFFu};
constexpr int64_t kFirst = (int64_t{1} << 32) - 700;
constexpr int64_t kStarts[kCount] = {0, 1, kFirst, 3, 4, 5, 6, 7, 8, kFirst, kFirst, 11, kFirst, 13};

inline int64_t bytes_of(int32_t dtype) { return dtype == ACCEL_FLOAT32 ? 4 : 2; }

// Memory of the exact size that is wanted: one element further, and the address sanitizer reports it.
template <class T>
std::unique_ptr<T[]> exactly(int64_t count) {
  return std::unique_ptr<T[]>(new T[static_cast<size_t>(count)]());
}

// Values of ordinary sizes, and NaN.
inline void fill(char *to, int64_t numel, int32_t dtype, uint32_t seed) {
  for (int64_t e = 0; e < numel; ++e) {
    seed = seed * 1664525u + 1013904223u;
    if (dtype == ACCEL_FLOAT32)
      reinterpret_cast<float *>(to)[e] = e % 97 ? static_cast<float>(static_cast<int32_t>(seed)) * 1e-9f : NAN;
    else  // any bits at all, NaN and infinity among them
      reinterpret_cast<uint16_t *>(to)[e] = static_cast<uint16_t>(seed >> 16);
  }
}

// A list of tensors, each in memory that ends with its last element and begins right before its
// first: one byte further, and the address sanitizer reports it.
class Tensors {
 public:
  explicit Tensors(int64_t element_bytes, bool per_tensor_one = false, int64_t count_each = 0) {
    for (int64_t i = 0; i < kCount; ++i) {
      const int64_t numel = per_tensor_one ? count_each : kNumels[i];
      const size_t size = static_cast<size_t>(numel * element_bytes);
      // Not a multiple of any vector's size.
      memory_.emplace_back(new char[size + 4]());
      pointers_.push_back(memory_.back().get() + (element_bytes == 4 ? 4 : 2));
    }
  }

  void **data() { return pointers_.data(); }
  char *operator[](int64_t i) { return static_cast<char *>(pointers_[static_cast<size_t>(i)]); }

  // Bit patterns that cover small, large and special values.
  void fill(uint32_t seed, int64_t element_bytes, bool positive = false) {
    for (int64_t i = 0; i < kCount; ++i)
      for (int64_t e = 0; e < kNumels[i]; ++e) {
        seed = seed * 1664525u + 1013904223u;
        if (element_bytes == 4) {
          const float value = static_cast<float>(static_cast<int32_t>(seed)) * 1e-9f;
          reinterpret_cast<float *>((*this)[i])[e] = positive ? value * value : value;
        } else {
          const uint16_t half = static_cast<uint16_t>((seed >> 16) & (positive ? 0x3FFFu : 0xBFFFu));
          reinterpret_cast<uint16_t *>((*this)[i])[e] = half;
        }
      }
  }

 private:
  std::vector<std::unique_ptr<char[]>> memory_;
  std::vector<void *> pointers_;
};

// Calls body(level, param dtype, grad dtype, state dtype, rounding, masters, threads).
template <class Body>
void every_case(const Body &body) {
  for (int32_t level = 0; level < 4; ++level) {
    if (accel_simd_force(level) != ACCEL_OK) continue;
    REQUIRE(accel_simd_level() == level);
    for (int32_t param = 0; param < 3; ++param)
      for (int32_t grad = 0; grad < 3; ++grad)
        for (int32_t state = 0; state < 3; state += 1 + (grad == 0))
          for (int32_t rounding = 0; rounding < 2; ++rounding)
            for (int32_t masters = 0; masters < 2; ++masters)
              body(param, grad, state, rounding, masters != 0, 1 + 2 * ((param + grad) % 2));
  }
}

// The fields that every struct has.
template <class Args>
void fill_common(Args &args, Tensors &params, Tensors &grads, Tensors *masters, Tensors *steps) {
  args.struct_size = sizeof args;
  args.count = kCount;
  args.numels = kNumels;
  args.tensor_numbers = kNumbers;
  args.first_elements = kStarts;
  args.params = params.data();
  args.grads = const_cast<const void *const *>(grads.data());
  args.masters = masters ? reinterpret_cast<float *const *>(masters->data()) : nullptr;
  args.steps = steps ? reinterpret_cast<float *const *>(steps->data()) : nullptr;
  args.lr = 1e-3;
  args.weight_decay = 0.1;
  args.step = 3;
  args.seed = 7;
}

// Refusals that all ops share; nothing may be read or written for them.
template <class Args>
void refuse_bad_arguments(int32_t (*step)(const Args *, void *), Args args) {
  const auto with = [&](auto change) {
    Args changed = args;
    change(changed);
    return step(&changed, nullptr);
  };
  REQUIRE(step(nullptr, nullptr) == ACCEL_BAD_ARGUMENT);
  REQUIRE(with([](Args &a) { a.struct_size -= 1; }) == ACCEL_BAD_STRUCT);
  REQUIRE(with([](Args &a) { a.count = -1; }) == ACCEL_BAD_ARGUMENT);
  REQUIRE(with([](Args &a) { a.params = nullptr; }) == ACCEL_BAD_ARGUMENT);
  REQUIRE(with([](Args &a) { a.numels = nullptr; }) == ACCEL_BAD_ARGUMENT);
  REQUIRE(with([](Args &a) { a.flags = 1u << 30; }) == ACCEL_BAD_ARGUMENT);
  REQUIRE(with([](Args &a) { a.rounding = 2; }) == ACCEL_BAD_ARGUMENT);
  REQUIRE(with([](Args &a) { a.param_dtype = 3; }) == ACCEL_BAD_DTYPE);
  REQUIRE(with([](Args &a) { a.num_threads = 0; }) == ACCEL_BAD_ARGUMENT);
  REQUIRE(with([](Args &a) { a.count = 0; }) == ACCEL_OK);
}

// Calls from several threads at once, each with tensors of its own, while the level changes.
template <class Run>
void from_many_threads(const Run &run) {
  std::vector<std::thread> threads;
  for (int number = 0; number < 4; ++number)
    threads.emplace_back([&run, number] {
      for (int round = 0; round < 3; ++round) {
        accel_simd_force((number + round) % 3);
        run();
      }
    });
  for (auto &thread : threads) thread.join();
}

// Calls run(dtype, threads) for every element type and `refusals` at each level of the processor, and
// then `run` from several threads.
template <class Run, class Refusals>
void at_every_level(const Run &run, const Refusals &refusals) {
  for (int32_t level = 0; level < 4; ++level) {
    if (accel_simd_force(level) != ACCEL_OK) continue;
    for (int32_t dtype = 0; dtype < 3; ++dtype) run(dtype, 1 + 2 * (dtype % 2));
    refusals();
  }
  from_many_threads([&run] { run(ACCEL_BFLOAT16, 3); });
}
