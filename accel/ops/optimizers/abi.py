"""The ctypes mirror of the C interface of the optimizers' ops.

A test compiles a C program to check that the two agree.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from accel.ops import abi

DTYPES: Mapping[torch.dtype, int] = {
    dtype: abi.ELEMENTS[dtype] for dtype in (torch.float32, torch.bfloat16, torch.float16)
}
"""Element types that the kernels of optimizers take, with the same codes."""

ROUNDING: Mapping[str, int] = {"nearest": 0, "stochastic": 1}
"""How float32 results are stored in 16 bits, with their codes in ``enum accel_rounding``."""

_POINTER = ctypes.c_void_p
_INT32 = ctypes.c_int32
_INT64 = ctypes.c_int64


def make_struct(
    name: str, states: Sequence[str], extras: Sequence[str], numbers: Sequence[str]
) -> type[ctypes.Structure]:
    """Return the ctypes mirror of ``accel_<name>_args``; pointers are addresses as integers.

    Args:
        name: the optimizer's name in C.
        states: fields of its states, in their order.
        extras: fields of further tensors that are written, in their order.
        numbers: its doubles, in their order.
    """
    fields: list[tuple[str, type[Any]]] = [
        ("struct_size", ctypes.c_uint64),
        ("count", _INT64),
        ("numels", _POINTER),
        ("tensor_numbers", _POINTER),
        ("first_elements", _POINTER),
        *((role, _POINTER) for role in ("params", "grads", *states, "masters", "steps", *extras)),
        *((name, _POINTER) for name in ("grad_scale", "found_inf", "noop_flag", "lr_tensor")),
        *((number, ctypes.c_double) for number in numbers),
        ("step", _INT64),
        ("seed", ctypes.c_uint64),
        ("param_dtype", _INT32),
        ("grad_dtype", _INT32),
        ("state_dtype", _INT32),
        ("rounding", _INT32),
        ("num_threads", _INT32),
        ("flags", ctypes.c_uint32),
    ]
    return type(f"accel_{name}_args", (ctypes.Structure,), {"_fields_": fields})
