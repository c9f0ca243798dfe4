"""What the references share: widening, skipping, counting and storing around the arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from accel.ops.lists import Hyper, TensorLists

Scalar = float | Tensor
Update = Callable[[Tensor, Tensor, list[Tensor], Any, Scalar], tuple[Tensor, list[Tensor]]]


@torch.no_grad()
def step_each(
    tensors: TensorLists,
    hyper: Hyper,
    states: Sequence[str],
    update: Update,
    *,
    back: bool = False,
) -> None:
    """Step every tensor of checked lists, on any device and in any layout.

    Computes in float32, or float64 for float64 parameters. Never waits for a device: where
    `hyper.found_inf` or `hyper.noop_flag` forbid the step, the old values are written back.

    Args:
        tensors: the lists.
        hyper: the numbers of the step.
        states: roles of the states; those that are absent are left out.
        update: the op's arithmetic: parameter, gradient, states, numbers and step number to the new
            parameter and states.
        back: whether steps are counted backwards, as a rollback does.
    """
    present = [role for role in states if role in tensors.roles]
    for index in range(len(tensors.params)):
        if tensors.params[index].numel():
            _step_one(tensors, index, hyper, present, update, back)
    count_steps(tensors, hyper, -1.0 if back else 1.0)


def _step_one(
    tensors: TensorLists,
    index: int,
    hyper: Hyper,
    states: Sequence[str],
    update: Update,
    back: bool,
) -> None:
    # Here, not above: a load of a native library, which steps nothing itself, does without.
    from accel.ops.rounding import random_key, store

    param = tensors.params[index]
    main = tensors.roles.get("masters", tensors.params)[index]
    kept = [tensors.roles[role][index] for role in states]
    wide = torch.float64 if param.dtype == torch.float64 else torch.float32
    p, grad = main.to(wide), tensors.grads[index].to(wide)
    old = [state.to(wide) for state in kept]
    time = step_number(tensors, index, hyper, back)
    new_p, new = update(p, grad, old, hyper, time)

    skip = skip_flag(hyper, param.device)
    if skip is not None:
        new_p = torch.where(skip, p, new_p)
        new = [torch.where(skip, before, after) for before, after in zip(old, new, strict=True)]
    number, start = tensors.numbers[index], tensors.start(index)
    for stream, (state, after) in enumerate(zip(kept, new, strict=True), start=1):
        store(state, after, hyper.rounding, random_key(hyper.seed, time, number, stream), start)
    if main is not param:
        main.copy_(new_p)
        if skip is not None:
            new_p = torch.where(skip, param.to(wide), new_p)
    store(param, new_p, hyper.rounding, random_key(hyper.seed, time, number, 0), start)


def count_steps(tensors: TensorLists, hyper: Hyper, by: float) -> None:
    """Count the step of every tensor, unless it is skipped."""
    for step, param in zip(tensors.steps or (), tensors.params, strict=False):
        skip = skip_flag(hyper, param.device)
        step.add_(by if skip is None else torch.where(skip.to(step.device), 0.0, by))


def skip_flag(hyper: Hyper, device: torch.device) -> Tensor | None:
    """Return a boolean tensor that says whether to leave everything as it is, or ``None``."""
    reasons = [
        flag.to(device, non_blocking=device.type != "cpu").reshape(()) != 0
        for flag in (hyper.found_inf, hyper.noop_flag)
        if flag is not None
    ]
    if not reasons:
        return None
    return reasons[0] if len(reasons) == 1 else reasons[0] | reasons[1]


def step_number(tensors: TensorLists, index: int, hyper: Hyper, back: bool = False) -> Scalar:
    """Return the number of this step, or of the one to undo; a tensor where a device knows it."""
    if tensors.steps is None:
        return float(hyper.step)
    step = tensors.steps[index]
    ahead = 0.0 if back else 1.0
    return float(step) + ahead if step.device.type == "cpu" else step.double() + ahead


def learning_rate(hyper: Hyper, like: Tensor) -> Scalar:
    """Return the learning rate, in double."""
    if hyper.lr_tensor is None:
        return hyper.lr
    return _as_given(hyper.lr_tensor, like)


def grad_factor(hyper: Hyper, like: Tensor, *, maximize: bool) -> Scalar:
    """Return what gradients are multiplied by: 1 / grad_scale, negative to maximize."""
    factor: Scalar = 1.0
    if hyper.grad_scale is not None:
        factor = 1.0 / _as_given(hyper.grad_scale, like)
    return narrow(-factor if maximize else factor, like)


def _as_given(scalar: Tensor, like: Tensor) -> Tensor:
    """Return a scalar in double, rounded first to float32 where kernels take it so."""
    here = scalar.to(like.device)
    return (here if like.dtype == torch.float64 else here.float()).double().reshape(())


def narrow(value: Scalar, like: Tensor) -> Scalar:
    """Round a scalar once to the type of the computation, as the kernels do."""
    return value.to(like) if isinstance(value, Tensor) else value


def root(x: Tensor) -> Tensor:
    """Return the correctly rounded root; torch's own is not, in float32 on the CPU."""
    if x.device.type == "cpu" and x.dtype == torch.float32:
        return x.double().sqrt().float()
    return x.sqrt()
