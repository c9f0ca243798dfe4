"""Running Adam: the native library where it can step a tensor, the reference for the rest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from accel.ops import abi, checks
from accel.ops.adam_reference import adam_reference
from accel.ops.adam_types import STATES, AdamHyper, AdamTensors
from accel.ops.native import NativeLibrary
from accel.ops.table import Partition, PointerTable, partition
from accel.ops.threads import cpu_threads

_STEPPED = "steps"


class AdamKernel:
    """Adam on one backend.

    Args:
        native: the native library, or ``None`` to run the reference.
        backend: name of the backend, for messages.
        key: name under which the dispatcher finds this kernel again.
    """

    def __init__(self, native: NativeLibrary | None, backend: str, key: str) -> None:
        self.native = native
        self.backend = backend
        self.key = key

    def check(self, tensors: AdamTensors, *, single: bool = False) -> None:
        """Check lists of tensors that are about to be stepped; raises before anything is written.

        Raises `TypeError` or `ValueError` naming the argument: lengths, kinds, layouts, dtypes,
        devices, shapes, gradients that require grad, and written tensors that share memory.
        """
        roles = tensors.roles()
        checks.check_tensors(roles, single=single)
        checks.check_states(roles, [role for role in STATES if role in roles], single=single)
        checks.check_gradients("grads", tensors.grads, single=single)
        for index, master in enumerate(tensors.masters or ()):
            if master.dtype not in (torch.float32, torch.float64):
                raise TypeError(f"masters[{index}] is {master.dtype}; expected float32.")
        if self.native is not None:
            for index, param in enumerate(tensors.params):
                if param.device.type != self.backend:
                    raise ValueError(
                        f"{checks.label('params', None if single else index)} is on "
                        f"{param.device}, but this op was loaded for {self.backend!r}."
                    )
        if not torch.compiler.is_compiling():
            written = {role: listed for role, listed in roles.items() if role != "grads"}
            checks.check_no_overlap(written, {"grads": tensors.grads}, single=single)

    def run(self, tensors: AdamTensors, hyper: AdamHyper, *, single: bool = False) -> None:
        """Check and step, in eager mode directly and under ``torch.compile`` by the dispatcher."""
        self.check(tensors, single=single)
        if not tensors.params:
            return
        if torch.compiler.is_compiling():
            dispatch(self.key, tensors, hyper)
        else:
            AdamPlan(self, tensors).step(hyper)


class AdamPlan:
    """Checked tensors, sorted into native calls whose pointer arrays are made once.

    Args:
        kernel: who steps them.
        tensors: the lists; kept alive by the plan.
    """

    def __init__(self, kernel: AdamKernel, tensors: AdamTensors) -> None:
        roles = tensors.roles()
        everything = Partition((), tuple(range(len(tensors.params))))
        parts = everything if kernel.native is None else partition(roles)
        self._kernel = kernel
        self._params = tensors.params
        self._calls = [_Call(tensors.select(indices)) for indices in parts.native]
        self._rest = tensors.select(parts.rest)

    def step(self, hyper: AdamHyper) -> None:
        """Step every tensor once; autograd is told that the parameters changed."""
        native = self._kernel.native
        for call in self._calls:
            native = cast(NativeLibrary, native)
            native(call.arguments(hyper), call.table.device)
        if self._rest.params:
            adam_reference(self._rest, hyper)
        increment_version(self._params)


class _Call:
    """One call of the native step."""

    def __init__(self, tensors: AdamTensors) -> None:
        roles = dict(tensors.roles())
        if tensors.steps is not None:
            roles[_STEPPED] = tensors.steps
        self.table = PointerTable(roles)
        self.args = abi.AdamArgs()
        self.table.fill(self.args)
        self.args.param_dtype = abi.DTYPES[tensors.params[0].dtype]
        self.args.grad_dtype = abi.DTYPES[tensors.grads[0].dtype]
        self.args.state_dtype = abi.DTYPES[tensors.exp_avgs[0].dtype]
        self._scalars: list[Tensor] = []

    def arguments(self, hyper: AdamHyper) -> abi.AdamArgs:
        """Return the C struct with this step's numbers; its scalars live as long as the call."""
        args = self.args
        for name in ("lr", "beta1", "beta2", "eps", "weight_decay", "step", "seed", "flags"):
            setattr(args, name, getattr(hyper, name))
        args.rounding = abi.ROUNDING[hyper.rounding]
        args.num_threads = cpu_threads() if self.table.device.type == "cpu" else 1
        self._scalars.clear()
        args.lr_tensor = self._scalar(hyper.lr_tensor, torch.float32)
        args.grad_scale = self._scalar(hyper.grad_scale, torch.float32)
        args.found_inf = self._scalar(hyper.found_inf, torch.float32)
        args.noop_flag = self._scalar(hyper.noop_flag, torch.int32)
        return args

    def _scalar(self, value: Tensor | None, dtype: torch.dtype) -> int | None:
        if value is None:
            return None
        ready = value.detach().to(self.table.device, dtype, non_blocking=True)
        self._scalars.append(ready)
        return ready.data_ptr()


