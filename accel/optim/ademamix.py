"""`AdEMAMix`: AdamW with a second, slow moment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from accel.ops import checks
from accel.ops.optimizers.ademamix import (
    ADEMAMIX,
    ADEMAMIX_MAXIMIZE,
    AdEMAMixHyper,
    check_warmup,
)
from accel.ops.optimizers.family import Family
from accel.optim.base import KernelOptimizer
from accel.optim.options import betas, rate, switch, torch_options
from accel.optim.policy import policy_of

Group = dict[str, Any]


class AdEMAMix(KernelOptimizer):
    """AdEMAMix (Pagliardini et al. 2024) in one call for each group.

    Args:
        params: parameters or groups, as every torch optimizer takes.
        lr: learning rate; a tensor of one element is read on its device, without a wait.
        betas: decay rates of the fast, the second and the slow moment, each in [0, 1).
        alpha: weight of the slow moment, from 0 on.
        beta3_warmup: steps in which the slow moment's decay rate rises from the first of `betas`
            to the last, with its half-life rising linearly; ``None``: always the last.
        alpha_warmup: steps in which `alpha` rises linearly from 0; ``None``: no warm-up.
        eps: added to the root of the second moment.
        weight_decay: coefficient of the decoupled decay.
        set_grad_none: the default of `zero_grad`'s `set_to_none`.
        maximize: go up instead of down.
        max_grad_norm: as in `FusedAdam`.
        foreach, fused, capturable, differentiable: as in `FusedAdam`.
        state_dtype, master_dtype, rounding, seed: as in `FusedAdam`. A slow moment in 16 bits needs
            ``rounding="stochastic"``: a step changes it by less than the spacing of 16-bit numbers.

    Raises:
        TypeError, ValueError: an argument of the wrong kind or out of range, named.
        Unsupported: ``differentiable=True``.
    """

    builder: ClassVar[str] = "FusedAdEMAMixBuilder"
    family: ClassVar[Family | None] = ADEMAMIX
    states: ClassVar[Mapping[str, str]] = {
        "exp_avg": "exp_avgs",
        "exp_avg_slow": "exp_avg_slows",
        "exp_avg_sq": "exp_avg_sqs",
    }

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        betas: tuple[float | Tensor, float | Tensor, float | Tensor] = (0.9, 0.999, 0.9999),
        alpha: float = 2.0,
        beta3_warmup: int | None = None,
        alpha_warmup: int | None = None,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        set_grad_none: bool = True,
        *,
        maximize: bool = False,
        max_grad_norm: float = 0.0,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        state_dtype: torch.dtype | str | None = None,
        master_dtype: torch.dtype | str | None = None,
        rounding: str = "nearest",
        seed: int | None = None,
    ) -> None:
        defaults: Group = {
            "lr": lr,
            "betas": betas,
            "alpha": alpha,
            "beta3_warmup": beta3_warmup,
            "alpha_warmup": alpha_warmup,
            "eps": eps,
            "weight_decay": weight_decay,
            "maximize": switch("maximize", maximize),
            "max_grad_norm": max_grad_norm,
            **torch_options(foreach, capturable, differentiable, fused),
        }
        policy = policy_of(state_dtype, master_dtype, rounding, seed)
        super().__init__(params, defaults, policy, set_grad_none=set_grad_none)

    def hyper(self, group: Group) -> AdEMAMixHyper:
        """Return the numbers of a group's next step, checked; raises naming the argument."""
        lr, lr_tensor = rate(group["lr"])
        beta1, beta2, beta3 = betas(group["betas"], 3)
        beta3_warmup = checks.check_steps("beta3_warmup", group["beta3_warmup"])
        # A recorded step reads and checks a tensor's value when it runs.
        if not isinstance(beta3, Tensor):
            check_warmup(beta3, beta3_warmup)
        return AdEMAMixHyper(
            lr=lr,
            lr_tensor=lr_tensor,
            beta1=beta1,
            beta2=beta2,
            beta3=beta3,
            alpha=checks.check_not_negative("alpha", group["alpha"]),
            eps=checks.check_not_negative("eps", group["eps"]),
            alpha_warmup=checks.check_steps("alpha_warmup", group["alpha_warmup"]),
            beta3_warmup=beta3_warmup,
            weight_decay=checks.check_not_negative("weight_decay", group["weight_decay"]),
            flags=ADEMAMIX_MAXIMIZE * switch("maximize", group["maximize"]),
        )
