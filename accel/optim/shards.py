"""Shards of distributed tensors, and scales of 8-bit codes for them: each shard has its own blocks.

For a tensor whose dimensions are cut into, say, 2 and 1 pieces, the scales have the shape ``(2, 1,
n)`` and the tensor's placements, so that every process has the `n` scales of its shard. `n` is the
number of blocks of the largest shard; a smaller shard does not use the last scales. If the tensor
is sharded differently, the scales' shape differs, so scales are never used with other blocks.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from accel.errors import Unsupported
from accel.ops.optimizers.codes8bit import blocks


def is_distributed(tensor: Any) -> bool:
    """Return whether a tensor is a DTensor."""
    return hasattr(tensor, "to_local")


def local_of(tensor: Tensor) -> Tensor:
    """Return the part of a tensor that this process has: a DTensor's shard, or all of it."""
    distributed: Any = tensor
    found: Tensor = distributed.to_local() if is_distributed(tensor) else tensor
    return found


def sharding_groups(tensor: Tensor, refusal: str) -> list[Any]:
    """Return the process groups over which a tensor is sharded; none for an ordinary tensor.

    Raises:
        Unsupported: its parts are still to be summed; the message is `refusal`, with the placement
            for ``{}``, and what to do.
    """
    distributed: Any = tensor
    groups = []
    for dimension, placement in enumerate(getattr(tensor, "placements", ())):
        if placement.is_partial():
            raise Unsupported(
                f"{refusal.format(placement)}; redistribute it to Shard or Replicate."
            )
        if not placement.is_replicate():
            groups.append(distributed.device_mesh.get_group(dimension))
    return groups


def like(local: Tensor, tensor: Tensor) -> Tensor:
    """Return this process's part as a tensor that is distributed like `tensor`, if that is."""
    if not is_distributed(tensor):
        return local
    from torch.distributed.tensor import DTensor

    given: Any = tensor
    return DTensor.from_local(
        local,
        given.device_mesh,
        given.placements,
        run_check=False,
        shape=tensor.shape,
        stride=tensor.stride(),
    )


def scales_shape(codes: Tensor) -> tuple[int, ...]:
    """Return the shape of the scales of a tensor's codes; see the module for a distributed one."""
    if not is_distributed(codes):
        return (blocks(codes.numel()),)
    given: Any = codes
    pieces, largest = [1] * codes.dim(), [*codes.shape]
    for size, placement in zip(given.device_mesh.shape, given.placements, strict=True):
        cut = getattr(placement, "dim", None)
        if cut is not None:
            pieces[cut] *= size
            largest[cut] = -(-largest[cut] // size)
    return (*pieces, blocks(math.prod(largest)))


def distributed_scales(scales: Tensor, codes: Tensor) -> Tensor:
    """Return the scales of this process's codes, made for `codes`, in the shape of all of them."""
    if not is_distributed(codes):
        return scales
    from torch.distributed.tensor import DTensor

    given: Any = codes
    shape = torch.Size(scales_shape(codes))
    local = scales.new_zeros(*[1] * codes.dim(), shape[-1])
    local.view(-1)[: scales.numel()] = scales
    stride = torch.empty(shape, dtype=scales.dtype, device="meta").stride()
    return DTensor.from_local(
        local, given.device_mesh, given.placements, run_check=False, shape=shape, stride=stride
    )


def own_extra(extra: Tensor, own: Tensor, elements: Callable[[int], int]) -> Tensor:
    """Return the part of an extra tensor that belongs to this process's part of a parameter.

    Args:
        extra: a tensor that an op takes beside a parameter's states, such as scales.
        own: this process's part of the parameter.
        elements: returns the number of the op's elements for a number of elements of `own`.
    """
    if type(extra) is Tensor or type(extra) is Parameter or not is_distributed(extra):
        return extra
    return local_of(extra).view(-1)[: elements(own.numel())]


def own_scales(scales: Tensor, own: Tensor) -> Tensor:
    """Return the scales of this process's codes `own`, from distributed or local scales."""
    return own_extra(scales, own, blocks)
