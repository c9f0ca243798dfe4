// An optimizer's step on the simulated device: the CPU's kernel, run later by the stream's thread.
// OPTIMIZER is its name, such as adam. A flag renames the CPU's entry point from accel_adam_step,
// here and in its source, so that the name is free for the one below.
#include <cstdint>
#include <vector>

#define TEXT_(tokens) #tokens
#define TEXT(tokens) TEXT_(tokens)
#define JOIN_(left, middle, right) left##middle##right
#define JOIN(left, middle, right) JOIN_(left, middle, right)

#include TEXT(accel/OPTIMIZER.h)
#include "sim.h"

using Args = JOIN(accel_, OPTIMIZER, _args);

namespace {

// The arrays lie on the caller's side and are gone when the work runs. In every struct they are the
// pointers from `numels` up to `grad_scale`, to `count` entries of eight bytes.
struct Work {
  Args args;
  std::vector<std::vector<int64_t>> arrays;

  explicit Work(const Args &given) : args(given) {
    auto *slot = reinterpret_cast<const int64_t **>(&args.numels);
    auto *end = reinterpret_cast<const int64_t **>(&args.grad_scale);
    for (; slot != end; ++slot) {
      if (*slot == nullptr) continue;
      arrays.emplace_back(*slot, *slot + args.count);
      *slot = arrays.back().data();
    }
  }
};

void run(void *argument) {
  auto *work = static_cast<Work *>(argument);
  JOIN(accel_, OPTIMIZER, _step)(&work->args, nullptr);
  delete work;
}

}  // namespace

ACCEL_EXPORT int32_t late_step(const Args *args, void *stream)
    __asm__("accel_" TEXT(OPTIMIZER) "_step");

int32_t late_step(const Args *args, void *stream) {
  auto *queue = static_cast<sim_stream *>(stream);
  queue->launch(queue, run, new Work(*args));
  return ACCEL_OK;
}
