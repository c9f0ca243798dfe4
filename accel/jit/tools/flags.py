"""The flags of every library, and the user's flags that are accepted."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from accel.jit.recipe import Recipe
from accel.jit.tools.compiler import Compiler
from accel.probe import Rejected

if TYPE_CHECKING:
    from accel.nvidia.arch_plan import ArchPlan

# Results must not depend on the compiler: no contraction, no reordering of sums.
_CXX = (
    "-O3",
    "-fno-math-errno",
    "-ffp-contract=off",
    "-fPIC",
    "-fvisibility=hidden",
    "-fvisibility-inlines-hidden",
    "-Wall",
    "-Wextra",
)
_NVCC = (
    "-O3",
    "--fmad=false",
    "--expt-relaxed-constexpr",
    "-Wno-deprecated-gpu-targets",
    "-Xcompiler=-fPIC,-fvisibility=hidden,-ffp-contract=off,-fno-math-errno",
)
# A user's extension keeps the meaning that torch.utils.cpp_extension gives it.
_EXTENSION = ("-O3", "-fPIC")
_NVCC_EXTENSION = ("-O3", "--expt-relaxed-constexpr", "-Xcompiler=-fPIC")
# GCC has -nostdlib++ from release 13 on.
_NO_RUNTIME = {
    "gcc": ("-nodefaultlibs", "-lm", "-lgcc", "-lc"),
    "clang": ("-nostdlib++", "-static-libgcc", "-lm"),
}
# These change results, set a mode for the whole process, or tie the library to one processor.
_HARMFUL = frozenset(
    {
        "-ffast-math",
        "-Ofast",
        "-funsafe-math-optimizations",
        "-ffinite-math-only",
        "-fassociative-math",
        "-freciprocal-math",
        "-fno-signed-zeros",
        "-ffp-contract=fast",
        "-ffp-contract=on",
        "-ffp-model=fast",
        "-march=native",
        "-mcpu=native",
        "-mtune=native",
    }
)
_WITH_VALUE = frozenset(
    {"-D", "-U", "-I", "-isystem", "-iquote", "-idirafter", "-include", "--param"}
)
# Preprocessor flags may only be macros; specs may only be in the system's own files.
_OTHER_MACHINE = frozenset({"-m16", "-m32", "-mx32", "-miamcu"})
_ACCEPTED = (
    r"-(O[0-3sgz]?|g\w*[-\w]*|W(?![lap],)[^\s]*|Wp(,-[DU][^\s,]+)+|w|pipe|pthread|std=[\w+]+"
    r"|specs=/usr/lib/rpm/(?!\S*\.\.)[\w./+-]+"
    r"|f(?!plugin|dump|save|profile|opt-info|auto-profile|openmp-targets|module|pch)[\w-]+(=\S*)?"
    r"|m[\w.-]+(=[\w.+-]+)?|[DUI].+|isystem.+|--param=\S+)"
)


# Two names lack the century; the others were used before a standard was finished.
_YEARS = {"98": 1998, "0x": 2011, "1y": 2014, "1z": 2017, "2a": 2020, "2b": 2023, "2c": 2026}
_OWN_STANDARD = "-std=c++17"
_CXX_STANDARD = r"--?std[=\s]+(?:c|gnu)\+\+(\w+)"
_C_STANDARD = r"--?std=(?:c|gnu)\d\w*|--?std=iso9899:\d+"
# In a variable that nvcc reads, the last standard counts, and so does any for the host compiler.
_NVCC_STANDARDS = {
    "NVCC_APPEND_FLAGS": _CXX_STANDARD,
    "NVCC_PREPEND_FLAGS": rf"-(?:Xcompiler|-compiler-options)[=\s]+\S*{_CXX_STANDARD}",
}


def without_c(flags: Sequence[str]) -> tuple[str, ...]:
    """Return the user's flags without a C standard, which does not apply to C++ sources."""
    return tuple(flag for flag in flags if not re.fullmatch(_C_STANDARD, flag))


def check_standard(
    recipe: Recipe, flags: Sequence[str], variables: Mapping[str, str]
) -> Rejected | None:
    """Return why a user's C++ standard is refused, which is older than the sources need.

    Args:
        recipe: the recipe of the library.
        flags: those of ``CFLAGS`` and ``CXXFLAGS``, of which the last counts.
        variables: those that compilers read for themselves.
    """
    asked = [("CFLAGS or CXXFLAGS", *found) for found in [*_standards(" ".join(flags))][-1:]]
    if recipe.language == "cuda":
        for name, pattern in _NVCC_STANDARDS.items():
            asked += [(name, *found) for found in _standards(variables.get(name, ""), pattern)]
    if not asked:
        return None
    own = [*_standards(" ".join((_OWN_STANDARD, *recipe.compile_flags)))][-1]
    for name, text, year in asked:
        if year < own[1]:
            return Rejected(
                f"{name} holds {text}, and {recipe.name} needs {own[0]} or newer.",
                f"Remove it, or name {own[0]} or a newer standard.",
            )
    return None


