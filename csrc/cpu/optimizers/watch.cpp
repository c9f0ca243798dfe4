// SPDX-License-Identifier: Apache-2.0
// The look at a step's tensors alone, for ops whose own library is none of the host's: tensors may lie on
// any device, since nothing but what the interpreter holds of them is read.

#include "tensors.h"

int32_t accel_abi_version(void) { return ACCEL_ABI_VERSION; }
