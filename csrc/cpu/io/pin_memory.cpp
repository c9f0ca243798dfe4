// SPDX-License-Identifier: Apache-2.0
#include "accel/op.h"
#include "lock.h"
