"""`Lion8bit`: Lion with a moment of 8 bits, convertible to and from a float moment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor
from typing_extensions import Unpack

from accel.ops.optimizers.family import Family
from accel.ops.optimizers.reference.lion8bit import LION8BIT, LION8BIT_MAXIMIZE, Lion8bitHyper
from accel.optim.coded import CodedStates
from accel.optim.lion import FusedLion
from accel.optim.options import Options, refuse, switch

Group = dict[str, Any]


class Lion8bit(CodedStates, FusedLion):
    """Lion with a moment of 8 bits and a scale for each block of 256 elements.

    The state takes 1 + 1/64 bytes for each element instead of four. Codes, their range and error
    bound are described in `accel.ops.optimizers.codes8bit`. The moment is rounded stochastically,
    so that small changes of it add up. `load_state_dict` also takes the float moment of
    `FusedLion`; `float_state_dict` returns such a state.

    A NaN makes the moment of its whole block NaN, so the block's parameters become NaN.

    Each process encodes its own shard of a distributed parameter, as `Adam8bit` does.

    Args:
        params: parameters or groups: float32, bfloat16 or float16.
        lr: learning rate, by default bitsandbytes'; otherwise as in `FusedLion`.
        betas, weight_decay, set_grad_none: as in `FusedLion`.
        options: the keyword arguments of `FusedLion` from `maximize` on, except `state_dtype`.
            `seed` is the seed for rounding the moment.

    Raises:
        TypeError, ValueError: an argument of the wrong kind or out of range, named.
        Unsupported: ``state_dtype``, ``differentiable``; parameters of FullyShardedDataParallel.
    """

    builder: ClassVar[str] = "Lion8bitBuilder"
    family: ClassVar[Family | None] = LION8BIT
    states: ClassVar[Mapping[str, str]] = {"exp_avg": "exp_avgs"}
    extra_keys: ClassVar[Mapping[str, str]] = {"exp_avg_scale": "exp_avg_scales"}
    needs_whole: ClassVar[str] = (
        "its blocks of codes would cross the ends of shards. Use FusedLion with "
        "state_dtype=torch.bfloat16"
    )

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-4,
        betas: tuple[float | Tensor, float | Tensor] = (0.9, 0.99),
        weight_decay: float = 0.0,
        set_grad_none: bool = True,
        **options: Unpack[Options],
    ) -> None:
        refuse("Lion8bit", state_dtype=options.get("state_dtype"))
        super().__init__(params, lr, betas, weight_decay, set_grad_none, **options)

    def hyper(self, group: Group) -> Lion8bitHyper:
        """Return the numbers of a group's next step, checked; raises naming the argument."""
        plain = super().hyper(group)
        return Lion8bitHyper(
            lr=plain.lr,
            lr_tensor=plain.lr_tensor,
            beta1=plain.beta1,
            beta2=plain.beta2,
            weight_decay=plain.weight_decay,
            flags=LION8BIT_MAXIMIZE * switch("maximize", group["maximize"]),
        )
