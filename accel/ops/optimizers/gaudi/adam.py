"""AdamW by Gaudi's `FusedAdamW`, on the caller's moments, with the reference for other cases.

The vendor's optimizer gets its state for one step. It never corrects the moments itself, which
would need its own count of steps: the correction is part of its rate, decay and epsilon.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from accel.ops.optimizers.lists import TensorLists
from accel.ops.optimizers.reference.adam import (
    ADAM_ADAMW,
    ADAM_AMSGRAD,
    ADAM_BIAS_CORRECTION,
    ADAM_MAXIMIZE,
    ADAM_ROLLBACK,
    AdamHyper,
    adam_reference,
)
from accel.ops.optimizers.reference.common import scaled_eps

_FOREIGN = ADAM_AMSGRAD | ADAM_MAXIMIZE | ADAM_ROLLBACK


class GaudiAdam:
    """Steps checked lists.

    Args:
        optimizer: the vendor's class: parameters, ``lr``, ``betas``, ``eps``, ``weight_decay``,
            ``bias_correction``.
    """

    def __init__(self, optimizer: Any) -> None:
        self._class = optimizer
        self._counts = StepCounts()
        self._last: Any = None

    @torch.no_grad()
    def __call__(self, tensors: TensorLists, hyper: AdamHyper) -> None:
        """Step every tensor once."""
        everything = range(len(tensors.params))
        fit = [index for index in everything if _fits(tensors, index)] if _is_plain(hyper) else []
        if len(fit) == len(tensors.params):
            self._step(tensors, hyper)
            return
        chosen = set(fit)
        rest = [index for index in everything if index not in chosen]
        adam_reference(tensors.select(rest) if fit else tensors, hyper)
        if fit:
            self._step(tensors.select(fit), hyper)

    def _step(self, tensors: TensorLists, hyper: AdamHyper) -> None:
        params = [param.detach() for param in tensors.params]
        for param, grad in zip(params, tensors.grads, strict=True):
            param.grad = grad
        done = [float(hyper.step - 1)] * len(params)
        if tensors.steps is not None:
            done = self._counts.read(tensors.steps)
        groups: dict[float, list[Tensor]] = {}
        for param, count in zip(params, done, strict=True):
            groups.setdefault(count, []).append(param)
        optimizer = self._class(
            [{"params": group, **_numbers(hyper, count + 1)} for count, group in groups.items()],
            betas=(hyper.beta1, hyper.beta2),
            bias_correction=False,
        )
        moments = zip(tensors.roles["exp_avgs"], tensors.roles["exp_avg_sqs"], strict=True)
        for param, (first, second) in zip(params, moments, strict=True):
            optimizer.state[param].update(step=0, exp_avg=first, exp_avg_sq=second)
        optimizer.step()
        if tensors.steps is not None:
            self._counts.advance(tensors.steps, done)
        for param in params:
            param.grad = None
        optimizer.state.clear()
        optimizer.param_groups.clear()
        # The optimizer owns the scalars of a step that the device may not have done yet.
        self._last = optimizer


def _is_plain(hyper: AdamHyper) -> bool:
    """Return whether the vendor's class supports these numbers."""
    scalars = (hyper.lr_tensor, hyper.grad_scale, hyper.found_inf, hyper.noop_flag)
    decoupled = bool(hyper.flags & ADAM_ADAMW) or hyper.weight_decay == 0.0
    return (
        decoupled
        and not hyper.flags & _FOREIGN
        and hyper.rounding == "nearest"
        and all(scalar is None for scalar in scalars)
    )


def _fits(tensors: TensorLists, index: int) -> bool:
    """Return whether the vendor's kernel supports layout and precision of a tensor's entries."""
    # With 16-bit parameters it would round the learning rate itself to 16 bits.
    return tensors.params[index].numel() > 0 and all(
        listed[index].device.type == "hpu"
        and listed[index].dtype == torch.float32
        and listed[index].is_contiguous()
        for listed in tensors.roles.values()
    )


def _numbers(hyper: AdamHyper, time: float) -> dict[str, Any]:
    """Return numbers with which step number `time` needs no bias correction.

    With ``c1 = 1 - beta1**time`` and ``c2 = 1 - beta2**time`` the step divides by
    ``sqrt(v / c2) + eps``, so numerator and denominator are multiplied by ``sqrt(c2)``
    (Kingma and Ba 2015, section 2).
    """
    if not hyper.flags & ADAM_BIAS_CORRECTION:
        return {"lr": hyper.lr, "eps": hyper.eps, "weight_decay": hyper.weight_decay}
    root = math.sqrt(1.0 - hyper.beta2**time)
    factor = root / (1.0 - hyper.beta1**time)
    return {
        "lr": hyper.lr * factor,
        "eps": scaled_eps(hyper.eps, root, torch.float32),
        "weight_decay": hyper.weight_decay / factor,
    }


class StepCounts:
    """Values of step tensors on the host, read from a device only if others wrote them."""

    def __init__(self) -> None:
        self._known: Any = WeakTensorKeyDictionary()

    def read(self, steps: Sequence[Tensor]) -> list[float]:
        """Return the values; waits for the device the first time, and after writes by others."""
        known = [self._known.get(step) for step in steps]
        for step, entry in zip(steps, known, strict=True):
            if entry is None or entry[0] != _version(step):
                found: list[float] = torch.stack([one.reshape(()) for one in steps]).tolist()
                return found
        return [entry[1] for entry in known]

    def advance(self, steps: Sequence[Tensor], counts: Sequence[float]) -> None:
        """Add 1 to every tensor and remember the values."""
        for step in steps:
            step.add_(1.0)
        for step, count in zip(steps, counts, strict=True):
            version = _version(step)
            if version is not None:
                self._known[step] = (version, count + 1.0)


def _version(tensor: Tensor) -> int | None:
    return None if tensor.is_inference() else tensor._version
