"""``max_grad_norm``: one norm over all gradients of a step, and the scaling of those gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from accel.current import accelerator_for
from accel.ops.lists.reference import norms_of, widest
from accel.ops.optimizers.lists import Hyper
from accel.optim.grad_limit import KEY, is_clipping
from accel.optim.part import are_plain
from accel.optim.shards import sharding_groups
from accel.optim.stepped import SteppedOptimizer

_TYPES = frozenset({torch.float32, torch.bfloat16, torch.float16})
_NOT_REDUCED = (
    "max_grad_norm: the norm of a gradient with placement {} is not known before a reduction"
)
_CHUNK = 65536  # Apex's usual number; the op checks it, but does not use it.


def clip(optimizer: SteppedOptimizer, hypers: Sequence[Hyper]) -> None:
    """Make the steps of all groups scale their gradients as they read them.

    Args:
        optimizer: an optimizer whose parameters' gradients have been checked.
        hypers: the numbers of its groups' steps.
    """
    # Limits that were no numbers when the step began are floats now, and may be 0.
    if not (optimizer.clips and is_clipping(optimizer)):
        optimizer.last_norm.value = None
        return
    scale_down(optimizer, total_norm(optimizer), hypers)


def scale_down(optimizer: SteppedOptimizer, norm: Tensor, hypers: Sequence[Hyper]) -> None:
    """Put the divisor of the gradients into the numbers of the groups' steps.

    The factor is that of `torch.nn.utils.clip_grad_norm_`, ``min(1, max_norm / (norm + 1e-6))``,
    also for norms that are not finite.
    """
    exact = norm.to(widest(norm.device))
    for group, hyper in zip(optimizer.param_groups, hypers, strict=True):
        given = hyper.grad_scale
        unscaled = exact if given is None else exact / given.to(exact).reshape(())
        optimizer.last_norm.value = unscaled.to(norm.dtype)
        if not group[KEY] or not group["params"]:
            continue
        excess = ((unscaled + 1e-6) / group[KEY]).clamp(min=1.0)
        total = excess if given is None else excess * given.to(exact).reshape(())
        hyper.grad_scale = total.to(optimizer.home(group["params"][0]))
        hyper.clipped = True


def total_norm(optimizer: SteppedOptimizer) -> Tensor:
    """Return the L2 norm of the gradients of all groups, a scalar on the first one's device.

    For distributed gradients, every process gets the norm over all shards.
    """
    params = [param for group in optimizer.param_groups for param in group["params"]]
    found = _norm_if_usual(params)
    if found is not None:
        return found
    by_place: dict[Any, list[Tensor]] = {}
    for param in params:
        if param.grad is not None:
            own = optimizer.local(param.grad)
            groups = sharding_groups(param.grad, _NOT_REDUCED)
            by_place.setdefault((own.device, *groups), []).append(own)
    norms = []
    for (device, *reductions), grads in by_place.items():
        norm = norm_on(device, grads)
        for reduction in reductions:
            square = norm.double().square()
            torch.distributed.all_reduce(square, group=reduction)
            norm = square.sqrt().to(norm.dtype)
        norms.append(norm)
    return together(norms, params)


def together(norms: Sequence[Tensor], params: Sequence[Tensor]) -> Tensor:
    """Return the norm of norms, on the first one's device; if there are none, 0 beside `params`."""
    if not norms:
        device = params[0].device if params else torch.device("cpu")
        return torch.zeros((), dtype=torch.float32, device=device)
    if len(norms) == 1:
        return norms[0]
    first = norms[0].device
    dtype = max((norm.dtype for norm in norms), key=lambda one: one.itemsize)
    total: Tensor = torch.linalg.vector_norm(
        torch.stack([norm.to(first, widest(first)) for norm in norms])
    )
    return total.to(dtype)


def norm_on(device: torch.device, grads: Sequence[Tensor]) -> Tensor:
    """Return the norm of gradients on one device, float32 unless one has more digits."""
    if any(grad.dtype not in _TYPES for grad in grads):
        wide: Tensor = torch.linalg.vector_norm(norms_of(grads, device))
        return wide
    # The flag is not read: a norm that is not finite says the same.
    flag = torch.zeros(1, dtype=torch.int32, device=device)
    if torch.compiler.is_compiling():
        made = torch.ops.accel.multi_tensor_norm(flag, grads, None)[0]
    else:
        made = _op(device).multi_tensor_l2norm(_CHUNK, flag, [grads])[0]
    norm: Tensor = made.reshape(())
    return norm


def load(device: torch.device) -> None:
    """Make the dispatcher's norm, which `norm_on` calls in a graph, run the device's kernel."""
    _op(device)


def _op(device: torch.device) -> Any:
    return accelerator_for(device).create_op_builder("multi_tensor").load()


def _norm_if_usual(params: Sequence[Tensor]) -> Tensor | None:
    """Return the norm if a library can read all gradients by itself, as on the host."""
    if not params or params[0].device.type != "cpu" or not are_plain(params):
        return None
    op = _op(params[0].device)
    found: Tensor | None = op.l2norm_of_gradients_if_usual([*params])
    return None if found is None else found.reshape(())
