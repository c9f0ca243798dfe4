"""Builders that follow from an op's name and place: nothing is declared but where the op is.

An op ``package.family.module:Class`` has its source at ``csrc/<backend>/<family>/<op>.cpp`` (or
``.cu``) in the package, and its Triton kernels in ``package.family.triton.<op>``. The package is
``accel.ops`` for accel's own, whose ``csrc`` is the project's; for others it is their top package.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, cast

from accel import jit
from accel.builders.base import (
    CPUOpBuilder,
    CUDAOpBuilder,
    OpBuilder,
    ReferenceOpBuilder,
    SYCLOpBuilder,
)
from accel.ops.frame.triton import TritonKernel
from accel.ops.optimizers.triton import probe_triton
from accel.probe import Probe, Rejected
from accel.targets import split

DECLARED: Mapping[str, str] = {"utils": "accel.ops.utils.byte_views:Utils"}
"""accel's own ops whose builders follow from these names on every backend."""

_KINDS: dict[str, tuple[type[OpBuilder], str]] = {
    "cpu": (CPUOpBuilder, ".cpp"),
    "cuda": (CUDAOpBuilder, ".cu"),
    "xpu": (SYCLOpBuilder, ".cpp"),
}


class ConventionalBuilder(OpBuilder):
    """A kind: what it needs is found by the op's name, on every backend.

    Attributes:
        triton: name of the module that has the op's Triton kernels, ``""`` without one.
    """

    triton: ClassVar[str] = ""

    def include_paths(self) -> list[str]:
        """Return the folders of local headers: the ABI's, the source's, and above it in csrc."""
        csrc = jit.csrc_dir()
        folders = [csrc / "include"]
        for source in self.native_sources:
            beside = Path(source).parent
            folders += [beside, *(one for one in beside.parents if csrc in one.parents)]
        return [*dict.fromkeys(map(str, folders))]

    def cxx_args(self) -> list[str]:
        """Return what lets plain loops become vector code."""
        return ["-O2", "-ftree-vectorize", "-fno-trapping-math"]

    def portable(self) -> Probe:
        """Return whether the op's Triton kernels can be used."""
        if not self.triton:
            return Rejected("no portable kernel.")
        return probe_triton(self.backend)

    def stand_in(self) -> Any:
        """Return the op's Triton kernels if they can be used."""
        return TritonKernel(self.triton) if self.portable() else None


def conventional(name: str, op: str, target: str, backend: str) -> type[OpBuilder]:
    """Return the builder class of an op on a backend; a reference's if nothing is found.

    Args:
        name: the class's name, such as ``"UtilsBuilder"``.
        op: the op's name.
        target: where the op's class is, ``"module:Class"``.
        backend: the backend's name.
    """
    sources, triton = find(op, target, backend)
    kind, _ = _KINDS.get(backend, (ReferenceOpBuilder, ""))
    attributes = {
        "NAME": op,
        "BUILD_VAR": f"ACCEL_BUILD_{op.upper()}",
        "backend": backend,
        "op": target,
        "native_sources": sources,
        "triton": triton,
        "__module__": "accel.builders.lookup",
        "__doc__": f"``{op}`` on ``{backend}``.",
    }
    if not sources and not triton:
        del attributes["triton"]
        attributes["__doc__"] = f"The reference of ``{op}`` on ``{backend}``."
        return cast("type[OpBuilder]", type(name, (ReferenceOpBuilder,), attributes))
    bases = (ConventionalBuilder, kind if sources else ReferenceOpBuilder)
    return cast("type[OpBuilder]", type(name, bases, attributes))


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
