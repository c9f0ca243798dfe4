"""Running an optimizer op: the native library where it can step a tensor, else the reference."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from accel.ops import abi, checks
from accel.ops.capture import check_repeatable, is_recorded
from accel.ops.family import Family, check_scalars
from accel.ops.lists import Hyper, TensorLists
from accel.ops.native import NativeLibrary, bind
from accel.ops.table import (
    Occupied,
    Partition,
    PointerTable,
    addresses,
    all_plain,
    partition,
)
from accel.ops.threads import cpu_threads

if TYPE_CHECKING:
    from accel.jit import Library
    from accel.ops.gaudi import Gaudi, ListStep
    from accel.ops.host_loops import HostLoops
    from accel.ops.portable import Call, Portable

_NO_NAMES: Mapping[str, str] = {}
_SCALARS = {
    "lr_tensor": torch.float32,
    "grad_scale": torch.float32,
    "found_inf": torch.float32,
    "noop_flag": torch.int32,
}
_FLAGS = ("found_inf", "noop_flag")
_requires_grad: Callable[[Tensor], bool] = Tensor.requires_grad.__get__  # type: ignore[attr-defined]
_nbytes_of: Callable[[Tensor], int] = Tensor.nbytes.__get__  # type: ignore[attr-defined]
_dtype_of: Callable[[Tensor], torch.dtype] = Tensor.dtype.__get__  # type: ignore[attr-defined]


def _lacks_memory(pointer: int, nbytes: int) -> bool:
    return not pointer and nbytes > 0


class Kernel:
    """One family on one backend, known to the dispatcher by its key.

    `step_lists` steps what `native` does not: all of it where there is none.
    """

    def __init__(
        self,
        family: Family,
        native: NativeLibrary | Call | None,
        backend: str,
        key: str,
        step_lists: ListStep | None = None,
    ) -> None:
        self.family = family
        self.step_lists: ListStep = step_lists or family.reference
        self.native = native
        self.backend = backend
        self.key = key

    def check(
        self, tensors: TensorLists, *, single: bool = False, names: Mapping[str, str] = _NO_NAMES
    ) -> None:
        """Check tensors that are about to be stepped; nothing has been written when it raises.

        Raises `TypeError` or `ValueError` naming the argument, which the caller may call something
        else than its role (`names`): lengths, kinds, layouts, dtypes, devices, shapes, gradients
        that require grad, and written tensors that share memory.
        """
        roles, written = tensors.roles, tensors.written()
        if names:
            roles = {names.get(role, role): listed for role, listed in roles.items()}
            written = {names.get(role, role): listed for role, listed in written.items()}
        family = self.family
        checks.check_tensors(roles, single=single, codes=family.states if family.coded else ())
        if family.coded:
            # Codes have one type and no float64 form: what is left are parameters and gradients.
            self._check_coded(roles, single)
            states = ["params"]
            floats = {role: listed for role, listed in roles.items() if role not in family.states}
        else:
            states = [*family.states, *(role for role in family.extra_states if role in roles)]
            states = [names.get(role, role) for role in states]
            floats = roles
        checks.check_states(floats, states, single=single)
        checks.check_gradients("grads", tensors.grads, single=single)
        for index, master in enumerate(roles.get("masters", ())):
            if master.dtype not in (torch.float32, torch.float64):
                raise TypeError(f"masters[{index}] is {master.dtype}; expected float32.")
        if self.native is not None:
            self._check_device(tensors.params, single)
        counted = {} if tensors.steps is None else {"steps": tensors.steps}
        own = {**tensors.extras, **counted}
        checks.check_extras(tensors.params, own, family.extras, single=single)
        if not is_recorded():
            checks.check_writable({**written, **own}, single=single)
            checks.check_no_overlap(written, {"grads": tensors.grads}, single=single)

    def _check_coded(self, roles: checks.Roles, single: bool) -> None:
        for role in ("params", "grads"):
            for index, tensor in enumerate(roles[role]):
                if tensor.dtype not in abi.DTYPES:
                    name = checks.label(role, None if single else index)
                    raise TypeError(
                        f"{name} is {tensor.dtype}; 8-bit moments go with float32, bfloat16 and "
                        f"float16."
                    )

    def _check_device(self, params: Sequence[Tensor], single: bool) -> None:
        for index, param in enumerate(params):
            if param.device.type != self.backend:
                raise ValueError(
                    f"{checks.label('params', None if single else index)} is on {param.device}, "
                    f"but this op was loaded for {self.backend!r}."
                )

    def run(
        self,
        tensors: TensorLists,
        hyper: Hyper,
        *,
        single: bool = False,
        names: Mapping[str, str] = _NO_NAMES,
    ) -> None:
        """Check and step: directly, or where it is recorded by the dispatcher.

        `names` says what the caller calls a role, for errors. Raises as `check` does, and
        `Unsupported` where a graph would repeat random bits.
        """
        self.check(tensors, single=single, names=names)
        check_scalars(hyper)
        check_repeatable(tensors, hyper, coded=self.family.coded)
        if not tensors.params:
            return
        if is_recorded():
            self.family.dispatch(self.key, tensors, hyper)
        else:
            Plan(self, tensors).step(hyper)


class Plan:
    """Checked tensors, sorted into native calls whose pointer arrays are made once.

    Args:
        kernel: who steps them.
        tensors: the lists; kept alive by the plan.
    """

    def __init__(self, kernel: Kernel, tensors: TensorLists) -> None:
        everything = Partition((), tuple(range(len(tensors.params))))
        parts = everything if kernel.native is None else partition(tensors.roles)
        self.tensors = tensors
        self._step_lists = kernel.step_lists
        self._calls = [
            NativeCall(kernel.family, kernel.native, tensors.select(indices), indices)
            for indices in parts.native
            if kernel.native is not None
        ]
        self._native = kernel.native
        self._rest_at = parts.rest
        self._rest = tensors.select(parts.rest)
        self._grad_dtypes = [*map(_dtype_of, tensors.grads)]
        self._plain = all_plain(tensors.grads)
        self._occupied = Occupied(chain.from_iterable(tensors.written().values()))
        self._grads_at = addresses(tensors.grads)
        self._grad_sizes = array("q", map(_nbytes_of, tensors.grads))

    def refresh(self, grads: Sequence[Tensor]) -> bool:
        """Put in other gradients; returns whether the plan still fits, and else changes nothing.

        The gradients are those of the same parameters: their shapes and devices hold.
        """
        if not (self._plain and all_plain(grads) and not any(map(_requires_grad, grads))):
            return False
        if [*map(_dtype_of, grads)] != self._grad_dtypes:
            return False
        if array("q", map(_nbytes_of, grads)) != self._grad_sizes:
            return False
        pointers = addresses(grads)
        if 0 in pointers and any(map(_lacks_memory, pointers, self._grad_sizes)):
            return False
        if pointers != self._grads_at and self._occupied.meets(pointers, self._grad_sizes):
            return False
        self._grads_at = pointers
        for call in self._calls:
            call.table.replace("grads", array("q", [pointers[index] for index in call.indices]))
            call.table.roles["grads"] = tuple([grads[index] for index in call.indices])
        self._rest.roles["grads"] = [grads[index] for index in self._rest_at]
        return True

    def loops(self) -> HostLoops | None:
        """Return the native loops where they can stand for all that `refresh` does."""
        return None if self._rest_at or not self._plain else getattr(self._native, "loops", None)

    def tables(self) -> list[tuple[PointerTable, tuple[int, ...]]]:
        """Return the native calls' tensors, each with the indices of its entries."""
        return [(call.table, call.indices) for call in self._calls]

    def written(self) -> Iterator[tuple[int, int]]:
        """Yield the memory that a step writes; see `Occupied.blocks`."""
        return self._occupied.blocks()

    def release(self) -> None:
        """Let go of the gradients, whose memory others may want; `refresh` brings the next."""
        self.tensors.roles["grads"] = ()
        self._rest.roles["grads"] = ()
        for call in self._calls:
            call.table.release("grads")

    def moved(self) -> bool:
        """Return whether a parameter's or state's memory is elsewhere than at the start."""
        return any(call.table.moved() for call in self._calls)

    def step(self, hyper: Hyper) -> None:
        """Step every tensor once; autograd is told that the parameters changed."""
        for call in self._calls:
            call.step(hyper)
        if self._rest.params:
            self._step_lists(self._rest, hyper)
        increment_version(self.tensors.params)


