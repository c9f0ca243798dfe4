// Memory of the simulated devices, and host memory that copies may read and write late.
#pragma once

#include <c10/core/CachingDeviceAllocator.h>

#include "driver.h"

namespace sim {

constexpr size_t kTotalMemory = size_t{8} << 30;  // bytes that each device claims to have

c10::DeviceAllocator *device_allocator(c10::DeviceType type);
c10::Allocator *pinned_allocator();
bool is_pinned(const void *pointer);
// Keeps the memory at a pointer from being handed out again before the stream's work so far is done.
void record_use(const void *pointer, Stream &stream);

}  // namespace sim
