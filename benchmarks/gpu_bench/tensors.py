"""Tensors of the checks, and how far results are from a reference."""

from __future__ import annotations

import torch
from torch import Tensor

from accel.ops.optimizers.lists import TensorLists
from accel.ops.optimizers.reference.adam import ADAM_ADAMW, ADAM_BIAS_CORRECTION, AdamHyper

from .bench import BF16, F16, F32, Bench

SIZES = (1, 0, 3, 4, 8191, 8192, 8193, 100_003, 0)
# Two last places of float32, one of the others; relative to the value, or to this where it is
# smaller, since a difference of larger numbers is only as good as they are.
ULP = {F32: 2.0**-22, BF16: 2.0**-7, F16: 2.0**-10}
FLOOR = {F32: 0.05, BF16: 1e-4, F16: 2.0**-10}


def hyper(**numbers: object) -> AdamHyper:
    """Return the numbers of the checks' steps."""
    base = {"lr": 0.02, "beta1": 0.9, "beta2": 0.995, "eps": 1e-6, "weight_decay": 0.1, "step": 3}
    flags = ADAM_ADAMW | ADAM_BIAS_CORRECTION
    return AdamHyper(**({"flags": flags} | base | numbers))


def make(
    bench: Bench,
    sizes: tuple[int, ...],
    dtypes: tuple[torch.dtype, ...],
    *,
    master: bool = False,
    steps: bool = False,
    offset: int = 0,
) -> TensorLists:
    """Return tensors of these sizes, `offset` elements after an aligned address."""
    generator = torch.Generator().manual_seed(7)

    def place(values: Tensor, dtype: torch.dtype) -> Tensor:
        room = torch.empty(values.numel() + offset, dtype=dtype, device=bench.device)
        return room[offset:].copy_(values)

    param, grad, state = dtypes
    sources = [torch.randn(size, generator=generator) for size in sizes]
    roles = {
        "params": [place(x, param) for x in sources],
        "grads": [place((x * 3).cos(), grad) for x in sources],
        "exp_avgs": [place(x * 0.1, state) for x in sources],
        "exp_avg_sqs": [place(x * x * 0.01, state) for x in sources],
    }
    if master:
        roles["masters"] = [place(x, F32) for x in sources]
    counts = [torch.tensor(float(i), device=bench.device) for i in range(len(sizes))]
    return TensorLists(roles, counts if steps else None)


def copied(tensors: TensorLists, dtype: torch.dtype | None = None, device: str = "") -> TensorLists:
    """Return the same values elsewhere: in another type, on another device."""

    def copy(tensor: Tensor) -> Tensor:
        return tensor.to(device or tensor.device, dtype or tensor.dtype, copy=True)

    roles = {role: [copy(tensor) for tensor in listed] for role, listed in tensors.roles.items()}
    steps = tensors.steps
    counts = (
        None if steps is None else [step.to(device or step.device, copy=True) for step in steps]
    )
    extras = {
        role: [tensor.to(device or tensor.device, copy=True) for tensor in listed]
        for role, listed in tensors.extras.items()
    }
    return TensorLists(roles, counts, extras)


def worst(tensors: TensorLists, reference: TensorLists) -> float:
    """Return the largest error in units of the tensor's last place, over all roles.

    Infinite if one is not a number and the other is.
    """
    most = 0.0
    for role, listed in tensors.roles.items():
        if role == "grads":
            continue
        got = torch.cat([tensor.flatten() for tensor in listed])
        want = torch.cat([tensor.flatten() for tensor in reference.roles[role]]).to(got.device)
        error = (got.double() - want).abs() / want.abs().clamp(min=FLOOR[got.dtype])
        most = max(most, error.nan_to_num(nan=float("inf")).max().item() / ULP[got.dtype])
    return most
