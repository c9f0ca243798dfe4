// SPDX-License-Identifier: Apache-2.0
// The check of a step's tensors alone, for ops whose own library is not for the host. Tensors may lie
// on any device, since only the interpreter's objects are read.

#include "tensors.h"

int32_t accel_abi_version(void) { return ACCEL_ABI_VERSION; }
