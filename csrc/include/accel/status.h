/* SPDX-License-Identifier: Apache-2.0
 * The words of an accel_status, for every library's accel_status_text. */
#ifndef ACCEL_STATUS_H
#define ACCEL_STATUS_H

#include "accel/abi.h"

/* Null for a status that only a device can explain. */
static inline const char *accel_words_of(int32_t status) {
  switch (status) {
    case ACCEL_OK: return "no error";
    case ACCEL_BAD_STRUCT: return "the argument struct has another size than this library's";
    case ACCEL_BAD_ARGUMENT: return "a null pointer, a negative count, or an unknown code or flag";
    case ACCEL_BAD_DTYPE: return "no kernel for this combination of element types";
    case ACCEL_UNSUPPORTED:
      return "not available in this library, on this device, or on a queue that is out of order";
    case ACCEL_NO_MEMORY: return "out of memory";
    default: break;
  }
  return status < ACCEL_DEVICE_ERROR ? "unknown status" : 0;
}

#endif
