"""The ctypes mirror of ``csrc/include``; a test compiles a C program to hold the sides together."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Any

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

DTYPES: Mapping[torch.dtype, int] = {
    dtype: ELEMENTS[dtype] for dtype in (torch.float32, torch.bfloat16, torch.float16)
}
"""Element types that the kernels of optimizers take, with the same codes."""

ROUNDING: Mapping[str, int] = {"nearest": 0, "stochastic": 1}
"""How float32 results are stored in 16 bits, with their codes in ``enum accel_rounding``."""

SIMD_LEVELS: tuple[str, ...] = ("baseline", "avx2", "avx512", "neon")
"""SIMD levels of CPU libraries; a level's index is its code in ``enum accel_simd``."""

ADAM_ADAMW = 1
ADAM_BIAS_CORRECTION = 2
ADAM_AMSGRAD = 4
ADAM_MAXIMIZE = 8
ADAM_ROLLBACK = 16

LION_MAXIMIZE = 1
ADAGRAD_MAXIMIZE = 1
LAMB_BIAS_CORRECTION = 1
LAMB_EPS_INSIDE = 2
LAMB_MAXIMIZE = 4
LAMB_MOMENTS = 8
LAMB_APPLY = 16
ADAM8BIT_BLOCK = 256
ADAM8BIT_LARGEST_EXP_AVG = 0x7F000000
ADAM8BIT_LARGEST_EXP_AVG_SQ = 0x7F100000
ADAM8BIT_ADAMW = 1
ADAM8BIT_BIAS_CORRECTION = 2
ADAM8BIT_MAXIMIZE = 4


def blocks(numel: int) -> int:
    """Return the number of blocks of 8-bit codes, and so of scales, of a tensor."""
    return -(-numel // ADAM8BIT_BLOCK)


_POINTER = ctypes.c_void_p
_DOUBLE = ctypes.c_double
_INT32 = ctypes.c_int32
_INT64 = ctypes.c_int64
_Fields = tuple[tuple[str, type[Any]], ...]


def _fields(
    roles: tuple[str, ...], numbers: tuple[str, ...], extras: tuple[str, ...] = ()
) -> _Fields:
    """Return the fields of an optimizer's struct; all have the same frame."""
    return (
        ("struct_size", ctypes.c_uint64),
        ("count", _INT64),
        ("numels", _POINTER),
        ("tensor_numbers", _POINTER),
        ("first_elements", _POINTER),
        *((role, _POINTER) for role in ("params", "grads", *roles, "masters", "steps", *extras)),
        *((name, _POINTER) for name in ("grad_scale", "found_inf", "noop_flag", "lr_tensor")),
        *((name, _DOUBLE) for name in numbers),
        ("step", _INT64),
        ("seed", ctypes.c_uint64),
        ("param_dtype", _INT32),
        ("grad_dtype", _INT32),
        ("state_dtype", _INT32),
        ("rounding", _INT32),
        ("num_threads", _INT32),
        ("flags", ctypes.c_uint32),
    )


class AdamArgs(ctypes.Structure):
    """``accel_adam_args`` of ``accel/adam.h``; pointers are addresses as integers."""

    _fields_ = _fields(
        ("exp_avgs", "exp_avg_sqs", "max_exp_avg_sqs"),
        ("lr", "beta1", "beta2", "eps", "weight_decay"),
    )


class LionArgs(ctypes.Structure):
    """``accel_lion_args`` of ``accel/lion.h``."""

    _fields_ = _fields(("exp_avgs",), ("lr", "beta1", "beta2", "weight_decay"))


class AdagradArgs(ctypes.Structure):
    """``accel_adagrad_args`` of ``accel/adagrad.h``."""

    _fields_ = _fields(("sums",), ("lr", "lr_decay", "eps", "weight_decay"))


class LambArgs(ctypes.Structure):
    """``accel_lamb_args`` of ``accel/lamb.h``."""

    _fields_ = _fields(
        ("exp_avgs", "exp_avg_sqs"),
        ("lr", "beta1", "beta2", "eps", "weight_decay", "max_coeff", "min_coeff"),
        ("norms", "coeffs"),
    )


class Adam8bitArgs(ctypes.Structure):
    """``accel_adam8bit_args`` of ``accel/adam8bit.h``."""

    _fields_ = _fields(
        ("exp_avgs", "exp_avg_sqs"),
        ("lr", "beta1", "beta2", "eps", "weight_decay"),
        ("exp_avg_scales", "exp_avg_sq_scales"),
    )
