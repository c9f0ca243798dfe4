// average += (1 - decay) * (value - average), on a stream of the simulated device.
#include <cstdint>
#include <new>

#include "sim.h"

namespace {

struct Work {
  float *average;
  const float *value;
  int64_t count;
  float weight;
};

void run(void *argument) {
  const Work *work = static_cast<Work *>(argument);
  for (int64_t i = 0; i < work->count; ++i)
    work->average[i] += work->weight * (work->value[i] - work->average[i]);
  delete work;
}

}  // namespace

// Both hold `count` adjacent float32 on the stream's device; returns 0, or 1 without memory.
extern "C" __attribute__((visibility("default"))) int32_t sim_moving_average(
    float *average, const float *value, int64_t count, double decay, void *stream) {
  Work *work = new (std::nothrow) Work{average, value, count, static_cast<float>(1.0 - decay)};
  if (work == nullptr) return 1;
  auto *queue = static_cast<sim_stream *>(stream);
  queue->launch(queue, run, work);
  return 0;
}
