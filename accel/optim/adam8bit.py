"""`Adam8bit`: Adam with moments of 8 bits, convertible to and from float moments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor
from typing_extensions import Unpack

from accel.ops.optimizers.family import Family
from accel.ops.optimizers.reference.adam8bit import (
    ADAM8BIT,
    ADAM8BIT_ADAMW,
    ADAM8BIT_BIAS_CORRECTION,
    ADAM8BIT_MAXIMIZE,
    Adam8bitHyper,
)
from accel.optim.adam import FusedAdam
from accel.optim.coded import CodedStates
from accel.optim.options import AdamOptions, refuse, switch

Group = dict[str, Any]


class Adam8bit(CodedStates, FusedAdam):
    """Adam and AdamW with moments of 8 bits and a scale for each block of 256 elements.

    The state takes 2 + 1/32 bytes for each element instead of eight. Codes, their range and error
    bound are described in `accel.ops.optimizers.codes8bit`. Moments are rounded stochastically, so
    that small changes of a moment add up. `load_state_dict` also takes the float moments of
    `FusedAdam` and ``torch.optim.AdamW``; `float_state_dict` returns such a state.

    float32 cannot hold the square of a gradient above 5e20. Such a gradient stops its own element,
    as in float32, and slows the other elements of its block while their common scale is so large.
    A NaN makes the moments of its whole block NaN, so the block's parameters become NaN.

    Each process encodes its own shard of a distributed parameter, in blocks that start at the
    shard's start. The state therefore only fits parameters that are sharded in the same way; see
    `with_float_moments` for others.

    Args:
        params: parameters or groups: float32, bfloat16 or float16.
        lr, bias_correction, betas, eps, adam_w_mode, weight_decay, amsgrad, set_grad_none: as in
            `FusedAdam`; `amsgrad` must be false.
        options: the keyword arguments of `FusedAdam` from `maximize` on, except `state_dtype`.
            `seed` is the seed for rounding the moments.

    Raises:
        TypeError, ValueError: an argument of the wrong kind or out of range, named.
        Unsupported: ``amsgrad``, ``state_dtype``, ``differentiable``; parameters of
            FullyShardedDataParallel.
    """

    builder: ClassVar[str] = "Adam8bitBuilder"
    family: ClassVar[Family | None] = ADAM8BIT
    states: ClassVar[Mapping[str, str]] = {"exp_avg": "exp_avgs", "exp_avg_sq": "exp_avg_sqs"}
    extra_keys: ClassVar[Mapping[str, str]] = {
        "exp_avg_scale": "exp_avg_scales",
        "exp_avg_sq_scale": "exp_avg_sq_scales",
    }
    needs_whole: ClassVar[str] = (
        "its blocks of codes would cross the ends of shards. Use FusedAdam with "
        "state_dtype=torch.bfloat16"
    )

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
        **options: Unpack[AdamOptions],
    ) -> None:
        refuse("Adam8bit", amsgrad=amsgrad, state_dtype=options.get("state_dtype"))
        super().__init__(
            params,
            lr,
            bias_correction,
            betas,
            eps,
            adam_w_mode,
            weight_decay,
            False,
            set_grad_none,
            **options,
        )

    def hyper(self, group: Group) -> Adam8bitHyper:
        """Return the numbers of a group's next step, checked; raises naming the argument."""
        plain = super().hyper(group)
        return Adam8bitHyper(
            lr=plain.lr,
            lr_tensor=plain.lr_tensor,
            beta1=plain.beta1,
            beta2=plain.beta2,
            eps=plain.eps,
            weight_decay=plain.weight_decay,
            flags=ADAM8BIT_ADAMW * switch("decoupled_weight_decay", group["decoupled_weight_decay"])
            + ADAM8BIT_BIAS_CORRECTION * switch("bias_correction", group["bias_correction"])
            + ADAM8BIT_MAXIMIZE * switch("maximize", group["maximize"]),
        )

    def state_keys(self, group: Group) -> tuple[str, ...]:
        """Return the keys of the states that a group's tensors have."""
        refuse("Adam8bit", amsgrad=group["amsgrad"])
        return tuple(self.states)
