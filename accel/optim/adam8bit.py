"""`Adam8bit`: Adam with moments of 8 bits, convertible to and from float moments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor
from typing_extensions import Unpack

from accel.ops.checks import FLOATS, is_dense
from accel.ops.optimizers.codes8bit import blocks, encode, memory_order
from accel.ops.optimizers.family import Family
from accel.ops.optimizers.reference.adam8bit import (
    ADAM8BIT,
    ADAM8BIT_ADAMW,
    ADAM8BIT_BIAS_CORRECTION,
    ADAM8BIT_MAXIMIZE,
    Adam8bitHyper,
)
from accel.optim.adam import FusedAdam
from accel.optim.entries import check_entry
from accel.optim.foreign import MOMENTS, check_codes, floats
from accel.optim.options import AdamOptions, refuse, switch
from accel.optim.shards import distributed_scales, like, own_scales, scales_shape
from accel.optim.state import complete_frame

Group = dict[str, Any]
_SCALES = (torch.float32,)


class Adam8bit(FusedAdam):
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
    always_seeded: ClassVar[bool] = True
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

    def complete(self, group: Group, param: Tensor) -> Group:
        """Return a parameter's state: float moments encoded, codes with the parameter's strides."""
        self.refuse_pieces([param])
        state = complete_frame(self, group, param)
        own = self.local(param)
        for key, scale_key, signed in MOMENTS:
            codes = _blank(own)
            moment = None
            if key in state:
                moment = check_entry(state, key, param, self.local, (torch.uint8, *FLOATS))
            if scale_key in state:
                shape = scales_shape(state.get(key, param))
                check_entry(state, scale_key, param, self.local, _SCALES, shape)
            if moment is None or (moment.dtype == torch.uint8 and scale_key not in state):
                none = torch.zeros(blocks(own.numel()), dtype=torch.float32, device=param.device)
                state[key] = like(codes.zero_(), param)
                state[scale_key] = distributed_scales(none, state[key])
                continue
            given: Group = {key: moment}
            if scale_key in state:
                given[scale_key] = own_scales(state[scale_key], moment)
            if moment.dtype == torch.uint8:
                check_codes(given, key)
            if moment.dtype != torch.uint8 or moment.stride() != codes.stride():
                values = floats(given, key)
                flat = memory_order(torch.empty_like(codes, dtype=torch.float32).copy_(values))
                fresh, scales = encode(flat, signed=signed)
                memory_order(codes).copy_(fresh)
                state[key] = like(codes, param)
                state[scale_key] = distributed_scales(scales, state[key])
        return state

    def float_state_dict(self) -> dict[str, Any]:
        """Return a `state_dict` with float32 moments, as `FusedAdam` and torch's AdamW load it."""
        return self.with_float_moments(self, self.state_dict())

    @staticmethod
    def with_float_moments(
        optimizer: torch.optim.Optimizer, state_dict: dict[str, Any]
    ) -> dict[str, Any]:
        """Return a `state_dict` of this class with float32 moments in place of codes.

        For ``optimizer.register_state_dict_post_hook``. The saved state can then be loaded by any
        number of processes, however they shard the parameters, to within the rounding of codes.

        Args:
            optimizer: the optimizer whose state it is; not used.
            state_dict: the result of the optimizer's `state_dict`; not changed.
        """
        converted = {}
        for number, saved in state_dict["state"].items():
            entry = {key: value for key, value in saved.items() if key not in Adam8bit.extra_keys}
            for key in saved.keys() & Adam8bit.states.keys():
                entry[key] = floats(saved, key, f"The state of parameter {number}: ")
            converted[number] = entry
        return {**state_dict, "state": converted}


def _blank(param: Tensor) -> Tensor:
    """Return a dense uint8 tensor of the parameter's shape, and strides if it is dense."""
    if is_dense(param):
        return torch.empty_strided(
            param.shape, param.stride(), dtype=torch.uint8, device=param.device
        )
    return torch.empty(param.shape, dtype=torch.uint8, device=param.device)
