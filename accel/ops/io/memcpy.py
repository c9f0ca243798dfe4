"""``deepspeed_memcpy``: copies the bytes of one tensor of the host to another."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from accel.ops.checks import check_no_overlap, check_storage, check_writable


def copy_bytes(dest: Any, src: Any) -> int:
    """Copy the elements of `src`, in their order, over those of `dest`, and return 0.

    Args:
        dest: a tensor of the host, of as many bytes as `src`.
        src: a tensor of the host. If its dtype is not that of `dest`, its bits are copied.

    Raises:
        TypeError: an argument is not a dense tensor.
        ValueError: sizes differ, memory is shared, or a tensor is on a device or `dest` requires a
            gradient; nothing has been written.
    """
    for name, tensor in (("dest", dest), ("src", src)):
        if not isinstance(tensor, Tensor) or tensor.layout is not torch.strided or tensor.is_nested:
            raise TypeError(f"{name} is a {type(tensor).__name__}; expected a dense torch.Tensor.")
        if tensor.device.type != "cpu":
            raise ValueError(f"{name} is on {tensor.device}; expected memory of the host.")
        check_storage(tensor, name)
    if dest.nbytes != src.nbytes:
        raise ValueError(
            f"dest has {dest.nbytes} bytes, and src has {src.nbytes}; make them equal."
        )
    if dest.requires_grad:
        raise ValueError(
            "dest requires a gradient, but autograd cannot follow the copy; detach it."
        )
    check_writable({"dest": [dest]}, single=True)
    check_no_overlap({"dest": [dest]}, {"src": [src]}, single=True)
    with torch.no_grad():
        if dest.dtype == src.dtype:
            dest.copy_(src.reshape(dest.shape))
        elif dest.nbytes:
            given = src.resolve_conj().resolve_neg().contiguous().reshape(-1)
            dest.copy_(given.view(torch.uint8).view(dest.dtype).reshape(dest.shape))
    return 0
