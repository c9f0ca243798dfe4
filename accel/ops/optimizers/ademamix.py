"""AdEMAMix: its numbers, its arithmetic in plain PyTorch, and its op: see ``accel/ademamix.h``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from accel.ops import checks
from accel.ops.optimizers.checks import check_beta, check_step
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
from accel.ops.optimizers.surface import OptimizerOp, check_noop, unpack

ADEMAMIX_MAXIMIZE = 1

_STATES = ("exp_avgs", "exp_avg_slows", "exp_avg_sqs")
_MOST = 1.0 - 2e-8


@dataclass(slots=True, kw_only=True, eq=False, repr=False)
class AdEMAMixHyper(Hyper):
    """The numbers of one step of AdEMAMix.

    Attributes:
        beta1: decay rate of the fast moment, in [0, 1).
        beta2: decay rate of the second moment, in [0, 1).
        beta3: decay rate of the slow moment, in [0, 1).
        alpha: weight of the slow moment, from 0 on.
        eps: added to the root of the second moment.
        alpha_warmup: steps in which `alpha` rises linearly from 0; 0: no warm-up.
        beta3_warmup: steps in which the slow moment's half-life rises linearly from that of `beta1`
            to that of `beta3`; 0: no warm-up.
    """

    beta1: float
    beta2: float
    beta3: float
    alpha: float
    eps: float
    alpha_warmup: float = 0.0
    beta3_warmup: float = 0.0


def check_warmup(beta3: float, beta3_warmup: float) -> None:
    """Raise `ValueError` if a warm-up cannot reach `beta3`, because its half-life is too large."""
    if beta3_warmup and beta3 > _MOST:
        raise ValueError(f"beta3 is {beta3!r}; with a warm-up it may be at most 1 - 2e-8.")


def ademamix_reference(tensors: TensorLists, hyper: AdEMAMixHyper) -> None:
    """Step every tensor of checked lists.

    On the CPU the bits are those of the native kernel, except the payload of NaN.
    """
    # Imported here, because loading a native library does not need it.
    from accel.ops.optimizers.reference.stepping import step_each

    step_each(tensors, hyper, _STATES, _numbers, _update)


def half_life(beta: float) -> float:
    """Return the half-life, in steps, of a moment with this decay rate; 1e-8 allows a rate of 0."""
    rate = math.log(beta + 1e-8)
    return math.log(0.5) / rate if rate else math.inf


def warmed(time: Scalar, warmup: float) -> Scalar:
    """Return the completed part of a warm-up at a step, above 0 and at most 1."""
    share = time / max(warmup, 1.0)
    return share.clamp(max=1.0) if isinstance(share, Tensor) else min(share, 1.0)


def slow_rate(hyper: Any, time: Scalar) -> tuple[Scalar, Scalar]:
    """Return the slow moment's decay rate at a step, and 1 minus that rate."""
    last = (hyper.beta3, 1.0 - hyper.beta3)
    done = warmed(time, hyper.beta3_warmup)
    if hyper.beta3_warmup <= 1.0 or (not isinstance(done, Tensor) and done >= 1.0):
        return last
    life = (1.0 - done) * half_life(hyper.beta1) + done * half_life(hyper.beta3)
    if not isinstance(life, Tensor):
        return 0.5 ** (1.0 / life), 1.0 - 0.5 ** (1.0 / life)
    beta = 0.5 ** (1.0 / life)
    # In float32, 1 minus a number near 1 would have few correct digits.
    exact = life.dtype == torch.float64
    weight = 1.0 - beta if exact else -torch.expm1(math.log(0.5) / life)
    rises = time < hyper.beta3_warmup
    return torch.where(rises, beta, last[0]), torch.where(rises, weight, last[1])


def _numbers(hyper: AdEMAMixHyper, like: Tensor, time: Scalar) -> Sequence[Scalar]:
    """Return gradient factor, decay factor, eps, slow rate and weight, step sizes."""
    lr, (beta3, weight) = learning_rate(hyper, like), slow_rate(hyper, time)
    root_c2 = square_root(correction(hyper.beta2, time))
    alpha = warmed(time, hyper.alpha_warmup) * hyper.alpha
    numbers = (
        1.0 - lr * hyper.weight_decay,
        scaled_eps(hyper.eps, root_c2, like.dtype),
        beta3,
        weight,
        lr * root_c2 / correction(hyper.beta1, time),
        lr * root_c2 * alpha,
    )
    maximize = bool(hyper.flags & ADEMAMIX_MAXIMIZE)
    factor = grad_factor(hyper, like, maximize=maximize)
    return factor, *(narrow(number, like) for number in numbers)


