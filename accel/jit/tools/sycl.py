"""The SYCL runtime of torch's XPU wheels: headers, libsycl, and its run-time compiler."""

from __future__ import annotations

import ctypes
import os
import re
import sys
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from accel.errors import OpUnavailable
from accel.jit.recipe import Recipe
from accel.probe import Rejected

PACKAGE = "intel-sycl-rt"
OLDEST = (2025, 2)
"""The first release whose libsycl compiles SYCL sources by itself."""


_found: dict[tuple[str, ...], SyclRuntime] = {}


@dataclass(frozen=True, slots=True)
class SyclRuntime:
    """An installed runtime.

    Attributes:
        version: its release, such as ``"2026.2.0"``.
        include: folder of its headers.
        library: ``libsycl.so.N``.
    """

    version: str
    include: Path
    library: Path


def find_sycl() -> SyclRuntime | Rejected:
    """Return the runtime of this Python environment; loads nothing and raises nothing."""
    search = tuple(sys.path)
    if search not in _found:
        try:
            answer = _search()
        except OSError as error:
            return Rejected(f"{PACKAGE} cannot be looked up: {error}.", "Try again.")
        if isinstance(answer, Rejected):
            return answer
        _found[search] = answer
    return _found[search]


def _search() -> SyclRuntime | Rejected:
    fix = f"torch's XPU wheels include it; otherwise: pip install {PACKAGE}"
    try:
        package = distribution(PACKAGE)
    except PackageNotFoundError:
        return Rejected(f"no SYCL runtime: the package {PACKAGE} is not installed.", fix)
    numbers = tuple(int(part) for part in re.findall(r"\d+", package.version)[:2])
    if numbers < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        return Rejected(
            f"{PACKAGE} {package.version} cannot compile kernels at run time.",
            f"Install {oldest} or newer, with a torch that uses it.",
        )
    record = package.read_text("RECORD") or ""
    header = re.search(r"^(.*include)/sycl/queue\.hpp,", record, re.MULTILINE)
    library = re.search(r"^(.*/libsycl\.so\.\d+),", record, re.MULTILINE)
    if header is None or library is None:
        return Rejected(f"{PACKAGE} {package.version} lists no headers or no libsycl.", fix)
    include, path = (_place(package, match[1]) for match in (header, library))
    if not (include.is_dir() and path.is_file()):
        return Rejected(f"{PACKAGE} {package.version} is damaged: {path} is missing.", fix)
    return SyclRuntime(package.version, include, path)


def _place(package: Distribution, recorded: str) -> Path:
    """Return the path of an entry in the package's RECORD, under the name that it has there."""
    return Path(os.path.normpath(str(package.locate_file(recorded))))


def with_sycl(recipe: Recipe) -> Recipe:
    """Return the recipe with SYCL's headers and libsycl; raises `OpUnavailable` without them."""
    runtime = _required()
    return recipe.replace(
        release_include_dirs=(runtime.include,),
        library_dirs=(runtime.library.parent,),
        link_flags=(*recipe.link_flags, f"-l:{runtime.library.name}"),
        identity=(*recipe.identity, ("sycl", runtime.version)),
    )


def load_sycl() -> None:
    """Map libsycl into this process, where libraries that need it find it by its name.

    Raises:
        OpUnavailable: it cannot be loaded, or the process (torch) has another one already, which
            could not use its queues.
    """
    runtime = _required()
    others = sorted(_mapped() - {os.path.realpath(runtime.library)})
    if others:
        raise OpUnavailable(
            f"this process uses {others[0]}, but kernels would be built for {runtime.library}. "
            f"Keep one SYCL runtime: the {PACKAGE} that torch asks for."
        )
    try:
        ctypes.CDLL(str(runtime.library))
    except OSError as error:
        raise OpUnavailable(f"{runtime.library} cannot be loaded: {error}.") from error


def _required() -> SyclRuntime:
    runtime = find_sycl()
    if isinstance(runtime, Rejected):
        raise OpUnavailable(str(runtime))
    return runtime


def _mapped() -> set[str]:
    """Return the real paths of the libsycl that this process has mapped."""
    try:
        text = Path("/proc/self/maps").read_text(errors="surrogateescape")
    except OSError:
        return set()
    return set(re.findall(r"/\S.*/libsycl\.so\.[\d.]+$", text, re.MULTILINE))
