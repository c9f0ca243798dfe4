"""`OpBuilder`: one op on one backend, from its declaration to the loaded op."""

from __future__ import annotations

import sys
import warnings
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic

from accel import jit
from accel.builders import choosing
from accel.builders.choosing import SourceMissing
from accel.errors import OpUnavailable
from accel.probe import Probe, Rejected
from accel.targets import resolve

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    from accel.jit import Library, Plan, Recipe
    from accel.ops.base import Implementation, Op

    Loaded = TypeVar("Loaded", default=Any)
else:
    from typing import TypeVar

    # Defaults of type variables are newer than the oldest Python.
    Loaded = TypeVar("Loaded")


class OpBuilder(Generic[Loaded]):
    """The declaration of one op on one backend; constructing one has no effects.

    A subclass is a declaration: class attributes, or the methods `sources`, `include_paths`,
    `parts`, `cxx_args`, `gcc_args`, `nvcc_args` and `extra_ldflags` if data is not enough.

    Attributes:
        NAME: the op's name, such as ``"fused_adam"``.
        BUILD_VAR: name of the variable that installers use for this op.
        backend: name of the backend that the class belongs to. Default: the host's, ``cpu``.
        device_type: torch's name of the backend's devices, from its strategy; ``""``: `backend`.
        op: the op's class, as ``"module:Class"``; imported in `load`. Empty for a library without
            a call surface here: `load` then returns the `Library`.
        artifact: stem of the built library; ops that share sources share it. Default: `NAME`.
        native_sources: paths of the native sources, relative to ``csrc/``.
        entry_point: the native library's function that a portable kernel may replace.
        uses_triton: whether Triton kernels may replace the native library; for builders that come
            from a strategy, the strategy's attribute of the same name decides.
        targets: levels or architectures to compile for, all in one library.
        openmp: whether the sources use OpenMP.
        cxx_runtime: whether the sources use exceptions, ``new`` or C++'s standard library.
        language: ``"c++"`` or ``"cuda"``.
    """

    NAME: ClassVar[str] = ""
    BUILD_VAR: ClassVar[str] = ""
    backend: ClassVar[str] = "cpu"
    device_type: ClassVar[str] = ""
    op: ClassVar[str] = ""
    artifact: ClassVar[str] = ""
    native_sources: ClassVar[tuple[str, ...]] = ()
    entry_point: ClassVar[str] = ""
    uses_triton: ClassVar[bool] = False
    targets: ClassVar[tuple[str, ...]] = ()
    openmp: ClassVar[bool] = False
    cxx_runtime: ClassVar[bool] = True
    language: ClassVar[Any] = "c++"

    _loaded: ClassVar[dict[tuple[Any, ...], Any]] = {}

    def __init__(self, name: str | None = None) -> None:
        self.name = name or self.NAME

    def absolute_name(self) -> str:
        """Return the op's full name, such as ``"accel.ops.optimizers.adam.FusedAdam"``."""
        return self.op.replace(":", ".") or f"{type(self).__module__}.{self.name}"

    def sources(self) -> list[str]:
        """Return the native sources; relative paths are looked up as `recipe` says."""
        return [str(jit.csrc_dir() / source) for source in self.native_sources]

    def include_paths(self) -> list[str]:
        """Return the folders of local headers: the ABI's, the sources', and above them in csrc."""
        csrc = jit.csrc_dir()
        folders = [csrc / "include"]
        for source in self.native_sources:
            beside = (csrc / source).parent
            folders += [beside, *(one for one in beside.parents if csrc in one.parents)]
        return [*dict.fromkeys(map(str, folders))]

    def parts(self) -> list[str]:
        """Return macros that each choose a part of the sources; parts compile side by side."""
        return []

    def cxx_args(self) -> list[str]:
        """Return flags for the C++ compiler beyond the engine's own."""
        return []

    def gcc_args(self) -> list[str]:
        """Return flags for GCC only; other compilers do not get them."""
        return []

    def nvcc_args(self) -> list[str]:
        """Return flags for the CUDA compiler beyond the engine's own."""
        return []

    def extra_ldflags(self) -> list[str]:
        """Return flags for the linker beyond the engine's own."""
        return []

    def recipe(self) -> Recipe:
        """Return the recipe of the library, without running any tool.

        A relative source or folder is looked up beside the module that defines the builder, then
        in the current folder.

        Raises:
            OpUnavailable: the builder declares no native sources, or they are in an archive.
            FileNotFoundError: a source does not exist.
        """
        sources = tuple(self._locate(source) for source in self.sources())
        if not sources:
            raise OpUnavailable(
                f"{type(self).__name__} has no native implementation for {self.backend!r}. "
                f"load() returns its reference unless ACCEL_OPS=native."
            )
        flags = self.nvcc_args() if self.language == "cuda" else self.cxx_args()
        return jit.Recipe(
            name=self.artifact or self.name,
            backend=self.backend,
            sources=sources,
            include_dirs=tuple(self._locate(folder) for folder in self.include_paths()),
            compile_flags=tuple(flag for flag in flags if flag),
            gcc_flags=tuple(flag for flag in self.gcc_args() if flag),
            link_flags=tuple(flag for flag in self.extra_ldflags() if flag),
            targets=self.targets,
            language=self.language,
            openmp=self.openmp,
            cxx_runtime=self.cxx_runtime,
            parts=tuple(self.parts()),
        )

    def _locate(self, text: str) -> Path:
        path = Path(text)
        if path.is_absolute():
            jit.refuse_archive(path, type(self).__name__)
            return path
        module = sys.modules.get(type(self).__module__)
        home = Path(getattr(module, "__file__", None) or ".").parent
        for folder in (home, Path.cwd()):
            if (folder / path).exists():
                return folder / path
        jit.refuse_archive(home / path, type(self).__name__)
        raise SourceMissing(
            f"{type(self).__name__}: {text!r} is neither in {home} nor in {Path.cwd()}. "
            f"Give sources() and include_paths() as absolute paths."
        )

    def plan(self) -> Plan | Rejected:
        """Return the plan of the build, or why there is none; runs no compiler."""
        try:
            return jit.make_plan(self.recipe())
        except (OpUnavailable, OSError) as error:
            return Rejected(str(error))

    def rungs(self) -> tuple[tuple[str, Probe], ...]:
        """Return every rung with its verdict, best first; compiles nothing, raises nothing."""
        from accel.builders.verdicts import rungs

        return rungs(self)

    def has_sources(self) -> bool:
        """Return whether the builder declares native sources."""
        return bool(self.native_sources) or type(self).sources is not OpBuilder.sources

    def portable(self) -> Probe:
        """Return whether a portable kernel, compiled at run time for any device, can be used."""
        from accel.ops.optimizers.triton import probe_portable

        return probe_portable(self.backend, self.entry_point, used=self.uses_triton)

    def stand_ins(self) -> tuple[tuple[str, Probe], ...]:
        """Return the rungs between the native ones and the reference, best first."""
        return (("portable", self.portable()),)

    def stand_in(self) -> Implementation | None:
        """Return the replacement for a missing native library, or ``None``."""
        if not self.portable():
            return None
        from accel.ops.optimizers.triton import Portable

        return Portable()

    def compatibility(self) -> Probe:
        """Return the verdict on the best rung that the policy in force allows."""
        from accel.builders.verdicts import compatibility

        return compatibility(self)

    def is_compatible(self, verbose: bool = False) -> bool:
        """Return whether `load` can be expected to work; with `verbose`, warn why not."""
        verdict = self.compatibility()
        if verbose and isinstance(verdict, Rejected):
            warnings.warn(f"{type(self).__name__}: {verdict}", RuntimeWarning, stacklevel=2)
        return bool(verdict)

    def load(self, verbose: bool = False) -> Loaded:
        """Return the op: from the best rung that the policy (``ACCEL_OPS``) allows.

        The object has the op's call surface and `implementation`, `digest` and `path`. The same
        digest gives the same object. Under ``auto``, if the machine prevents the load of a native
        library, the next rung is used, with one warning if the load failed or if only the reference
        can replace it. `accel explain` gives the reason.

        Raises:
            BuildFailed: ``ACCEL_OPS=native`` and the compiler failed.
            OpUnavailable: no rung that the policy allows can be used.
            CacheUntrusted: ``ACCEL_OPS=native`` and others may write the cache.
            InvalidSetting: a variable has a value that is not accepted.
            FileNotFoundError: the builder names a source that does not exist.
        """
        op: Loaded = choosing.load(self, verbose)
        return op

    def jit_load(self, verbose: bool = False) -> Loaded:
        """Return the native op, prebuilt or compiled; raises as `load` does under native."""
        op: Loaded = choosing.native(self, verbose)
        return op

    def builder(self) -> Any:
        """Return a ``setuptools.Extension`` of the native sources, for your own ``setup.py``.

        It needs no ``cmdclass`` and works with any. It belongs to the package of the module that
        defines the builder, unless `absolute_name` is overridden, and `load` finds it there,
        with or without the sources.

        Raises:
            OpUnavailable: the builder declares no native source, or is one of accel's own.
        """
        from accel.builders.setuptools import extension

        return extension(self)

    def packaged(self) -> Library | None:
        """Return the library that `builder` put into this class's package, ``None`` without one.

        Raises:
            OpUnavailable: it must not be used, and there are no sources to build it again.
        """
        if self._is_ours():
            return None
        from accel.builders import packaging

        return packaging.load(self)

    def probe_packaged(self) -> Probe | None:
        """Return the verdict on that library, with its path or a reason; ``None`` without one."""
        if self._is_ours():
            return None
        from accel.builders import packaging

        return packaging.probe(self)

    def _is_ours(self) -> bool:
        return type(self).__module__.startswith("accel.builders.")

    def _keep(self, library: Implementation | None) -> Any:
        """Return the one object for this op, backend, type of devices and digest."""
        if not self.op:
            return library
        devices = self.device_type or self.backend
        key = (self.op, self.backend, devices, library.digest if library is not None else None)
        kept = OpBuilder._loaded.get(key)
        if kept is None:
            kept = OpBuilder._loaded.setdefault(key, self._op_class()(library, backend=devices))
        return kept

    def notes(self) -> tuple[str, ...]:
        """Return further sentences for `accel explain` about the op; imports torch."""
        from accel.builders.verdicts import notes

        return notes(self)

    def _op_class(self) -> type[Op]:
        found: type[Op] = resolve(self.op)
        return found


def __getattr__(name: str) -> Any:
    """Return a kind of builder under its old name in this module."""
    kinds = import_module("accel.builders.kinds")
    if not name.endswith("OpBuilder") or not hasattr(kinds, name):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn(
        f"accel.builders.base.{name} has moved: import it from accel.builders.kinds.",
        DeprecationWarning,
        stacklevel=2,
    )
    return getattr(kinds, name)
