// SPDX-License-Identifier: Apache-2.0
// Requests that end otherwise than the kernel would have it, in builds for tests alone.
#pragma once

#include <stdint.h>

#ifdef ACCEL_IO_FAULTS
#include <errno.h>

#include "accel/abi.h"

namespace accel {

// By turns of 1 in so many requests; 0: never.
struct Faults {
  int64_t error, error_every, short_every, interrupt_every, seed;
};
inline Faults faults = {};

inline uint64_t fault_number() {
  const int64_t seed = __atomic_add_fetch(&faults.seed, 1, __ATOMIC_RELAXED);
  uint64_t x = static_cast<uint64_t>(seed) * 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

inline bool fault_turn(int64_t every) { return every && fault_number() % static_cast<uint64_t>(every) == 0; }

// Returns minus the errno with which a request is to end at once, or how many bytes it is to ask for.
inline int64_t faulty(int64_t length, bool direct) {
  if (fault_turn(faults.interrupt_every)) return -EINTR;
  if (fault_turn(faults.error_every)) return -faults.error;
  if (length < 2 || !fault_turn(faults.short_every)) return length;
  const int64_t some = 1 + static_cast<int64_t>(fault_number() % static_cast<uint64_t>(length - 1));
  // Mostly what a disk would do; sometimes what the kernel refuses.
  return direct && some > 4096 && some % 8 ? some / 4096 * 4096 : some;
}

}  // namespace accel

ACCEL_EXPORT void accel_io_faults(int64_t error, int64_t error_every, int64_t short_every, int64_t interrupt_every) {
  accel::faults = {error, error_every, short_every, interrupt_every, 0};
}
#else
namespace accel {
inline int64_t faulty(int64_t length, bool) { return length; }
}  // namespace accel
#endif
