// Queues on the SYCL CPU device, for tests: stand-ins for torch's.
#include <sycl/device_selector.hpp>
#include <sycl/properties/queue_properties.hpp>
#include <sycl/queue.hpp>

#define EXPORT extern "C" __attribute__((visibility("default")))

EXPORT void *queue_in_order() {
  return new sycl::queue(sycl::cpu_selector_v, sycl::property::queue::in_order());
}
EXPORT void *queue_out_of_order() { return new sycl::queue(sycl::cpu_selector_v); }
EXPORT void queue_wait(void *queue) { static_cast<sycl::queue *>(queue)->wait_and_throw(); }
