// SPDX-License-Identifier: Apache-2.0
// Only the check of a step's tensors, for ops whose own library is not for the host. Tensors may be
// on any device, since only the interpreter's objects are read.

#include "tensors.h"

int32_t accel_abi_version(void) { return ACCEL_ABI_VERSION; }
