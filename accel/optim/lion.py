"""`FusedLion` and `CPULion`: Lion with one float moment for each parameter."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor
from typing_extensions import Unpack

from accel.ops import checks
from accel.ops.optimizers.family import Family
from accel.ops.optimizers.reference.lion import LION, LION_MAXIMIZE, LionHyper
from accel.optim.base import KernelOptimizer
from accel.optim.options import Options, betas, rate, switch, torch_options
from accel.optim.policy import PARAM, policy_of
from accel.optim.swap.swapping import SWAP_MEMORY, Swapping

Group = dict[str, Any]


class FusedLion(KernelOptimizer):
    """Lion (Chen et al. 2023) in one call for each group.

    Args:
        params: parameters or groups, as every torch optimizer takes.
        lr: learning rate; a tensor of one element is read on its device, without a wait.
        betas: weight of the moment in the update and decay rate of the moment, each in [0, 1).
        weight_decay: coefficient of the decoupled decay.
        set_grad_none: the default of `zero_grad`'s `set_to_none`.
        maximize: go up instead of down.
        max_grad_norm: as in `FusedAdam`.
        foreach, fused, capturable, differentiable: as in `FusedAdam`.
        state_dtype, master_dtype, rounding, seed: as in `FusedAdam`.

    Raises:
        TypeError, ValueError: an argument of the wrong kind or out of range, named.
        Unsupported: ``differentiable=True``.
    """

    builder: ClassVar[str] = "FusedLionBuilder"
    family: ClassVar[Family | None] = LION
    states: ClassVar[Mapping[str, str]] = {"exp_avg": "exp_avgs"}

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        betas: tuple[float | Tensor, float | Tensor] = (0.9, 0.99),
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
            "weight_decay": weight_decay,
            "maximize": switch("maximize", maximize),
            "max_grad_norm": max_grad_norm,
            **torch_options(foreach, capturable, differentiable, fused),
        }
        policy = policy_of(state_dtype, master_dtype, rounding, seed)
        super().__init__(params, defaults, policy, set_grad_none=set_grad_none)

    def hyper(self, group: Group) -> LionHyper:
        """Return the numbers of a group's next step, checked; raises naming the argument."""
        lr, lr_tensor = rate(group["lr"])
        beta1, beta2 = betas(group["betas"])
        return LionHyper(
            lr=lr,
            lr_tensor=lr_tensor,
            beta1=beta1,
            beta2=beta2,
            weight_decay=checks.check_not_negative("weight_decay", group["weight_decay"]),
            flags=LION_MAXIMIZE * switch("maximize", group["maximize"]),
        )


class CPULion(Swapping, FusedLion):
    """Lion for parameters on the host, with the argument order of DeepSpeed's class.

    Args:
        model_params: parameters or groups.
        lr: learning rate.
        betas: as in `FusedLion`.
        weight_decay: coefficient of the decoupled decay.
        fp32_optimizer_states: float32 moments; if false, they have the parameter's type.
        swap_dir, swap_memory, swap_keep: as in `CPUAdam`.
        options: the keyword arguments of `FusedLion` from `maximize` on.
    """

    builder: ClassVar[str] = "CPULionBuilder"

    def __init__(
        self,
        model_params: Any,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
        fp32_optimizer_states: bool = True,
        *,
        swap_dir: str | os.PathLike[str] | None = None,
        swap_memory: int = SWAP_MEMORY,
        swap_keep: bool = False,
        **options: Unpack[Options],
    ) -> None:
        if not fp32_optimizer_states:
            options.setdefault("state_dtype", PARAM)
        super().__init__(model_params, lr, betas, weight_decay, **options)
        self.swap_to(swap_dir, swap_memory, swap_keep)
