"""`SteppedOptimizer`: the declarations of each optimizer, and the helpers of a step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from operator import is_, itemgetter
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import Parameter

from accel.current import accelerator_for
from accel.ops.optimizers.family import Family
from accel.ops.optimizers.kernel import Kernel
from accel.ops.optimizers.lists import Hyper
from accel.optim.grad_limit import WHOLE, Clipping, Group, set_limit
from accel.optim.options import refuse_pieces, torch_options
from accel.optim.policy import DEFAULT_SEED, POLICY_KEYS, check_policy
from accel.optim.shards import local_of

_POLICY_OF = itemgetter(*POLICY_KEYS)
_NOTHING = (object(),) * len(POLICY_KEYS)


class SteppedOptimizer(Clipping):
    """The part of `KernelOptimizer` that knows nothing of how a step is prepared and run."""

    builder: ClassVar[str]
    family: ClassVar[Family | None] = None
    """The op in the dispatcher; ``None``: a compiled step breaks the graph."""

    states: ClassVar[Mapping[str, str]]
    """The op's roles by the key under which torch keeps them in an optimizer's state."""

    extra_keys: ClassVar[Mapping[str, str]] = {}
    """The op's further tensors, of other shapes, by their keys in an optimizer's state."""

    needs_whole: ClassVar[str] = ""
    """The reason for which FSDP1's pieces of parameters cannot be stepped; empty if they can."""

    always_seeded: ClassVar[bool] = False
    """Whether every step needs random bits, even with nearest rounding."""

    streams: bool = False
    """Whether a step moves its states through buffers, which cannot be traced."""

    _judged: dict[int, tuple[Any, ...]]

    def hyper(self, group: Group) -> Hyper:
        """Return the numbers of a group's next step, checked; raises naming the argument."""
        raise NotImplementedError

    def state_keys(self, group: Group) -> tuple[str, ...]:
        """Return the keys of the states that a group's tensors have."""
        return tuple(self.states)

    def new_state(self, key: str, param: Tensor, group: Group, dtype: torch.dtype) -> Tensor:
        """Return a state as it is before the first step."""
        return torch.zeros_like(param, dtype=dtype, device=self.home(param))

    def scratch(self, params: Sequence[Tensor]) -> dict[str, Sequence[Tensor]]:
        """Return the op's temporary memory, by field, one entry for each parameter."""
        return {}

    def complete(self, group: Group, param: Tensor) -> Group:
        """Return a parameter's state with everything that its next step needs."""
        raise NotImplementedError

    def adjust(self, group: Group, prepared: Any, hyper: Hyper) -> None:
        """Change a step's numbers according to the group's gradients."""

    def run(self, prepared: Any, hyper: Hyper) -> None:
        """Step a prepared group."""
        raise NotImplementedError

    def step_groups(self) -> None:
        """Do one step on every parameter that has a gradient, with the prepared groups."""
        raise NotImplementedError

    def _init_group(self, group: Group, index: int, *lists: list[Any]) -> str:
        raise NotImplementedError

    def kernel(self, device: torch.device) -> Kernel:
        """Return the kernel for a device, loaded by its accelerator; raises as `load` does."""
        found: Kernel = accelerator_for(device).create_op_builder(self.builder).load().kernel
        return found

    def judge(self, index: int, group: Group) -> Hyper:
        """Return the numbers of a group's next step; raises for all that construction refuses."""
        # Immutable values that have been checked are not checked again.
        given = _POLICY_OF(group)
        if not all(map(is_, given, self._judged.get(index, _NOTHING))):
            check_policy(group, seeded=self.always_seeded)
            self._judged[index] = given
        set_limit(group)
        if group["differentiable"]:
            self._check_torch_options(group)
        return self.hyper(group)

    def _check_torch_options(self, group: Group) -> None:
        """Check the options that torch's optimizers have; raises naming the wrong one."""
        torch_options(
            group["foreach"], group["capturable"], group["differentiable"], group["fused"]
        )

    def _set_rounding(self, index: int, group: Group, hyper: Hyper) -> None:
        """Put a group's rounding, and its seed if one is needed, into the numbers of its step."""
        hyper.rounding = group["rounding"]
        if hyper.rounding == "stochastic" or self.always_seeded:
            # Ops combine the seed with each tensor's step, which a captured graph counts.
            seed = DEFAULT_SEED if group["seed"] is None else group["seed"]
            hyper.seed = (seed + (index << 40)) & (2**64 - 1)

    def refuse_pieces(self, params: Iterable[Tensor]) -> None:
        """Raise `Unsupported` for pieces of parameters, if this class `needs_whole` ones."""
        if self.needs_whole or self.clips:
            refuse_pieces(type(self).__name__, params, self.needs_whole or WHOLE)

    def home(self, param: Tensor) -> torch.device:
        """Return the device of a parameter's states."""
        return param.device

    def local(self, tensor: Tensor) -> Tensor:
        """Return the part of a tensor that this process steps: a DTensor's shard, or all."""
        # The type identifies ordinary tensors; looking up a missing attribute is slower.
        if type(tensor) is Tensor or type(tensor) is Parameter:
            return tensor
        return local_of(tensor)
