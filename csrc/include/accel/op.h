/* SPDX-License-Identifier: Apache-2.0
 * The exports of every library, for a library of one source: include this instead of abi.h.
 *
 * An op's function is `int32_t accel_<name>(...)`, which returns a status. Its arguments are each
 * tensor's address, then each result's, then the numbers, sizes and codes of element types of the
 * op's declaration, then the stream, which is null on the CPU. Tensors are contiguous, not empty, and
 * on one device. If it has no code for its arguments, it returns ACCEL_UNSUPPORTED or
 * ACCEL_BAD_DTYPE and has written nothing; the op's reference then runs instead.
 */
#ifndef ACCEL_OP_H
#define ACCEL_OP_H

#include "accel/status.h"

int32_t accel_abi_version(void) { return ACCEL_ABI_VERSION; }

const char *accel_status_text(int32_t status) {
  const char *const words = accel_words_of(status);
  return words ? words : "an error of the device";
}

#endif