_kernels: dict[str, AdamKernel] = {}


def kernel_for(native: NativeLibrary | None, backend: str, digest: str | None) -> AdamKernel:
    """Return the one kernel of a library (by digest) on a backend, known to the dispatcher."""
    key = f"{backend}:{digest or 'reference'}"
    return _kernels.setdefault(key, AdamKernel(native, backend, key))


def dispatch(key: str, tensors: AdamTensors, hyper: AdamHyper) -> None:
    """Step by the dispatcher's op ``accel::adam_step``, which ``torch.compile`` can trace."""
    torch.ops.accel.adam_step(
        tensors.params,
        tensors.grads,
        tensors.exp_avgs,
        tensors.exp_avg_sqs,
        tensors.max_exp_avg_sqs,
        tensors.masters,
        tensors.steps,
        hyper.lr_tensor,
        hyper.grad_scale,
        hyper.found_inf,
        hyper.noop_flag,
        hyper.lr,
        hyper.beta1,
        hyper.beta2,
        hyper.eps,
        hyper.weight_decay,
        hyper.step,
        hyper.flags,
        hyper.rounding,
        hyper.seed,
        key,
    )


_SCHEMA = (
    "(Tensor(a!)[] params, Tensor[] grads, Tensor(b!)[] exp_avgs, Tensor(c!)[] exp_avg_sqs, "
    "Tensor(d!)[]? max_exp_avg_sqs, Tensor(e!)[]? masters, Tensor(f!)[]? steps, "
    "Tensor? lr_tensor, Tensor? grad_scale, Tensor? found_inf, Tensor? noop_flag, "
    "float lr, float beta1, float beta2, float eps, float weight_decay, "
    "SymInt step, int flags, str rounding, SymInt seed, str kernel) -> ()"
)


def _adam_step(
    params: Sequence[Tensor],
    grads: Sequence[Tensor],
    exp_avgs: Sequence[Tensor],
    exp_avg_sqs: Sequence[Tensor],
    max_exp_avg_sqs: Sequence[Tensor] | None,
    masters: Sequence[Tensor] | None,
    steps: Sequence[Tensor] | None,
    lr_tensor: Tensor | None,
    grad_scale: Tensor | None,
    found_inf: Tensor | None,
    noop_flag: Tensor | None,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    step: int,
    flags: int,
    rounding: str,
    seed: int,
    kernel: str,
) -> None:
    tensors = AdamTensors(
        params,
        grads,
        exp_avgs,
        exp_avg_sqs,
        max_exp_avg_sqs or None,
        masters or None,
        steps or None,
    )
    hyper = AdamHyper(
        lr, beta1, beta2, eps, weight_decay, step, flags, rounding, seed,
        lr_tensor, grad_scale, found_inf, noop_flag,
    )  # fmt: skip
    found = _kernels[kernel]
    found.check(tensors)
    AdamPlan(found, tensors).step(hyper)


def _adam_step_fake(*_: Any) -> None:
    """Shapes and types stay as they are; nothing is returned."""


torch.library.define("accel::adam_step", _SCHEMA)
torch.library.impl("accel::adam_step", "CompositeExplicitAutograd")(_adam_step)
torch.library.register_fake("accel::adam_step")(_adam_step_fake)
