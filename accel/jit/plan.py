"""`Plan`: a recipe, its compiler and every flag, frozen, with the digest that names them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from accel import environment
from accel.jit.disk.safe_io import read_regular, sha256
from accel.jit.recipe import Fit, Recipe, digest_of, libc, platform_refusal, take_fit
from accel.jit.tools.compiler import Compiler
from accel.jit.tools.compilers import find_cxx, find_nvcc, processor
from accel.jit.tools.flags import (
    check_standard,
    check_user_flags,
    closing_flags,
    compile_flags,
    host_compile_flags,
    link_flags,
    specs_of,
    without_c,
)
from accel.probe import Rejected
from accel.record import Record

if TYPE_CHECKING:
    from accel.jit.tools.ninja import Command
    from accel.nvidia.arch_plan import ArchPlan


class Plan(Record):
    """All facts that determine the bytes of a library.

    Attributes:
        recipe: the builder's declaration.
        compiler: the compiler and linker.
        host: for CUDA, the host compiler that nvcc calls.
        flags: every flag for compiling, without folders.
        host_flags: for CUDA, every flag for the C++ sources.
        libraries: every flag for linking.
        user_flags: those of `flags` that came from ``CFLAGS`` and ``CXXFLAGS``.
        archs: for CUDA, the architectures to compile for.
        fit: hex digest of sources, headers and declarations; needs no compiler.
        digest: hex digest of `ingredients`; names the artifact.
    """

    recipe: Recipe
    compiler: Compiler
    host: Compiler | None
    flags: tuple[str, ...]
    host_flags: tuple[str, ...]
    libraries: tuple[str, ...]
    user_flags: tuple[str, ...]
    fitted: Fit
    variables: tuple[tuple[str, str], ...] = ()
    archs: ArchPlan | None = None

    @property
    def fit(self) -> str:
        """Hex digest of sources, headers and declarations at the time of planning."""
        return self.fitted.digest

    @property
    def digest(self) -> str:
        """Hex digest of `ingredients`."""
        return digest_of(self.ingredients())

    @property
    def targets(self) -> tuple[str, ...]:
        """The library's targets: SIMD levels, or GPU architectures as they were resolved."""
        return self.recipe.targets if self.archs is None else tuple(map(str, self.archs.targets))

    @property
    def stem(self) -> str:
        """Name of the artifact's folder: the op's name and the digest."""
        return f"{self.recipe.name}-{self.digest}"

    @property
    def lacks_openmp(self) -> bool:
        """True if the sources use OpenMP and the compiler has none, so they run in one thread."""
        return self.recipe.openmp and not self.compiler.openmp

    def ingredients(self) -> dict[str, str]:
        """Return every fact that the digest covers, by name; neither paths nor times."""
        facts = dict(self.fitted.ingredients)
        for role, compiler in (("compiler", self.compiler), ("host compiler", self.host)):
            if compiler is not None:
                facts[role] = f"{compiler.label} {compiler.machine} {compiler.identity}"
        facts["flags"] = " ".join(self.flags)
        facts["host flags"] = " ".join(self.host_flags)
        facts["libraries"] = " ".join(self.libraries)
        facts["libc version"] = libc()[1]
        return facts | {f"machine {name}": text for name, text in self.variables}

    @property
    def commands(self) -> tuple[Command, ...]:
        """The steps: one for each part of each source, then the link."""
        from accel.jit.tools.ninja import Command

        recipe = self.recipe
        folders = [f"-I{os.path.abspath(folder)}" for folder in recipe.include_dirs]  # noqa: PTH100
        for folder in (*recipe.system_include_dirs, *recipe.release_include_dirs):
            folders += ["-isystem", os.path.abspath(folder)]  # noqa: PTH100
        report = "-MD" if recipe.system_include_dirs else "-MMD"
        steps = []
        for number, source in enumerate(recipe.sources):
            path = source.absolute()
            for part in recipe.parts or ("",):
                stem = f"{number}{part and '-'}{part}"
                chosen = (f"-D{part}",) if part else ()
                ends = (*chosen, report, "-MF", f"{stem}.d", "-c", str(path), "-o", f"{stem}.o")
                argv = (*self._compiler_for(source), *folders, *ends)
                steps.append(Command(f"{stem}.o", argv, path))
        library = f"{recipe.name}.so"
        objects = [step.output for step in steps]
        link = (*self.compiler.command, *self._ccbin(), *objects, "-o", library)
        link += tuple(f"-L{os.path.abspath(folder)}" for folder in recipe.library_dirs)  # noqa: PTH100
        if self.host is not None:
            from accel.jit.tools.cuda_targets import toolkit_folders

            link += toolkit_folders(self.compiler.root)
        return (*steps, Command(library, (*link, *self.libraries), None))

    def _ccbin(self) -> tuple[str, ...]:
        return ("-ccbin", self.host.command[0]) if self.host is not None else ()

    def _compiler_for(self, source: Path) -> tuple[str, ...]:
        if self.host is not None and source.suffix != ".cu":
            return (*self.host.command, *self.host_flags)
        return (*self.compiler.command, *self._ccbin(), *self.flags)


