"""Builders that follow from an op's name and module: only the op's location is declared.

An op ``package.family.module:Class`` has its source at ``csrc/<backend>/<family>/<op>.cpp`` (or
``.cu``) in the package, and its Triton kernels in ``package.family.triton.<op>``. The package is
``accel.ops`` for accel's own, whose ``csrc`` is the project's; for others it is their top package.
The optimizers' files are named by the op's module: `optimizer_builders`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, cast

from accel import jit
from accel.builders.base import OpBuilder
from accel.builders.kinds import (
    CPUOpBuilder,
    CUDAOpBuilder,
    HostOpBuilder,
    ReferenceOpBuilder,
    SYCLOpBuilder,
)
from accel.probe import Probe, Rejected
from accel.targets import split

DECLARED: Mapping[str, str] = {
    "fused_adam": "accel.ops.optimizers.adam:FusedAdam",
    "cpu_adam": "accel.ops.optimizers.adam:CPUAdam",
    "fused_lion": "accel.ops.optimizers.lion:FusedLion",
    "cpu_lion": "accel.ops.optimizers.lion:CPULion",
    "fused_adagrad": "accel.ops.optimizers.adagrad:FusedAdagrad",
    "cpu_adagrad": "accel.ops.optimizers.adagrad:CPUAdagrad",
    "fused_ademamix": "accel.ops.optimizers.ademamix:FusedAdEMAMix",
    "fused_lamb": "accel.ops.optimizers.lamb:FusedLamb",
    "adam8bit": "accel.ops.optimizers.adam8bit:Adam8bit",
    "lion8bit": "accel.ops.optimizers.lion8bit:Lion8bit",
    "multi_tensor": "accel.ops.lists.multi_tensor:MultiTensor",
    "blockwise_quantizer": "accel.ops.quantizers.blockwise_quantizer:BlockwiseQuantizer",
    "quantizer": "accel.ops.quantizers.quantizer:Quantizer",
    "fp_quantizer": "accel.ops.quantizers.fp_quantizer:FPQuantizer",
    "utils": "accel.ops.utils.byte_views:Utils",
    "async_io": "accel.ops.io.async_io:AsyncIO",
    "pin_memory": "accel.ops.io.pin_memory:PinMemory",
    "random_ltd": "accel.ops.tokens.random_ltd:RandomLTD",
}
"""accel's own ops; builders, conformance specs and the tests' cases follow from these names."""

HOST = "cpu_"
"""The prefix of names of ops that step tensors of the host, on every accelerator."""
_OPTIMIZERS = "accel.ops.optimizers."
ON_FILES = "accel.ops.io."
"""The package of ops that work on files and memory of the host, not on tensors of a backend."""

_KINDS: dict[str, tuple[type[OpBuilder], str]] = {
    "cpu": (CPUOpBuilder, ".cpp"),
    "cuda": (CUDAOpBuilder, ".cu"),
    "xpu": (SYCLOpBuilder, ".cpp"),
}


class ConventionalBuilder(OpBuilder):
    """A kind of builder: sources and kernels are found by the op's name, on every backend.

    Attributes:
        triton: name of the module that has the op's Triton kernels, ``""`` without one.
    """

    triton: ClassVar[str] = ""

    def cxx_args(self) -> list[str]:
        """Return the flags with which plain loops become vector code."""
        return ["-O2", "-ftree-vectorize", "-fno-trapping-math"]

    def portable(self) -> Probe:
        """Return whether the op's Triton kernels can be used."""
        if not self.triton:
            return Rejected("no portable kernel.")
        from accel.ops.optimizers.triton import probe_triton

        return probe_triton(self.backend, used=self.uses_triton)

    def stand_in(self) -> Any:
        """Return the op's Triton kernels if they can be used."""
        if not self.portable():
            return None
        from accel.ops.frame.triton import TritonKernel

        return TritonKernel(self.triton)


def conventional(
    name: str,
    op: str,
    target: str,
    backend: str,
    *,
    uses_triton: bool = False,
    device_type: str = "",
) -> type[OpBuilder]:
    """Return the builder class of an op on a backend; the reference's if nothing is found.

    Args:
        name: the class's name, such as ``"UtilsBuilder"``.
        op: the op's name.
        target: the op's class, as ``"module:Class"``.
        backend: the backend's name.
        uses_triton: whether Triton compiles for the backend's devices.
        device_type: torch's name of those devices; ``""``: `backend`.
    """
    step = _step_of(op) if DECLARED.get(op) == target else ""
    # The optimizers' files have other names.
    on_files = target.startswith(ON_FILES)
    sources, triton = ((), "") if step else find(op, target, "cpu" if on_files else backend)
    kind, _ = _KINDS.get(backend, (ReferenceOpBuilder, ""))
    attributes = {
        **_names(op, target),
        "backend": backend,
        "device_type": device_type,
        "uses_triton": uses_triton,
        "entry_point": step if uses_triton else "",
        "native_sources": sources,
        "triton": triton,
        "__module__": "accel.builders.lookup",
        "__doc__": f"``{op}`` on ``{backend}``.",
    }
    if on_files:
        del attributes["triton"]
        return cast("type[OpBuilder]", type(name, (HostOpBuilder,), attributes))
    if not sources and not triton:
        del attributes["triton"]
        attributes["__doc__"] = f"The reference of ``{op}`` on ``{backend}``."
        return cast("type[OpBuilder]", type(name, (ReferenceOpBuilder,), attributes))
    bases = (ConventionalBuilder, kind if sources else ReferenceOpBuilder)
    return cast("type[OpBuilder]", type(name, bases, attributes))


