"""The functions of ``multi_tensor`` in plain PyTorch; nothing waits for the device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def norm(
    noop_flag: Tensor,
    tensors: Sequence[Tensor],
    inv_scale: Tensor | None,
    per_tensor: bool,
    skip: bool,
) -> tuple[Tensor, Tensor]:
    """Return the norm and the norms of tensors, float32, and set the flag if one is not finite."""
    each = norms_of(tensors, noop_flag.device)
    if inv_scale is not None:
        each = each * inv_scale.reshape(()).abs().to(each.dtype)
    total = torch.linalg.vector_norm(each).float().reshape(1)
    each = each.float()
    if skip:
        skipped = noop_flag.reshape(()) != 0
        total = torch.where(skipped, 0.0, total)
        each = torch.where(skipped, 0.0, each)
    finite = total.isfinite().all()
    if per_tensor:
        finite = finite & each.isfinite().all()
    set_flag(noop_flag, finite)
    return total, each if per_tensor else each[:0]


def widest(device: torch.device) -> torch.dtype:
    """Return the widest type that a device computes in."""
    return torch.float32 if device.type == "mps" else torch.float64


def norms_of(tensors: Sequence[Tensor], device: torch.device) -> Tensor:
    """Return the norms of tensors in the widest type of the device."""
    wide = widest(device)
    if not tensors:
        return torch.zeros((0,), dtype=wide, device=device)
    return torch.stack([*torch._foreach_norm([*tensors], 2.0, dtype=wide)])


def set_flag(noop_flag: Tensor, finite: Tensor) -> None:
    """Set the flag to 1 unless all is finite, without waiting for the device."""
    noop_flag.copy_(torch.where(finite, noop_flag, 1))


def all_finite(lists: Sequence[Sequence[Tensor]], device: torch.device) -> Tensor:
    """Return whether every element of every tensor is finite."""
    tensors = [one for listed in lists for one in listed]
    if widest(device) == torch.float64:
        # In float64, even the largest squares of float32 numbers are finite.
        finite: Tensor = norms_of(tensors, device).isfinite().all()
        return finite
    found = [one.isfinite().all() for one in tensors]
    return torch.stack(found).all() if found else torch.ones((), dtype=torch.bool, device=device)


def scale(
    noop_flag: Tensor, inputs: Sequence[Tensor], outputs: Sequence[Tensor], by: float
) -> None:
    """Write ``inputs * by``, and set the flag if an input is not finite."""
    finite = all_finite([inputs], noop_flag.device)
    write_products(inputs, outputs, single(by, noop_flag.device))
    set_flag(noop_flag, finite)


def write_products(inputs: Sequence[Tensor], outputs: Sequence[Tensor], factor: Tensor) -> None:
    """Write inputs times a float32 scalar, each product rounded to its output's type."""
    in_place = []
    for one, out in zip(inputs, outputs, strict=True):
        # torch's operators over lists cannot write negated views.
        if one is out and one.dtype == torch.float32 and not one.is_neg():
            in_place.append(one)
        else:
            out.copy_(one.float() * factor)
    if in_place:
        torch._foreach_mul_(in_place, factor)


def axpby(
    noop_flag: Tensor,
    xs: Sequence[Tensor],
    ys: Sequence[Tensor],
    outputs: Sequence[Tensor],
    factors: tuple[float, float],
    arg_to_check: int,
) -> None:
    """Write ``a * xs + b * ys``, and set the flag if a checked element is not finite."""
    checked = [xs, ys] if arg_to_check == -1 else [[xs, ys][arg_to_check]]
    finite = all_finite(checked, noop_flag.device)
    a, b = (single(one, noop_flag.device) for one in factors)
    for x, y, out in zip(xs, ys, outputs, strict=True):
        out.copy_(x.float() * a + y.float() * b)
    set_flag(noop_flag, finite)


def clip(tensors: Sequence[Tensor], max_norm: float, keep_nonfinite: bool) -> Tensor:
    """Scale tensors so that their norm is at most `max_norm`; return the norm before scaling."""
    device = tensors[0].device
    total: Tensor = torch.linalg.vector_norm(norms_of(tensors, device)).float()
    wide = widest(device)
    most = torch.full((), max_norm, dtype=wide, device=device)
    factor = torch.div(most, total.to(wide) + 1e-6).clamp(max=1.0).float()
    if keep_nonfinite:
        factor = torch.where(total.isfinite(), factor, 1.0)
    write_products(tensors, tensors, factor)
    return total


def single(value: float, device: torch.device) -> Tensor:
    """Return a number as a float32 scalar of a device, rounded once."""
    return torch.full((), value, dtype=torch.float32, device=device)
