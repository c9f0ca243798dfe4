"""`CPUAdam`: Adam whose masters, states and arithmetic are on the host."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor
from typing_extensions import Unpack

from accel.ops.checks import check_tensors, is_dense
from accel.ops.optimizers.capture import is_recorded
from accel.ops.optimizers.checks import check_gradients
from accel.ops.optimizers.family import check_scale
from accel.ops.optimizers.lists import Hyper
from accel.optim.adam import FusedAdam
from accel.optim.offload.stepping import OffloadedGroup
from accel.optim.options import AdamOptions
from accel.optim.policy import PARAM
from accel.optim.step_cache import PreparedGroup
from accel.optim.swap.swapping import SWAP_MEMORY, Swapping

if TYPE_CHECKING:
    from accel.optim.stepped import SteppedOptimizer

Group = dict[str, Any]
_HOST = torch.device("cpu")


class CPUAdam(Swapping, FusedAdam):
    """Adam on the host for parameters anywhere, with the argument order of DeepSpeed's class.

    The float32 master copy and moments of a parameter on a device are kept on the host, so they may
    exceed the device's memory. A step copies gradients to the host and parameters back, in buckets,
    through pinned memory, and in parallel if the device has streams. It waits for the device,
    since the host needs the gradients.

    Args:
        model_params: parameters or groups.
        lr: learning rate.
        bias_correction: whether to correct the moments for their start at zero.
        betas: decay rates of the moments.
        eps: added to the root of the second moment.
        weight_decay: coefficient of the decay.
        amsgrad: divide by the largest second moment so far.
        adamw_mode: decoupled decay; if false, `weight_decay` is L2.
        fp32_optimizer_states: float32 moments; if false, they have the parameter's type.
        swap_dir: a folder for the states and master copies, which only this user may write;
            ``None``: they are in memory. A step streams them through buffers. Parameters must be on
            the host. `close` removes the files, as do the end of the program and of the optimizer.
        swap_memory: the most bytes of these buffers, at least 1 MiB.
        swap_keep: whether the files stay at the end, for `read_swap`.
        options: the keyword arguments of `FusedAdam` from `maximize` on.

    Raises:
        SwapFailed: the folder or the files cannot be used, or somebody else changed them.
    """

    builder: ClassVar[str] = "CPUAdamBuilder"

    def __init__(
        self,
        model_params: Any,
        lr: float | Tensor = 1e-3,
        bias_correction: bool = True,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        adamw_mode: bool = True,
        fp32_optimizer_states: bool = True,
        *,
        swap_dir: str | os.PathLike[str] | None = None,
        swap_memory: int = SWAP_MEMORY,
        swap_keep: bool = False,
        **options: Unpack[AdamOptions],
    ) -> None:
        if not fp32_optimizer_states:
            options.setdefault("state_dtype", PARAM)
        super().__init__(
            model_params,
            lr,
            bias_correction,
            betas,
            eps,
            adamw_mode,
            weight_decay,
            amsgrad,
            **options,
        )
        self.swap_to(swap_dir, swap_memory, swap_keep)

    def home(self, param: Tensor) -> torch.device:
        """Return the host."""
        return _HOST

    def prepare(self, group: Group, grads: Sequence[Tensor | None]) -> PreparedGroup:
        """Return the prepared group for its next steps; raises if a tensor cannot be stepped."""
        if self.streams or all(param.device.type == "cpu" for param in group["params"]):
            return super().prepare(group, grads)
        return _MixedGroup(self, group, grads)

    def adjust(self, group: Group, prepared: PreparedGroup, hyper: Hyper) -> None:
        """Copy a step's scalars to the host for a group with parameters on a device."""
        if not isinstance(prepared, _MixedGroup):
            return
        # The host needs the scalars before it writes; it has to wait for the gradients anyway.
        for name in ("grad_scale", "found_inf", "lr_tensor"):
            value = getattr(hyper, name)
            if value is not None:
                setattr(hyper, name, value.to(_HOST))
        if not is_recorded():
            check_scale(hyper.grad_scale, hyper.found_inf)


class _MixedGroup(PreparedGroup):
    """A group with parameters on the host and elsewhere."""

    _everything: tuple[Any, Sequence[Tensor], Sequence[Tensor | None]]
    """The optimizer, its parameters and their gradients, during a step."""

    def __init__(self, optimizer: CPUAdam, group: Group, grads: Sequence[Tensor | None]) -> None:
        params = list(group["params"])
        self._of: dict[tuple[Any, ...], list[int]] = {}
        for index, (param, grad) in enumerate(zip(params, grads, strict=True)):
            if grad is not None and param.device.type != "cpu":
                _check_away(param, grad, index)
                key = (param.device, param.dtype, grad.dtype)
                self._of.setdefault(key, []).append(index)
        kernel = optimizer.kernel(_HOST)
        super().__init__(optimizer, group, _at_home(params, grads))
        self._away = [
            OffloadedGroup(optimizer, group, at, _pick(params, at), _pick(grads, at), kernel)
            for at in self._of.values()
        ]
        self._patience = 0
        self._absent = [grad is None for grad in grads]
        self._everything = (optimizer, params, list(grads))

    def take(
        self,
        optimizer: SteppedOptimizer,
        group: Group,
        grads: Sequence[Tensor | None] | None = None,
    ) -> bool:
        """Take this step's tensors; ``False``, with none taken, if they have changed."""
        params = list(group["params"])
        grads = [param.grad for param in params] if grads is None else grads
        if [grad is None for grad in grads] != self._absent:
            return False
        for at, away in zip(self._of.values(), self._away, strict=True):
            if not away.take(optimizer, _pick(params, at), _pick(grads, at)):
                return False
            for index in at:
                _check_away(params[index], grads[index], index)
        if not super().take(optimizer, group, _at_home(params, grads)):
            return False
        self._everything = (optimizer, params, list(grads))
        return True

    def release(self) -> None:
        """Drop the references to the tensors."""
        super().release()
        self._everything = (None, [], [])

    def step(self, hyper: Hyper) -> None:
        """Step every tensor of the group that has a gradient."""
        super().step(hyper)
        if hyper.found_inf is not None and bool(hyper.found_inf):
            return
        # A recorded step keeps numbers as host tensors; the calls below are not recorded.
        for name in ("lr", "beta1", "beta2"):
            setattr(hyper, name, float(getattr(hyper, name)))
        optimizer, params, grads = self._everything
        for at, away in zip(self._of.values(), self._away, strict=True):
            away.step(optimizer, _pick(params, at), _pick(grads, at), hyper)


def _at_home(params: Sequence[Tensor], grads: Sequence[Tensor | None]) -> list[Tensor | None]:
    return [
        None if param.device.type != "cpu" else grad
        for param, grad in zip(params, grads, strict=True)
    ]


def _pick(listed: Sequence[Any], at: Sequence[int]) -> list[Any]:
    return [listed[index] for index in at]


def _check_away(param: Tensor, grad: Tensor | None, index: int) -> None:
    roles = {f"params[{index}]": [param], f"grads[{index}]": [grad]}
    check_tensors(roles, single=True)  # type: ignore[arg-type]
    check_gradients(f"grads[{index}]", [grad], single=True)  # type: ignore[list-item]
    if not is_dense(param):
        raise ValueError(
            f"params[{index}] is not dense (strides {param.stride()}), as a step on the host needs "
            f"it; give a clone."
        )
