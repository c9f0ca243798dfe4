"""LAMB's call surface: `FusedLamb`, one tensor at a time."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from accel.ops import checks
from accel.ops.optimizers.checks import check_beta, check_step
from accel.ops.optimizers.family import Family
from accel.ops.optimizers.lists import TensorLists
from accel.ops.optimizers.reference.lamb import (
    LAMB,
    LAMB_BIAS_CORRECTION,
    LAMB_EPS_INSIDE,
    PHASES,
    LambHyper,
)
from accel.ops.optimizers.surface import OptimizerOp, check_flag, check_mode

_INVERTIBLE = "a number from 2**-126 to 2**126, so that float32 can hold its inverse"


class FusedLamb(OptimizerOp):
    """LAMB, with the ratio of norms of each tensor."""

    name: ClassVar[str] = "fused_lamb"
    family: ClassVar[Family] = LAMB
    functions: ClassVar[tuple[str, ...]] = ("lamb",)

    def lamb(
        self,
        p: Tensor,
        p_copy: Tensor,
        m: Tensor,
        v: Tensor,
        g: Tensor,
        lr: float,
        beta1: float,
        beta2: float,
        max_coeff: float,
        min_coeff: float,
        eps: float,
        grad_scale: float,
        step: int,
        mode: int,
        bias_correction: bool | int,
        decay: float,
    ) -> Tensor:
        """Do one step on one tensor, in place (You et al. 2020); returns the ratio of norms.

        Args:
            p: parameter, or the float32 master copy of `p_copy`; like `m`, `v` and `g`, float32,
                bfloat16 or float16, or all of them float64.
            p_copy: 16-bit parameter that receives the rounded result; an empty tensor: none.
            m: first moment.
            v: second moment.
            g: gradient.
            lr: learning rate, from 0 on.
            beta1: decay rate of the first moment, in [0, 1).
            beta2: decay rate of the second moment, in [0, 1).
            max_coeff: upper bound of the ratio.
            min_coeff: lower bound of the ratio, from 0 on.
            eps: from 0 on.
            grad_scale: divisor of the gradient, from 2**-126 to 2**126.
            step: number of this step, from 1.
            mode: 0 adds `eps` under the root of the second moment, 1 outside it.
            bias_correction: whether to correct the moments for their start at zero.
            decay: coefficient of the decay, part of the update, from 0 on.

        Returns:
            Tensor: float32, one element, on the parameter's device.

        Raises:
            TypeError, ValueError: an argument of the wrong kind, out of range, or tensors that do
                not match or share memory, named. Nothing has been written.
        """
        _check_kinds(p=p, m=m, v=v, g=g, p_copy=p if p_copy is None else p_copy)
        inside = check_mode(mode, "0 (eps inside the root) or 1 (outside)") == 0
        hyper = _hyper(step, lr, beta1, beta2, max_coeff, min_coeff, eps, decay)
        hyper.flags = (
            PHASES
            | LAMB_EPS_INSIDE * inside
            | LAMB_BIAS_CORRECTION * check_flag("bias_correction", bias_correction)
        )
        scale = checks.check_number("grad_scale", grad_scale, _invertible, _INVERTIBLE)
        if scale != 1.0:
            hyper.grad_scale = torch.tensor(scale, dtype=torch.float32, device="cpu")
        roles = {"params": [p], "grads": [g], "exp_avgs": [m], "exp_avg_sqs": [v]}
        coeff = torch.ones(1, dtype=torch.float32, device=p.device)
        if p_copy is not None and p_copy.numel():
            roles |= {"params": [p_copy], "masters": [p]}
        norms = torch.empty(2, dtype=torch.float64, device=p.device)
        extras = {"norms": [norms], "coeffs": [coeff]}
        lists = TensorLists(roles, extras=extras)  # type: ignore[arg-type]
        self.kernel.run(lists, hyper, single=True)
        return coeff


def _check_kinds(**tensors: Any) -> None:
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{name} is a {type(tensor).__name__}; expected a torch.Tensor.")


def _invertible(x: float) -> bool:
    return 2.0**-126 <= x <= 2.0**126


def _hyper(
    step: Any,
    lr: Any,
    beta1: Any,
    beta2: Any,
    max_coeff: Any,
    min_coeff: Any,
    eps: Any,
    decay: Any,
) -> LambHyper:
    lowest = checks.check_not_negative("min_coeff", min_coeff)
    return LambHyper(
        step=check_step(step),
        lr=checks.check_not_negative("lr", lr),
        beta1=check_beta("beta1", beta1),
        beta2=check_beta("beta2", beta2),
        max_coeff=checks.check_number(
            "max_coeff", max_coeff, lambda x: x >= lowest, f"a number from min_coeff={lowest} on"
        ),
        min_coeff=lowest,
        eps=checks.check_not_negative("eps", eps),
        weight_decay=checks.check_not_negative("decay", decay),
    )
