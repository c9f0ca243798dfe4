// SPDX-License-Identifier: Apache-2.0
// Kernels as text, which libsycl compiles for a queue's device on first use, so that no SYCL compiler
// is needed. Included once per library; also defines the exports of every library.
#pragma once

#include <sycl/kernel_bundle.hpp>
#include <sycl/queue.hpp>
#include <sycl/version.hpp>

#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <vector>

#include "accel/abi.h"

// See common/shared.h. A kernel's parameters are 64-bit addresses and numbers.
#define ACCEL_ON_BOTH(name, ...) \
  __VA_ARGS__                    \
  static constexpr char name[] = #__VA_ARGS__ "\n";

#include "../common/random.h"
#include "../common/rounding.h"

namespace accel {

// The means of common/shared.h on a device.
static constexpr char kShared[] = R"sycl(
#include <sycl/builtins.hpp>
#define ACCEL_DEVICE inline
#define ACCEL_BOTH inline
#define ACCEL_COPY __builtin_memcpy
constexpr uint32_t kPayload16 = 0;
inline float root(float x) { return sycl::sqrt(x); }
inline float choose(uint32_t mask, float first, float second) { return mask ? first : second; }
)sycl";

static constexpr char kElements[] =
#include "elements.sycl"
    ;

ACCEL_ON_BOTH(kGroupText, enum Group : int32_t { kGroup = 256 };)  // work-items of a group

// The beginning of every source.
inline std::string common_source() {
  return std::string(kShared) + accel_random_text + kRoundingText + kElements + kGroupText;
}

// The limit on a kernel's parameters on Intel's GPUs.
constexpr size_t kParameterBytes = 2048;

inline uint64_t address(const void *pointer) { return reinterpret_cast<uintptr_t>(pointer); }

// The reason for the last ACCEL_DEVICE_ERROR of this thread.
inline std::string &last_error() {
  thread_local std::string text;
  return text;
}

// One source with its kernels, built once for each context and device. Never destroyed: libsycl may
// be gone by then.
class Program {
 public:
  Program(std::string source, std::vector<std::string> names)
      : source_(std::move(source)), names_(std::move(names)) {}

  // The kernels in the order of their names. Throws sycl::exception with the compiler's output.
  const std::vector<sycl::kernel> &kernels_for(const sycl::queue &queue) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const sycl::context context = queue.get_context();
    const sycl::device device = queue.get_device();
    for (const auto &built : built_)
      if (built->context == context && built->device == device) return built->kernels;
    built_.push_back(std::make_unique<Built>(build(context, device)));
    return built_.back()->kernels;
  }

 private:
  struct Built {
    sycl::context context;
    sycl::device device;
    std::vector<sycl::kernel> kernels;
  };

  Built build(const sycl::context &context, const sycl::device &device) const {
    namespace syclex = sycl::ext::oneapi::experimental;
    auto bundle =
        syclex::create_kernel_bundle_from_source(context, syclex::source_language::sycl, source_);
    // Without contraction a device gives the bits of the CPU.
    std::vector<std::string> options = {"-fno-fast-math", "-ffp-contract=off"};
    // libsycl.so.8 links device libraries that its wheel does not have, and nothing here calls.
    if (__LIBSYCL_MAJOR_VERSION < 9) options.push_back("-fno-sycl-device-lib=all");
    auto executable = syclex::build(bundle, std::vector<sycl::device>{device},
                                          syclex::properties{syclex::build_options{options}});
    Built built{context, device, {}};
    for (const std::string &name : names_) built.kernels.push_back(executable.ext_oneapi_get_kernel(name));
    return built;
  }

  const std::string source_;
  const std::vector<std::string> names_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Built>> built_;
};

template <class Table>
void launch(sycl::queue &queue, const sycl::kernel &kernel, uint32_t groups, const Table &table) {
  static_assert(sizeof(Table) <= kParameterBytes, "the table does not fit into a kernel's parameters");
  queue.submit([&](sycl::handler &handler) {
    handler.set_args(table);
    handler.parallel_for(sycl::nd_range<1>(size_t{groups} * kGroup, kGroup), kernel);
  });
}

// The groups of a launch over so many items, whose groups go on at a stride: work-items stay below the
// 2^31 that kernels can count.
inline uint32_t groups_for(int64_t items, int64_t per_group) {
  const int64_t wanted = items / per_group + (items % per_group != 0);
  return static_cast<uint32_t>(wanted < 1 << 20 ? wanted : 1 << 20);
}

// Runs `body(queue)` on torch's queue and turns exceptions into an accel_status.
template <class Body>
int32_t guarded(void *stream, const Body &body) {
  if (!stream) return ACCEL_BAD_ARGUMENT;
  sycl::queue &queue = *static_cast<sycl::queue *>(stream);
  try {
    // The queue alone orders launches and torch's work before and after them.
    if (!queue.is_in_order()) return ACCEL_UNSUPPORTED;
    body(queue);
    return ACCEL_OK;
  } catch (const std::bad_alloc &) {
    return ACCEL_NO_MEMORY;
  } catch (const sycl::exception &error) {
    last_error() = error.what();
    return ACCEL_DEVICE_ERROR + error.code().value();
  } catch (const std::exception &error) {
    last_error() = error.what();
    return ACCEL_DEVICE_ERROR;
  }
}

// Launches kernel `which` of the program that make() makes, over so many items.
template <class Make, class Table>
int32_t run_over(const Make &make, int which, int64_t items, int64_t per_group, const Table &table, void *stream) {
  if (items == 0) return ACCEL_OK;
  return guarded(stream, [&](sycl::queue &queue) {
    static Program *const program = make();
    launch(queue, program->kernels_for(queue)[which], groups_for(items, per_group), table);
  });
}

}  // namespace accel

#define ACCEL_DEVICE_WORDS(status) accel::last_error().c_str()
#include "accel/op.h"
