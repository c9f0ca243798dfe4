"""`FusedAdam`: Adam and AdamW, state interchangeable with ``torch.optim.AdamW``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from accel.ops import checks
from accel.ops.optimizers.family import Family
from accel.ops.optimizers.reference.adam import (
    ADAM,
    ADAM_ADAMW,
    ADAM_AMSGRAD,
    ADAM_BIAS_CORRECTION,
    ADAM_MAXIMIZE,
    AdamHyper,
)
from accel.optim.base import KernelOptimizer
from accel.optim.options import betas, rate, switch, torch_options
from accel.optim.policy import policy_of

Group = dict[str, Any]


class FusedAdam(KernelOptimizer):
    """Adam (Kingma and Ba 2015) and AdamW (Loshchilov and Hutter 2019) in one call for each group.

    Args:
        params: parameters or groups, as every torch optimizer takes.
        lr: learning rate; a tensor of one element is read on its device, without a wait.
        bias_correction: whether to correct the moments for their start at zero.
        betas: decay rates of the moments, each in [0, 1).
        eps: added to the root of the second moment.
        adam_w_mode: decoupled decay (AdamW); without it `weight_decay` is L2 (Adam).
        weight_decay: coefficient of the decay.
        amsgrad: divide by the largest second moment so far.
        set_grad_none: the default of `zero_grad`'s `set_to_none`.
        maximize: go up instead of down.
        max_grad_norm: the largest allowed L2 norm of the gradients of all groups together, after a
            `GradScaler`'s scale is divided out. A step scales larger gradients down, as
            `torch.nn.utils.clip_grad_norm_` would, but without writing them. As there, an infinite
            norm makes gradients 0 or NaN, and a NaN makes them NaN, unless a `GradScaler` skips the
            step. 0: no clipping; infinity: no clipping, but `grad_norm` is computed. A group's
            entry limits that group's gradients; the norm is always the one of all groups.
        foreach: accepted without effect: all tensors go in one call.
        fused: if true, a `GradScaler` leaves unscaling and skipping to the step. The step then
            waits for nothing, and frameworks cannot clip. If false, the `GradScaler` does both. All
            tensors go in one call either way. A scale on the host must be above 0; a scale on a
            device is not read by the host.
        capturable: accepted without effect: step counters are on the parameter's device anyway.
        differentiable: must be false.
        master_weights: Apex's name for ``master_dtype=torch.float32``.
        state_dtype: element type of the moments; ``None``: float32, or float64 for float64
            parameters; ``"param"``: the parameter's. By default, 16-bit parameters have float32
            moments. The group's entry is the type's name.
        master_dtype: ``torch.float32``: steps update a float32 copy of each 16-bit parameter;
            ``None``: no copy.
        rounding: ``"nearest"`` or ``"stochastic"``, for 16-bit parameters without a master copy,
            and for 16-bit moments.
        seed: seed of stochastic rounding; ``None``: 0, not torch's seed, so that processes with
            replicas of the model draw the same bits. It is part of the state, so a resumed run
            draws the same bits.

    Raises:
        TypeError, ValueError: an argument of the wrong kind or out of range, named.
        Unsupported: ``differentiable=True``.
    """

    builder: ClassVar[str] = "FusedAdamBuilder"
    family: ClassVar[Family | None] = ADAM
    states: ClassVar[Mapping[str, str]] = {
        "exp_avg": "exp_avgs",
        "exp_avg_sq": "exp_avg_sqs",
        "max_exp_avg_sq": "max_exp_avg_sqs",
    }

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        bias_correction: bool = True,
        betas: tuple[float | Tensor, float | Tensor] = (0.9, 0.999),
        eps: float = 1e-8,
        adam_w_mode: bool = True,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        set_grad_none: bool = True,
        *,
        maximize: bool = False,
        max_grad_norm: float = 0.0,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        master_weights: bool = False,
        state_dtype: torch.dtype | str | None = None,
        master_dtype: torch.dtype | str | None = None,
        rounding: str = "nearest",
        seed: int | None = None,
    ) -> None:
        defaults: Group = {
            "lr": lr,
            "bias_correction": switch("bias_correction", bias_correction),
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "amsgrad": switch("amsgrad", amsgrad),
            "maximize": switch("maximize", maximize),
            "max_grad_norm": max_grad_norm,
            **torch_options(foreach, capturable, differentiable, fused),
            "decoupled_weight_decay": switch("adam_w_mode", adam_w_mode),
        }
        master_dtype = torch.float32 if master_weights else master_dtype
        policy = policy_of(state_dtype, master_dtype, rounding, seed)
        super().__init__(params, defaults, policy, set_grad_none=set_grad_none)
        self.adam_w_mode = int(bool(adam_w_mode))

    def hyper(self, group: Group) -> AdamHyper:
        """Return the numbers of a group's next step, checked; raises naming the argument."""
        lr, lr_tensor = rate(group["lr"])
        beta1, beta2 = betas(group["betas"])
        return AdamHyper(
            lr=lr,
            lr_tensor=lr_tensor,
            beta1=beta1,
            beta2=beta2,
            eps=checks.check_not_negative("eps", group["eps"]),
            weight_decay=checks.check_not_negative("weight_decay", group["weight_decay"]),
            flags=ADAM_ADAMW * switch("decoupled_weight_decay", group["decoupled_weight_decay"])
            + ADAM_BIAS_CORRECTION * switch("bias_correction", group["bias_correction"])
            + ADAM_AMSGRAD * switch("amsgrad", group["amsgrad"])
            + ADAM_MAXIMIZE * switch("maximize", group["maximize"]),
        )

    def state_keys(self, group: Group) -> tuple[str, ...]:
        """Return the keys of the states that a group's tensors have."""
        keys = tuple(self.states)
        return keys if group["amsgrad"] else keys[:2]

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a pickled or loaded state, and the attributes that are derived from it."""
        super().__setstate__(state)
        self.adam_w_mode = int(self.defaults["decoupled_weight_decay"])
