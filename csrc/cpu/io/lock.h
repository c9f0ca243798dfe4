// SPDX-License-Identifier: Apache-2.0
// Memory locked as far as the process may.
#pragma once

#include <errno.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#include "accel/io.h"

int64_t accel_pin_lock(void *address, int64_t length) {
  if (!address || length < 0) return -EINVAL;
  const int64_t page = ::sysconf(_SC_PAGESIZE);
  char *const memory = static_cast<char *>(address);
  if (length == 0 || ::mlock(memory, static_cast<size_t>(length)) == 0) return length;
  // The limit tells how much of it other locks have left only by what it accepts.
  int64_t locked = 0, left = length / page;
  while (left > 0) {
    const int64_t more = left - left / 2;
    if (::mlock(memory + locked, static_cast<size_t>(more * page)) == 0) {
      locked += more * page;
      left -= more;
    } else {
      left = more - 1;
    }
  }
  return locked;
}

int64_t accel_pin_unlock(void *address, int64_t length) {
  return ::munlock(address, static_cast<size_t>(length)) ? -errno : 0;
}
