/* SPDX-License-Identifier: Apache-2.0
 * The exports of every library: an op of one source includes this instead of abi.h.
 *
 * An op's function is `int32_t accel_<name>(...)`, which returns a status. Its arguments are each
 * tensor's address, then each result's, then the numbers, sizes and codes of element types of the
 * op's declaration, then the stream, which is null on the CPU. Tensors are contiguous, not empty, and
 * on one device. If it has no code for its arguments, it returns ACCEL_UNSUPPORTED or
 * ACCEL_BAD_DTYPE and has written nothing; the op's reference then runs instead.
 */
#ifndef ACCEL_OP_H
#define ACCEL_OP_H

#include "accel/abi.h"

/* The words of a status from ACCEL_DEVICE_ERROR on; a device that has better ones defines it before. */
#ifndef ACCEL_DEVICE_WORDS
#define ACCEL_DEVICE_WORDS(status) "an error of the device"
#endif

int32_t accel_abi_version(void) { return ACCEL_ABI_VERSION; }

const char *accel_status_text(int32_t status) {
  switch (status) {
    case ACCEL_OK: return "no error";
    case ACCEL_BAD_STRUCT: return "the argument struct has another size than this library's";
    case ACCEL_BAD_ARGUMENT: return "a null pointer, a negative count, or an unknown code or flag";
    case ACCEL_BAD_DTYPE: return "no kernel for this combination of element types";
    case ACCEL_UNSUPPORTED:
      return "not available in this library, on this device, or on a queue that is out of order";
    case ACCEL_NO_MEMORY: return "out of memory";
    default: return status < ACCEL_DEVICE_ERROR ? "unknown status" : ACCEL_DEVICE_WORDS(status);
  }
}

#endif