class NativeCall:
    """One call of the native step: a struct, its pointer arrays, and what they point to."""

    def __init__(
        self,
        family: Family,
        native: NativeLibrary | Call,
        tensors: TensorLists,
        indices: tuple[int, ...],
    ) -> None:
        roles = dict(tensors.roles)
        if tensors.steps is not None:
            roles["steps"] = tensors.steps
        roles |= tensors.extras
        self.indices = indices
        self.table = PointerTable(roles)
        self._native = native
        self._numbers = family.numbers
        self._scalars: list[Tensor] = []
        self._args: Any = family.args()
        self.table.fill(self._args)
        self._args.param_dtype = abi.DTYPES[tensors.params[0].dtype]
        self._args.grad_dtype = abi.DTYPES[tensors.grads[0].dtype]
        if not family.coded:
            self._args.state_dtype = abi.DTYPES[tensors.roles[family.states[0]][0].dtype]

    def step(self, hyper: Hyper) -> None:
        """Run it on the tensors' device."""
        args = self._args
        for name in self._numbers:
            setattr(args, name, getattr(hyper, name))
        args.rounding = abi.ROUNDING[hyper.rounding]
        args.num_threads = cpu_threads() if self.table.device.type == "cpu" else 1
        # The scalars of the last call may be freed: launches are ordered by the stream.
        self._scalars.clear()
        for name, dtype in _SCALARS.items():
            setattr(args, name, self._scalar(name, getattr(hyper, name), dtype))
        self._native(args, self.table.device)

    def _scalar(self, name: str, value: Tensor | None, dtype: torch.dtype) -> int | None:
        if value is None:
            return None
        if dtype != value.dtype and name in _FLAGS:
            # A cast would make 0 of 2**32 and of 1e-50.
            value = value != 0
        # The CPU's kernel reads at once, and no stream orders that behind a copy from a device.
        late = self.table.device.type != "cpu"
        ready = value.detach().to(self.table.device, dtype, non_blocking=late)
        self._scalars.append(ready)
        return ready.data_ptr()


_kernels: dict[str, Kernel] = {}


def kernel_for(family: Family, library: Library | Portable | Gaudi | None, backend: str) -> Kernel:
    """Return the one kernel of a library on a backend; ``None`` is the reference."""
    digest = "reference" if library is None else library.digest
    key = f"{family.symbol}:{backend}:{digest}"
    found = _kernels.get(key)
    if found is None:
        if library is None:
            made = Kernel(family, None, backend, key)
        elif library.rung == "vendor":
            made = Kernel(family, None, backend, key, library.bind(family.symbol))
        else:
            made = Kernel(family, bind(library, family.symbol), backend, key)
        found = _kernels.setdefault(key, made)
    return found


def run_by_key(key: str, tensors: TensorLists, hyper: Hyper) -> None:
    """Check and step for the dispatcher; raises `KeyError` for a kernel not loaded here."""
    kernel = _kernels[key]
    kernel.check(tensors)
    check_scalars(hyper)
    kernel.family.check_numbers(tensors, hyper)
    check_repeatable(tensors, hyper, coded=kernel.family.coded)
    Plan(kernel, tensors).step(hyper)
