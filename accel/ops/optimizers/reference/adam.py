"""Adam's arithmetic in plain PyTorch, and Adam as a family of kernels: see ``accel/adam.h``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, maximum

from accel.ops.optimizers.family import Family
from accel.ops.optimizers.lists import Hyper, TensorLists
from accel.ops.optimizers.reference.common import (
    Scalar,
    correction,
    grad_factor,
    learning_rate,
    narrow,
    root,
    scaled_eps,
    square_root,
    times,
)

ADAM_ADAMW = 1
ADAM_BIAS_CORRECTION = 2
ADAM_AMSGRAD = 4
ADAM_MAXIMIZE = 8
ADAM_ROLLBACK = 16

STATES = ("exp_avgs", "exp_avg_sqs", "max_exp_avg_sqs")


@dataclass(slots=True, kw_only=True, eq=False, repr=False)
class AdamHyper(Hyper):
    """The numbers of one step of Adam.

    Attributes:
        beta1: decay rate of the first moment, in [0, 1).
        beta2: decay rate of the second moment, in [0, 1).
        eps: added to the root of the second moment.
    """

    beta1: float
    beta2: float
    eps: float


def adam_reference(tensors: TensorLists, hyper: AdamHyper) -> None:
    """Step every tensor of checked lists.

    On the CPU the bits are those of the native kernel, except the payload of NaN.
    """
    # Imported here, because loading a native library does not need it.
    from accel.ops.optimizers.reference.stepping import step_each

    back = bool(hyper.flags & ADAM_ROLLBACK)
    step_each(tensors, hyper, STATES, _numbers, _undo if back else _update, back=back)


def check_undoable(hyper: AdamHyper) -> None:
    """Raise `ValueError` if a step with these numbers loses too much to be undone."""
    for name, beta in (("beta1", hyper.beta1), ("beta2", hyper.beta2)):
        if beta < 2.0**-126:
            raise ValueError(
                f"{name} is {beta:g}; a step that discards the old moment cannot be undone."
            )


def _verify(tensors: TensorLists, hyper: AdamHyper) -> None:
    """Check that the flags fit the tensors and numbers: raises `ValueError` naming the argument."""
    amsgrad = bool(hyper.flags & ADAM_AMSGRAD)
    if amsgrad != ("max_exp_avg_sqs" in tensors.roles):
        raise ValueError(
            f"max_exp_avg_sqs {'is missing' if amsgrad else 'is only for AMSGrad; leave it out'}."
        )
    if hyper.flags & ADAM_ROLLBACK:
        check_undoable(hyper)
        if amsgrad or hyper.rounding != "nearest":
            raise ValueError("flags: a step with AMSGrad or stochastic rounding cannot be undone.")


def adam_numbers(
    hyper: AdamHyper, like: Tensor, time: Scalar, flags: int
) -> tuple[Scalar, Scalar, Scalar, Scalar]:
    """Return gradient factor, decay factor, step size and scaled eps."""
    lr = learning_rate(hyper, like)
    correct = bool(flags & ADAM_BIAS_CORRECTION)
    c1 = correction(hyper.beta1, time) if correct else 1.0
    root_c2 = square_root(correction(hyper.beta2, time)) if correct else 1.0
    keep = 1.0 - lr * hyper.weight_decay if flags & ADAM_ADAMW else 1.0
    return (
        grad_factor(hyper, like, maximize=bool(flags & ADAM_MAXIMIZE)),
        narrow(keep, like),
        narrow(lr * root_c2 / c1, like),
        narrow(scaled_eps(hyper.eps, root_c2, like.dtype), like),
    )


def _numbers(hyper: AdamHyper, like: Tensor, time: Scalar) -> Sequence[Scalar]:
    return adam_numbers(hyper, like, time, hyper.flags)


def _gradient(p: Tensor, grad: Tensor, factor: Scalar, hyper: AdamHyper, flags: int) -> Tensor:
    g = times(grad, factor)
    if hyper.weight_decay != 0.0 and not flags & ADAM_ADAMW:
        g = (p * hyper.weight_decay).add_(g)
    return g


def _update(
    p: Tensor, grad: Tensor, states: list[Tensor], hyper: AdamHyper, numbers: Sequence[Scalar]
) -> tuple[Tensor, list[Tensor]]:
    return adam_update(p, grad, states, hyper, numbers, hyper.flags)


def adam_update(
    p: Tensor,
    grad: Tensor,
    states: list[Tensor],
    hyper: AdamHyper,
    numbers: Sequence[Scalar],
    flags: int,
) -> tuple[Tensor, list[Tensor]]:
    """Return parameter and states after a step.

    Args:
        p: the parameter; it is not written, and neither are the other tensors.
        grad: the gradient.
        states: the moments, and with AMSGrad the maximum.
        hyper: the numbers of the step.
        numbers: `adam_numbers` of the parameter.
        flags: a sum of ``ADAM_*``.
    """
    factor, keep, step_size, eps = numbers
    m, v = states[:2]
    g = _gradient(p, grad, factor, hyper, flags)
    if 1.0 - hyper.beta1 >= 0.5:
        m = (g - m).mul_(-hyper.beta1).add_(g)
    else:
        m = (g - m).mul_(1.0 - hyper.beta1).add_(m)
    v = (g * (1.0 - hyper.beta2)).mul_(g).add_(v * hyper.beta2)
    new = [m, v]
    if flags & ADAM_AMSGRAD:
        new.append(maximum(states[2], v))
    change = (m * step_size).div_(root(new[-1]).add_(eps))
    return times(p, keep) - change, new


def _undo(
    p: Tensor, grad: Tensor, states: list[Tensor], hyper: AdamHyper, numbers: Sequence[Scalar]
) -> tuple[Tensor, list[Tensor]]:
    factor, keep, step_size, eps = numbers
    m, v = states
    before = (p + m * step_size / (root(v) + eps)) / keep
    g = _gradient(before, grad, factor, hyper, hyper.flags)
    m = (m - g * (1.0 - hyper.beta1)) / hyper.beta1
    v = (v - g * (1.0 - hyper.beta2) * g) / hyper.beta2
    return before, [m, v.clamp(min=0.0)]


ADAM = Family(
    name="adam",
    states=STATES[:2],
    extra_states=STATES[2:],
    hyper=AdamHyper,
    reference=adam_reference,
    flags=2 * ADAM_ROLLBACK - 1,
    verify=_verify,
)