def optimizers() -> dict[str, str]:
    """Return accel's own optimizer ops with the stem of their files, the name of their module."""
    return {
        op: split(target)[0].rpartition(".")[2]
        for op, target in DECLARED.items()
        if target.startswith(_OPTIMIZERS)
    }


def _step_of(op: str) -> str:
    """Return the function of an optimizer's libraries, ``""`` for the host's and other ops."""
    stem = "" if op.startswith(HOST) else optimizers().get(op)
    return f"accel_{stem}_step" if stem else ""


def name_of(target: str) -> str:
    """Return the builder's name of one of accel's own ops: its class's name and ``Builder``."""
    return f"{split(target)[1]}Builder"


def optimizer_builders(
    kind: type[OpBuilder], home: str, others: Collection[str] = ()
) -> dict[str, type[OpBuilder]]:
    """Return the builders of accel's own optimizers on a backend, by their classes' names.

    There is one for an optimizer if it has the source ``csrc/<backend>/optimizers/<stem>``
    (``.cpp`` or ``.cu``), or if its stem is in `others`; its library has the function
    ``accel_<stem>_step``. Ops of the host have the ``cpu`` backend's builders everywhere.

    Args:
        kind: the base class of the backend's builders.
        home: name of the module that they belong to.
        others: stems of optimizers that the backend supports without a source of accel's.
    """
    backend = kind.backend
    suffix = _KINDS[backend][1] if backend in _KINDS else ""
    found: dict[str, type[OpBuilder]] = {}
    for op, stem in optimizers().items():
        name = name_of(DECLARED[op])
        source = f"{backend}/optimizers/{stem}{suffix}"
        if op.startswith(HOST) and backend != "cpu":
            found[name] = getattr(import_module("accel.builders.cpu"), name)
        elif stem in others or _has(source):
            native: dict[str, Any] = {}
            if stem not in others:
                native = {"artifact": stem, "native_sources": (source,)}
            # Replacements of a library are found by its function.
            instead = stem in others or kind.uses_triton
            native["entry_point"] = _step_of(op) if instead else ""
            found[name] = _own_builder(op, kind, home, native)
    return found


def library_builders(
    kind: type[OpBuilder], home: str, ops: Collection[str]
) -> dict[str, type[OpBuilder]]:
    """Return the builders of accel's other ops on a backend, by their classes' names.

    The source of each is ``csrc/<backend>/<family>/<op>`` (``.cpp`` or ``.cu``).

    Args:
        kind: the base class of the backend's builders.
        home: name of the module that they belong to.
        ops: names of ops in `DECLARED`.
    """
    backend, suffix = kind.backend, _KINDS[kind.backend][1]
    found: dict[str, type[OpBuilder]] = {}
    for op in ops:
        family = split(DECLARED[op])[0].split(".")[2]
        native = {"artifact": op, "native_sources": (f"{backend}/{family}/{op}{suffix}",)}
        found[name_of(DECLARED[op])] = _own_builder(op, kind, home, native)
    return found


def _own_builder(
    op: str, kind: type[OpBuilder], home: str, native: Mapping[str, Any]
) -> type[OpBuilder]:
    """Return the builder class of one of accel's own ops, of a kind and with more attributes."""
    target = DECLARED[op]
    attributes = {
        **_names(op, target),
        **native,
        "__module__": home,
        "__doc__": f"``{op}`` on ``{kind.backend}``.",
    }
    return cast("type[OpBuilder]", type(name_of(target), (kind,), attributes))


def _has(source: str) -> bool:
    """Return whether a source exists; in an archive it counts as existing, and `load` raises."""
    csrc = jit.csrc_dir()
    return (csrc / source).is_file() or not csrc.is_dir()


def _names(op: str, target: str) -> dict[str, str]:
    return {"NAME": op, "BUILD_VAR": f"ACCEL_BUILD_{op.upper()}", "op": target}


def find(op: str, target: str, backend: str) -> tuple[tuple[str, ...], str]:
    """Return an op's native sources on a backend and its Triton module; imports no op.

    ``()`` and ``""`` say that there are none.
    """
    module, _ = split(target)
    parts = module.split(".")
    top = 2 if parts[:2] == ["accel", "ops"] else 1
    package, family = parts[:top], parts[top:-1]
    home = _folder(".".join(package))
    if home is None:
        return (), ""
    csrc = jit.csrc_dir() if top == 2 else home / "csrc"
    suffix = _KINDS[backend][1] if backend in _KINDS else ".cpp"
    source = csrc.joinpath(backend, *family, op + suffix)
    kernels = home.joinpath(*family, "triton", f"{op}.py")
    triton = ".".join([*package, *family, "triton", op]) if kernels.is_file() else ""
    return ((str(source),) if source.is_file() else ()), triton


def _folder(package: str) -> Path | None:
    """Return a package's folder, ``None`` without one; its own code is not run."""
    try:
        spec = find_spec(package)
    except (ImportError, ValueError):
        return None
    places = list(spec.submodule_search_locations or ()) if spec is not None else []
    return Path(places[0]) if places else None
