"""`CodedStates`: the state of optimizers with moments of 8 bits, convertible to and from floats."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from accel.ops.checks import FLOATS, is_dense
from accel.ops.optimizers.codes8bit import blocks, encode, memory_order
from accel.optim.base import KernelOptimizer
from accel.optim.entries import check_entry
from accel.optim.foreign import MOMENTS, check_codes, floats
from accel.optim.shards import distributed_scales, like, own_scales, scales_shape
from accel.optim.state import complete_frame

Group = dict[str, Any]
_SCALES = (torch.float32,)


class CodedStates(KernelOptimizer):
    """The part of an optimizer with 8-bit moments that makes and converts its state.

    A subclass names its moments in `states`, and in `extra_keys` the scales of each.
    """

    always_seeded: ClassVar[bool] = True

    def complete(self, group: Group, param: Tensor) -> Group:
        """Return a parameter's state: float moments encoded, codes with the parameter's strides."""
        self.refuse_pieces([param])
        state = complete_frame(self, group, param)
        for key, scale_key, signed in MOMENTS:
            if key in self.states:
                self._complete_moment(state, param, key, scale_key, signed)
        return state

    def _complete_moment(
        self, state: Group, param: Tensor, key: str, scale_key: str, signed: bool
    ) -> None:
        own = self.local(param)
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
            return
        given: Group = {key: moment}
        if scale_key in state:
            given[scale_key] = own_scales(state[scale_key], moment)
        if moment.dtype == torch.uint8:
            check_codes(given, key)
        if moment.dtype != torch.uint8 or moment.stride() != codes.stride():
            values = floats(given, key)
            if signed:
                _check_finite(values, key)
            flat = memory_order(torch.empty_like(codes, dtype=torch.float32).copy_(values))
            fresh, scales = encode(flat, signed=signed)
            memory_order(codes).copy_(fresh)
            state[key] = like(codes, param)
            state[scale_key] = distributed_scales(scales, state[key])

    def float_state_dict(self) -> dict[str, Any]:
        """Return a `state_dict` with float32 moments, as the class with float moments loads it."""
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
        moments, scales, _ = zip(*MOMENTS, strict=True)
        converted = {}
        for number, saved in state_dict["state"].items():
            entry = {key: value for key, value in saved.items() if key not in scales}
            for key in saved.keys() & {*moments}:
                entry[key] = floats(saved, key, f"The state of parameter {number}: ")
            converted[number] = entry
        return {**state_dict, "state": converted}


def _check_finite(moment: Tensor, key: str) -> None:
    """Raise `ValueError` for an infinity, which would become a large number."""
    endless = int(moment.isinf().sum())
    if endless:
        raise ValueError(
            f"state[{key!r}] has {endless} infinite elements, and its 8-bit codes end at 2**127. "
            f"Load the state into an optimizer with float moments, or delete the entry to start "
            f"anew."
        )


def _blank(param: Tensor) -> Tensor:
    """Return a dense uint8 tensor of the parameter's shape, and strides if it is dense."""
    if is_dense(param):
        return torch.empty_strided(
            param.shape, param.stride(), dtype=torch.uint8, device=param.device
        )
    return torch.empty(param.shape, dtype=torch.uint8, device=param.device)
