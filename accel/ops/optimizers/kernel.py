"""Running an optimizer op: the native library if it can step a tensor, else the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from accel.ops import checks
from accel.ops.base import Implementation
from accel.ops.native import Call, NativeLibrary, bind
from accel.ops.optimizers.abi import DTYPES
from accel.ops.optimizers.capture import check_repeatable, is_recorded
from accel.ops.optimizers.checks import check_extras, check_gradients, check_states
from accel.ops.optimizers.family import Family, check_scalars
from accel.ops.optimizers.lists import Hyper, TensorLists
from accel.ops.optimizers.prepared.plan import Plan

if TYPE_CHECKING:
    from accel.ops.optimizers.gaudi import ListStep

_NO_NAMES: Mapping[str, str] = {}


class Kernel:
    """One family on one backend, known to the dispatcher by its key.

    `step_lists` steps the tensors that `native` cannot step, or all if there is no `native`.
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
        """Check tensors before they are stepped.

        Raises `TypeError` or `ValueError` for wrong lengths, kinds, layouts, dtypes, devices or
        shapes, gradients that require grad, and written tensors that share memory. The error names
        the argument by its role, or as in `names`.
        """
        roles, written = tensors.roles, tensors.written()
        if names:
            roles = {names.get(role, role): listed for role, listed in roles.items()}
            written = {names.get(role, role): listed for role, listed in written.items()}
        family = self.family
        checks.check_tensors(roles, single=single, codes=family.states if family.coded else ())
        if family.coded:
            # Codes have only one type, so only parameters and gradients are left to check.
            self._check_coded(roles, single)
            states = ["params"]
            floats = {role: listed for role, listed in roles.items() if role not in family.states}
        else:
            states = [*family.states, *(role for role in family.extra_states if role in roles)]
            states = [names.get(role, role) for role in states]
            floats = roles
        check_states(floats, states, single=single)
        check_gradients("grads", tensors.grads, single=single)
        for index, master in enumerate(roles.get("masters", ())):
            if master.dtype not in (torch.float32, torch.float64):
                raise TypeError(f"masters[{index}] is {master.dtype}; expected float32.")
        if self.native is not None:
            self._check_device(tensors.params, single)
        counted = {} if tensors.steps is None else {"steps": tensors.steps}
        own = {**tensors.extras, **counted}
        check_extras(tensors.params, own, family.extra_kinds, single=single)
        if not is_recorded():
            checks.check_writable({**written, **own}, single=single)
            # Each tensor needs its own counter, since a call updates them in any order.
            checks.check_no_overlap({**written, **counted}, {"grads": tensors.grads}, single=single)

    def _check_coded(self, roles: checks.Roles, single: bool) -> None:
        for role in ("params", "grads"):
            for index, tensor in enumerate(roles[role]):
                if tensor.dtype not in DTYPES:
                    name = checks.label(role, None if single else index)
                    raise TypeError(
                        f"{name} is {tensor.dtype}; 8-bit moments support float32, bfloat16 and "
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
        """Check and step: directly, or through the dispatcher if the call is recorded.

        `names` has the caller's names of roles, for errors. Raises as `check` does, and
        `Unsupported` if a graph would repeat random bits.
        """
        self.check(tensors, single=single, names=names)
        check_scalars(hyper)
        check_repeatable(tensors, hyper, coded=self.family.coded)
        if not tensors.params:
            return
        if is_recorded():
            self.family.dispatch(self.key, tensors, hyper)
        else:
            Plan(self, tensors).step(tensors, hyper)


_kernels: dict[str, Kernel] = {}


def kernel_for(family: Family, library: Implementation | None, backend: str) -> Kernel:
    """Return the one kernel of a library on a backend; ``None`` is the reference."""
    digest = "reference" if library is None else library.digest
    key = f"{family.symbol}:{backend}:{digest}"
    found = _kernels.get(key)
    if found is None:
        family.register(run_by_key)
        if library is None:
            made = Kernel(family, None, backend, key)
        elif library.rung == "vendor":
            made = Kernel(family, None, backend, key, bind(library, family.symbol))
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
    Plan(kernel, tensors).step(tensors, hyper)
