"""The ctypes mirror of ``csrc/include``; a test compiles a C program to check that they agree."""

from __future__ import annotations

from collections.abc import Mapping

import torch

ABI_VERSION = 2

OK = 0
BAD_STRUCT = 1
BAD_ARGUMENT = 2
BAD_DTYPE = 3
UNSUPPORTED = 4
NO_MEMORY = 5
DEVICE_ERROR = 1000

ELEMENTS: Mapping[torch.dtype, int] = {
    torch.float32: 0,
    torch.bfloat16: 1,
    torch.float16: 2,
    torch.float64: 3,
    torch.int8: 4,
    torch.uint8: 5,
    torch.int16: 6,
    torch.int32: 7,
    torch.int64: 8,
    torch.bool: 9,
    torch.float8_e4m3fn: 10,
    torch.float8_e5m2: 11,
}
"""Element types of tensors, with their codes in ``enum accel_dtype``."""

INT4X2 = 12
"""Code of bytes that hold two signed numbers of 4 bits each; to torch they are uint8."""
UINT4X2 = 13
"""Code of bytes that hold two unsigned numbers of 4 bits each."""

SIMD_LEVELS: tuple[str, ...] = ("baseline", "avx2", "avx512", "neon")
"""SIMD levels of CPU libraries; a level's index is its code in ``enum accel_simd``."""
