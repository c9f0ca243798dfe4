// What torch asks a kind of device for: guard, hooks and generators.
#pragma once

#include <ATen/core/Generator.h>

namespace sim {

void register_runtime(c10::DeviceType type);
const at::Generator &default_generator(int device);

}  // namespace sim
