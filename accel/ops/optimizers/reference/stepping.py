"""Code around the references' arithmetic: widening, skipping, counting and storing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from accel.ops.optimizers.lists import Hyper, TensorLists
from accel.ops.optimizers.reference.batch import Batch
from accel.ops.optimizers.reference.batches import batches
from accel.ops.optimizers.reference.common import Scalar, count_steps, skip_flag

Numbers = Callable[[Any, Tensor, Scalar], Sequence[Scalar]]
Update = Callable[
    [Tensor, Tensor, list[Tensor], Any, Sequence[Scalar]], tuple[Tensor, list[Tensor]]
]


@torch.no_grad()
def step_each(
    tensors: TensorLists,
    hyper: Hyper,
    states: Sequence[str],
    numbers: Numbers,
    update: Update,
    *,
    back: bool = False,
) -> None:
    """Step every tensor of checked lists, on any device and in any layout.

    Computes in float32, or float64 for float64 parameters. Never waits for a device: if
    `hyper.found_inf` or `hyper.noop_flag` forbids the step, the old values are written back.

    Args:
        tensors: the lists.
        hyper: the numbers of the step.
        states: roles of the states; absent ones are skipped.
        numbers: returns the op's numbers for a tensor from the step's numbers, a tensor of the
            computation's type and device, and the number of the step; vectors if that is a vector.
        update: the op's arithmetic: returns the new parameter and states from parameter, gradient,
            states, the step's numbers and the tensor's numbers. It writes none of its arguments.
        back: whether steps are counted backwards, as a rollback does.
    """
    present = [role for role in states if role in tensors.roles]
    for batch in batches(tensors, hyper, back=back):
        _step(batch, hyper, present, numbers, update)
    count_steps(tensors, hyper, -1.0 if back else 1.0)


def _step(
    batch: Batch, hyper: Hyper, states: Sequence[str], numbers: Numbers, update: Update
) -> None:
    mastered = "masters" in batch.tensors.roles
    p, grad = batch.read("masters" if mastered else "params"), batch.read("grads")
    old = [batch.read(role) for role in states]
    scalars = [batch.spread(number) for number in numbers(hyper, p, batch.time)]
    new_p, new = update(p, grad, old, hyper, scalars)
    skip = skip_flag(hyper, p.device)
    if skip is not None:
        new_p = torch.where(skip, p, new_p)
        new = [torch.where(skip, before, after) for before, after in zip(old, new, strict=True)]
    # Free values that are no longer needed, to make room for the noise of stochastic rounding.
    del p, grad, old
    for stream, role in enumerate(states, start=1):
        batch.round(role, new.pop(0), hyper, stream)
    if mastered:
        batch.write("masters", new_p)
        if skip is not None:
            new_p = torch.where(skip, batch.read("params"), new_p)
    batch.round("params", new_p, hyper, 0)