def _update(
    p: Tensor, grad: Tensor, states: list[Tensor], hyper: AdEMAMixHyper, numbers: Sequence[Scalar]
) -> tuple[Tensor, list[Tensor]]:
    factor, keep, eps, beta3, weight, step_size, slow_size = numbers
    g = times(grad, factor)
    m, slow, v = states
    m = (g * (1.0 - hyper.beta1)).add_(m * hyper.beta1)
    slow = (g * weight).add_(slow * beta3)
    v = (g * (1.0 - hyper.beta2)).mul_(g).add_(v * hyper.beta2)
    change = (m * step_size).add_(slow * slow_size).div_(root(v).add_(eps))
    return times(p, keep) - change, [m, slow, v]


def _verify(_: TensorLists, hyper: AdEMAMixHyper) -> None:
    check_warmup(hyper.beta3, hyper.beta3_warmup)


ADEMAMIX = Family(
    name="ademamix",
    states=_STATES,
    hyper=AdEMAMixHyper,
    reference=ademamix_reference,
    flags=ADEMAMIX_MAXIMIZE,
    verify=_verify,
)


class FusedAdEMAMix(OptimizerOp):
    """AdEMAMix over lists of tensors, in one call."""

    name: ClassVar[str] = "fused_ademamix"
    family: ClassVar[Family] = ADEMAMIX
    functions: ClassVar[tuple[str, ...]] = ("multi_tensor_ademamix",)

    def multi_tensor_ademamix(
        self,
        chunk_size: int,
        noop_flag: Tensor | None,
        tensor_lists: Sequence[Sequence[Tensor]],
        lr: float,
        beta1: float,
        beta2: float,
        beta3: float,
        alpha: float,
        eps: float,
        step: int,
        weight_decay: float,
        alpha_warmup: float = 0.0,
        beta3_warmup: float = 0.0,
    ) -> None:
        """Do one step on every tensor, in place (Pagliardini et al. 2024).

        Args:
            chunk_size: elements a device block works on at a time; a hint, not used here.
            noop_flag: integer tensor of one element; if it is not 0, nothing is done. May be
                ``None``.
            tensor_lists: gradients, parameters, fast, slow and second moments, five lists of one
                length; float32, bfloat16, float16 or float64. Any strides.
            lr: learning rate, from 0 on.
            beta1: decay rate of the fast moment, in [0, 1).
            beta2: decay rate of the second moment, in [0, 1).
            beta3: decay rate of the slow moment, in [0, 1).
            alpha: weight of the slow moment, from 0 on.
            eps: added to the root of the second moment, from 0 on.
            step: number of this step, from 1.
            weight_decay: coefficient of the decoupled decay, from 0 on.
            alpha_warmup: steps in which `alpha` rises from 0; 0: no warm-up.
            beta3_warmup: steps in which the slow moment's half-life rises from that of `beta1`; 0:
                no warm-up.

        Raises:
            TypeError, ValueError: an argument of the wrong kind or out of range, or tensors that do
                not match or share memory, named. Nothing has been written.
        """
        names = ("gradients", "parameters", "exp_avg", "exp_avg_slow", "exp_avg_sq")
        grads, params, *moments = unpack(tensor_lists, *names)
        hyper = AdEMAMixHyper(
            step=check_step(step),
            lr=checks.check_not_negative("lr", lr),
            beta1=check_beta("beta1", beta1),
            beta2=check_beta("beta2", beta2),
            beta3=check_beta("beta3", beta3),
            alpha=checks.check_not_negative("alpha", alpha),
            eps=checks.check_not_negative("eps", eps),
            alpha_warmup=checks.check_not_negative("alpha_warmup", alpha_warmup),
            beta3_warmup=checks.check_not_negative("beta3_warmup", beta3_warmup),
            weight_decay=checks.check_not_negative("weight_decay", weight_decay),
            noop_flag=check_noop(noop_flag),
        )
        check_warmup(hyper.beta3, hyper.beta3_warmup)
        states = dict(zip(_STATES, moments, strict=True))
        self.kernel.run(TensorLists({"params": params, "grads": grads, **states}), hyper)
