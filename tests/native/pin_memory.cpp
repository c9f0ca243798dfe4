// SPDX-License-Identifier: Apache-2.0
// As much memory is locked as the limit allows, and no page twice.
#include "accel/io.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#define REQUIRE(condition) \
  do { \
    if (!(condition)) { \
      fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
      abort(); \
    } \
  } while (0)

int main() {
  const int64_t page = sysconf(_SC_PAGESIZE), size = 64 * page;
  void *const memory = mmap(nullptr, static_cast<size_t>(size), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  REQUIRE(memory != MAP_FAILED);
  REQUIRE(accel_pin_lock(nullptr, 1) < 0 && accel_pin_lock(memory, -1) < 0 && accel_pin_lock(memory, 0) == 0);
  const int64_t some = accel_pin_lock(memory, size);
  REQUIRE(some >= 0 && some <= size && (some == size || some % page == 0));
  REQUIRE(accel_pin_unlock(memory, some) == 0);
  rlimit none = {};
  REQUIRE(setrlimit(RLIMIT_MEMLOCK, &none) == 0);
  const int64_t now = accel_pin_lock(memory, size);
  REQUIRE(now == 0 || geteuid() == 0);
}
