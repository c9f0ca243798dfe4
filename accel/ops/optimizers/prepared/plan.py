"""`Plan`: checked tensors sorted into native calls, with arguments that are made once."""

from __future__ import annotations

import warnings
from array import array
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from accel.ops.native import Call, NativeLibrary
from accel.ops.optimizers.abi import DTYPES, ROUNDING
from accel.ops.optimizers.lists import Hyper, TensorLists
from accel.ops.optimizers.prepared.table import Partition, PointerTable, partition
from accel.ops.threads import cpu_threads

if TYPE_CHECKING:
    from accel.ops.optimizers.family import Family

_SCALARS = {
    "lr_tensor": torch.float32,
    "grad_scale": torch.float32,
    "found_inf": torch.float32,
    "noop_flag": torch.int32,
}
_FLAGS = ("found_inf", "noop_flag")


class Stepper(Protocol):
    """The part of a `Kernel` that a plan needs."""

    family: Family
    native: NativeLibrary | Call | None

    @property
    def step_lists(self) -> Callable[[TensorLists, Any], None]:
        """Steps the tensors that have no native call."""


class Plan:
    """The native calls, and the rest for the reference, that step a kernel's tensors.

    It holds addresses, not tensors: the caller of `step` must keep the tensors alive, and must have
    checked that the addresses are theirs.

    Args:
        kernel: the kernel that steps them.
        tensors: the checked lists.

    Attributes:
        calls: the native calls.
        rest: indices of the tensors that only the reference can step.
    """

    def __init__(self, kernel: Stepper, tensors: TensorLists) -> None:
        everything = Partition((), tuple(range(len(tensors.params))))
        parts = everything if kernel.native is None else partition(tensors.roles)
        self.rest = parts.rest
        self._step_lists = kernel.step_lists
        self._varies = kernel.family.unordered and isinstance(kernel.native, NativeLibrary)
        self.calls = [
            NativeCall(kernel.family, kernel.native, tensors.select(indices), indices)
            for indices in parts.native
            if kernel.native is not None
        ]

    def put(self, role: str, pointers: array[int]) -> None:
        """Write the addresses of a role's tensors into the calls that use them."""
        for call in self.calls:
            # The calls and the rest have every index once, so a call with all of them is in order.
            whole = len(call.indices) == len(pointers)
            chosen = pointers if whole else array("q", [pointers[at] for at in call.indices])
            call.table.replace(role, chosen)

    def step(self, tensors: TensorLists | None, hyper: Hyper) -> None:
        """Step every tensor once.

        Marks the parameters as changed for autograd; if `tensors` is ``None``, the caller must do
        that. A plan with a rest needs `tensors`.
        """
        if self._varies and torch.are_deterministic_algorithms_enabled():
            self._check_order()
        for call in self.calls:
            call.step(hyper)
        if tensors is not None:
            if self.rest:
                self._step_lists(tensors.select(self.rest), hyper)
            increment_version(tensors.params)

    def _check_order(self) -> None:
        """Raise or warn, as torch does for an operation that has no deterministic form."""
        where = {call.table.device.type for call in self.calls} - {"cpu"}
        if not where:
            return
        said = (
            f"This step sums norms on {', '.join(where)} in an order that varies, but "
            "torch.use_deterministic_algorithms(True) is set. Set ACCEL_OPS=reference, or pass "
            "warn_only=True if the last digit of the ratio may vary."
        )
        if not torch.is_deterministic_algorithms_warn_only_enabled():
            raise RuntimeError(said)
        warnings.warn(said, stacklevel=2)


class NativeCall:
    """One call of the native step: a struct and its pointer arrays.

    Attributes:
        indices: indices in the lists of the tensors that it steps.
        table: their addresses.
    """

    def __init__(
        self,
        family: Family,
        native: NativeLibrary | Call,
        tensors: TensorLists,
        indices: tuple[int, ...],
    ) -> None:
        self.indices = indices
        self.table = PointerTable(tensors.by_field(), tensors.numbers, tensors.starts)
        self._native = native
        self._numbers = family.numbers
        self._scalars: list[Tensor] = []
        self._args: Any = family.args()
        self.table.fill(self._args)
        self._args.param_dtype = DTYPES[tensors.params[0].dtype]
        self._args.grad_dtype = DTYPES[tensors.grads[0].dtype]
        if not family.coded:
            self._args.state_dtype = DTYPES[tensors.roles[family.states[0]][0].dtype]

    def step(self, hyper: Hyper) -> None:
        """Run the call on the tensors' device."""
        args = self._args
        for name in self._numbers:
            setattr(args, name, getattr(hyper, name))
        args.rounding = ROUNDING[hyper.rounding]
        args.num_threads = cpu_threads() if self.table.device.type == "cpu" else 1
        # The scalars of the last call may be freed now, since the stream orders launches.
        self._scalars.clear()
        for name, dtype in _SCALARS.items():
            setattr(args, name, self._scalar(name, getattr(hyper, name), dtype))
        self._native(args, self.table.device)

    def _scalar(self, name: str, value: Tensor | None, dtype: torch.dtype) -> int | None:
        if value is None:
            return None
        if dtype != value.dtype and name in _FLAGS:
            # A cast would turn 2**32 and 1e-50 into 0.
            value = value != 0
        # The CPU's kernel reads at once; no stream makes it wait for a copy from a device.
        late = self.table.device.type != "cpu"
        ready = value.detach().to(self.table.device, dtype, non_blocking=late)
        self._scalars.append(ready)
        return ready.data_ptr()
