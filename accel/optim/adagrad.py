"""`FusedAdagrad`, `CPUAdagrad`: Adagrad, state interchangeable with ``torch.optim.Adagrad``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor
from typing_extensions import Unpack

from accel.ops import checks
from accel.ops.optimizers.family import Family
from accel.ops.optimizers.reference.adagrad import ADAGRAD, ADAGRAD_MAXIMIZE, AdagradHyper
from accel.optim.base import KernelOptimizer
from accel.optim.options import AdagradOptions, rate, refuse, switch, torch_options
from accel.optim.policy import PARAM, policy_of
from accel.optim.swap.swapping import SWAP_MEMORY, Swapping

Group = dict[str, Any]


class FusedAdagrad(KernelOptimizer):
    """Adagrad (Duchi, Hazan and Singer 2011) in one call for each group, with Apex's arguments.

    Args:
        params: parameters or groups, as every torch optimizer takes.
        lr: learning rate; a tensor of one element is read on its device, without a wait.
        eps: added to the root of the sum of squares.
        weight_decay: L2 coefficient.
        set_grad_none: the default of `zero_grad`'s `set_to_none`.
        adagrad_w_mode: must be false.
        lr_decay: the rate is ``lr / (1 + (step - 1) * lr_decay)``, from 0 on.
        initial_accumulator_value: initial value of the sums, from 0 on.
        maximize: go up instead of down.
        max_grad_norm: as in `FusedAdam`.
        foreach, fused, capturable, differentiable: as in `FusedAdam`.
        state_dtype, master_dtype, rounding, seed: as in `FusedAdam`.

    Raises:
        TypeError, ValueError: an argument of the wrong kind or out of range, named.
        Unsupported: ``differentiable=True`` or ``adagrad_w_mode=True``.
    """

    builder: ClassVar[str] = "FusedAdagradBuilder"
    family: ClassVar[Family | None] = ADAGRAD
    states: ClassVar[Mapping[str, str]] = {"sum": "sums"}

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-2,
        eps: float = 1e-10,
        weight_decay: float = 0.0,
        set_grad_none: bool = True,
        adagrad_w_mode: bool = False,
        *,
        lr_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
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
        refuse("Adagrad", adagrad_w_mode=adagrad_w_mode)
        defaults: Group = {
            "lr": lr,
            "lr_decay": lr_decay,
            "eps": eps,
            "weight_decay": weight_decay,
            "initial_accumulator_value": initial_accumulator_value,
            "maximize": switch("maximize", maximize),
            "max_grad_norm": max_grad_norm,
            **torch_options(foreach, capturable, differentiable, fused),
        }
        policy = policy_of(state_dtype, master_dtype, rounding, seed)
        super().__init__(params, defaults, policy, set_grad_none=set_grad_none)

    def hyper(self, group: Group) -> AdagradHyper:
        """Return the numbers of a group's next step, checked; raises naming the argument."""
        lr, lr_tensor = rate(group["lr"])
        checks.check_not_negative("initial_accumulator_value", group["initial_accumulator_value"])
        return AdagradHyper(
            lr=lr,
            lr_tensor=lr_tensor,
            lr_decay=checks.check_not_negative("lr_decay", group["lr_decay"]),
            eps=checks.check_not_negative("eps", group["eps"]),
            weight_decay=checks.check_not_negative("weight_decay", group["weight_decay"]),
            flags=ADAGRAD_MAXIMIZE * switch("maximize", group["maximize"]),
        )

    def new_state(self, key: str, param: Tensor, group: Group, dtype: torch.dtype) -> Tensor:
        """Return a state as it is before the first step."""
        start = group["initial_accumulator_value"]
        return torch.full_like(param, start, dtype=dtype, device=self.home(param))


class CPUAdagrad(Swapping, FusedAdagrad):
    """Adagrad for parameters on the host, with the argument order of DeepSpeed's class.

    Args:
        model_params: parameters or groups.
        lr, eps, weight_decay: as in `FusedAdagrad`.
        amsgrad: must be false; DeepSpeed's class has the argument, but does not use it.
        fp32_optimizer_states: float32 sums; if false, they have the parameter's type.
        swap_dir, swap_memory, swap_keep: as in `CPUAdam`.
        options: the keyword arguments of `FusedAdagrad` from `lr_decay` on.
    """

    builder: ClassVar[str] = "CPUAdagradBuilder"

    def __init__(
        self,
        model_params: Any,
        lr: float | Tensor = 1e-2,
        eps: float = 1e-10,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        fp32_optimizer_states: bool = True,
        *,
        swap_dir: str | os.PathLike[str] | None = None,
        swap_memory: int = SWAP_MEMORY,
        swap_keep: bool = False,
        **options: Unpack[AdagradOptions],
    ) -> None:
        refuse("Adagrad", amsgrad=amsgrad)
        if not fp32_optimizer_states:
            options.setdefault("state_dtype", PARAM)
        super().__init__(model_params, lr, eps, weight_decay, **options)
        self.swap_to(swap_dir, swap_memory, swap_keep)