def _standards(text: str, pattern: str = _CXX_STANDARD) -> Iterator[tuple[str, int]]:
    """Yield every C++ standard that is named, and its year; unknown ones count as new."""
    for found in re.finditer(pattern, text) if text else ():
        name = found[1]
        yield found[0], _YEARS.get(name, 2000 + int(name) if name.isdigit() else 9999)


def check_user_flags(flags: Sequence[str]) -> Rejected | None:
    """Return why one of the user's flags is refused, or ``None`` if all are accepted.

    Accepted are optimisation, warning, debugging, machine and ``-f`` flags, macros and include
    folders; what names outputs, plug-ins, programs or further inputs is not.
    """
    waiting = ""
    for flag in flags:
        if waiting:
            waiting = ""
        elif flag in _HARMFUL:
            return Rejected(
                f"CFLAGS or CXXFLAGS holds {flag}, which changes results or ties the library to "
                f"this processor.",
                "Remove it; SIMD levels are chosen at run time without it.",
            )
        elif flag in _OTHER_MACHINE:
            return Rejected(
                f"CFLAGS or CXXFLAGS holds {flag}: Python could not load the result.",
                "Remove it.",
            )
        elif flag in _WITH_VALUE:
            waiting = flag
        elif not re.fullmatch(_ACCEPTED, flag, re.DOTALL):
            return Rejected(
                f"CFLAGS or CXXFLAGS holds {flag!r}, which is not accepted here.",
                "Use only -O, -f, -m, -g, -W, -D, -U, -I and -isystem flags.",
            )
    if waiting:
        return Rejected(f"CFLAGS or CXXFLAGS ends after {waiting}.", "Add its value.")
    return None


def compile_flags(
    recipe: Recipe, compiler: Compiler, archs: ArchPlan | None = None
) -> tuple[str, ...]:
    """Return the flags for compiling, the engine's then the recipe's; no folders.

    `archs` are the targets of a CUDA library.
    """
    own = recipe.compile_flags
    if archs is None:
        if compiler.kind == "gcc":
            own = (*own, *recipe.gcc_flags)
        # A rebuilt library must not share inline statics with the one that is already loaded.
        unique = ("-fno-gnu-unique",) if compiler.kind == "gcc" and not recipe.extension else ()
        openmp = ("-fopenmp",) if recipe.openmp and compiler.openmp else ()
        host = _EXTENSION if recipe.extension else _CXX
        return (*_standard(own), *host, *unique, *openmp, *own)
    from accel.jit.tools.cuda_targets import defines

    base = _NVCC_EXTENSION if recipe.extension else (*_NVCC, *defines(archs))
    return (*_standard(own), *base, *archs.flags, *own)


def closing_flags(recipe: Recipe, compiler: Compiler, user: Sequence[str]) -> tuple[str, ...]:
    """Return the flags after the user's, which linking and loading rely on.

    Distributions ask for position-independent programs, exceptions in C, and objects that only
    their own linker's plug-in can read.
    """
    if not any(flag.startswith(("-f", "-specs")) for flag in user):
        return ()
    always = ("-fPIC", "-fno-lto")
    if recipe.extension:
        return always
    unique = ("-fno-gnu-unique",) if compiler.kind == "gcc" else ()
    if recipe.cxx_runtime:
        return (*always, *unique)
    # Without a C++ runtime there is no unwinding and no type information.
    calls = ("-fno-non-call-exceptions",) if compiler.kind == "gcc" else ()
    return (*always, *unique, "-fno-exceptions", "-fno-rtti", *calls)


def specs_of(flags: Sequence[str]) -> tuple[str, ...]:
    """Return the files in which accepted flags name further flags."""
    return tuple(flag.removeprefix("-specs=") for flag in flags if flag.startswith("-specs="))


def host_compile_flags(recipe: Recipe) -> tuple[str, ...]:
    """Return the flags for the C++ sources of a CUDA library."""
    base = _EXTENSION if recipe.extension else _CXX
    return (*_standard(recipe.host_flags), *base, *recipe.host_flags)


def _standard(own: Sequence[str]) -> tuple[str, ...]:
    """Return the engine's C++ standard unless the recipe names one; nvcc refuses two."""
    return () if any(flag.startswith(("-std=", "--std=")) for flag in own) else (_OWN_STANDARD,)


def link_flags(recipe: Recipe, compiler: Compiler) -> tuple[str, ...]:
    """Return the flags for linking, the engine's then the recipe's."""
    if compiler.kind == "nvcc":
        cudart = "shared" if recipe.extension else "static"
        return ("-shared", f"--cudart={cudart}", *recipe.link_flags)
    # A missing symbol should fail the link, not a later load.
    whole = () if recipe.extension else ("-Wl,--no-undefined",)
    openmp = ("-fopenmp",) if recipe.openmp and compiler.openmp else ()
    runtime = () if recipe.cxx_runtime else _NO_RUNTIME[compiler.kind]
    return ("-shared", *whole, *openmp, *recipe.link_flags, *runtime)