def make_plan(recipe: Recipe) -> Plan | Rejected:
    """Return the plan for this machine as it is now, or why there is none.

    Reads the sources and identifies the compiler, unless that is remembered; compiles nothing and
    raises nothing.
    """
    refusal = platform_refusal()
    if refusal is not None:
        return refusal
    try:
        fitted = take_fit(recipe)
    except OSError as error:
        return Rejected(f"{error.filename or recipe.name} cannot be read: {error.strerror}.")
    return plan_of(recipe, fitted)


def plan_of(recipe: Recipe, fitted: Fit) -> Plan | Rejected:
    """Return the plan for a fit that was taken before; see `make_plan`."""
    odd = [path for path in _paths(recipe) if "\n" in str(path)]
    if odd:
        return Rejected(f"the path {str(odd[0])!r} has a line break, which ninja cannot express.")
    try:
        user = without_c(environment.cflags()) if recipe.language == "c++" else ()
    except ValueError as error:
        return Rejected(f"CFLAGS or CXXFLAGS cannot be split into words: {error}.", "Correct it.")
    read = environment.compiler_variables()
    refusal = check_user_flags(user)
    if refusal is None:
        refusal = check_standard(recipe, user, read)
    if refusal is not None:
        return refusal
    tools = _tools_for(recipe)
    if isinstance(tools, Rejected):
        return tools
    compiler, host, archs = tools
    flags = compile_flags(recipe, compiler, archs)
    host_flags = host_compile_flags(recipe) if host is not None else ()
    try:
        variables = _variables(read, (*flags, *host_flags), user)
    except OSError as error:
        return Rejected(f"{error.filename} cannot be read: {error.strerror}.")
    return Plan(
        recipe,
        compiler,
        host,
        (*flags, *user, *closing_flags(recipe, compiler, user)),
        host_flags,
        link_flags(recipe, compiler),
        user,
        fitted,
        variables,
        archs,
    )


def _variables(
    read: Mapping[str, str], flags: Sequence[str], user: Sequence[str]
) -> tuple[tuple[str, str], ...]:
    """Return the other inputs of a build, by name: variables, the processor, files of flags."""
    found = [
        (name, sha256(text.encode("utf-8", "surrogateescape"))[:16])
        for name, text in sorted(read.items())
    ]
    if any(flag.endswith("=native") for flag in flags):
        found.append(("processor", processor()))
    return (*found, *((f"specs {path}", sha256(read_regular(path))) for path in specs_of(user)))


def _tools_for(
    recipe: Recipe,
) -> tuple[Compiler, Compiler | None, ArchPlan | None] | Rejected:
    """Return the compiler, and for CUDA the host compiler and the architectures."""
    cxx = find_cxx()
    if isinstance(cxx, Rejected) or recipe.language != "cuda":
        return cxx if isinstance(cxx, Rejected) else (cxx, None, None)
    nvcc = find_nvcc()
    if isinstance(nvcc, Rejected):
        return nvcc
    from accel.jit.tools.cuda_targets import plan_targets, release_of

    supported = re.findall(r"\d+\.\d+", nvcc.machine)
    archs = plan_targets(recipe.targets, release_of(nvcc.version), supported)
    return archs if isinstance(archs, Rejected) else (nvcc, cxx, archs)


def _paths(recipe: Recipe) -> tuple[Path, ...]:
    return (
        *recipe.sources,
        *recipe.include_dirs,
        *recipe.system_include_dirs,
        *recipe.release_include_dirs,
        *recipe.library_dirs,
    )
