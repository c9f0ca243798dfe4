// Adam on the simulated device: the CPU's kernel, run later by the stream's thread.
#include <cstring>
#include <vector>

#include "accel/adam.h"  // declares the CPU's entry point, renamed by a flag
#include "sim.h"

#undef accel_adam_step

namespace {

// The arrays lie on the caller's side and are gone when the work runs.
struct Work {
  accel_adam_args args;
  std::vector<std::vector<char>> arrays;

  template <class T>
  void keep(const T *&array) {
    if (array == nullptr) return;
    const auto *bytes = reinterpret_cast<const char *>(array);
    arrays.emplace_back(bytes, bytes + sizeof(T) * static_cast<size_t>(args.count));
    array = reinterpret_cast<const T *>(arrays.back().data());
  }
};

void run(void *argument) {
  auto *work = static_cast<Work *>(argument);
  accel_cpu_adam_step(&work->args, nullptr);
  delete work;
}

}  // namespace

ACCEL_EXPORT int32_t accel_adam_step(const accel_adam_args *args, void *stream) {
  auto *work = new Work{*args, {}};
  accel_adam_args &kept = work->args;
  work->arrays.reserve(16);
  work->keep(kept.numels);
  work->keep(kept.params);
  work->keep(kept.grads);
  work->keep(kept.exp_avgs);
  work->keep(kept.exp_avg_sqs);
  work->keep(kept.max_exp_avg_sqs);
  work->keep(kept.masters);
  work->keep(kept.steps);
  auto *queue = static_cast<sim_stream *>(stream);
  queue->launch(queue, run, work);
  return ACCEL_OK;
}
