"""`Recipe`: a builder's declaration of a library, before any tool is known."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Literal

from accel.jit.disk.safe_io import sha256
from accel.jit.disk.source_dirs import csrc_dir
from accel.jit.headers import scan
from accel.probe import Rejected
from accel.record import Record

ENGINE = "1"


class Recipe(Record):
    """A library to build, without facts about tools or machine; making one has no effects.

    Attributes:
        name: stem of the artifact: letters, digits and underscores, at most 64.
        backend: name of the backend that it is for, of the same characters.
        sources: the files to compile.
        include_dirs: folders of local headers; those that the sources include are hashed.
        compile_flags: flags for the compiler beyond the engine's own.
        gcc_flags: the same for GCC only; other compilers do not get them.
        link_flags: flags for the linker beyond the engine's own.
        targets: SIMD levels or GPU architectures to compile for, all in one library.
        abi: version of the C interface that the library exports.
        language: ``"c++"`` or ``"cuda"``.
        openmp: whether the sources use OpenMP.
        cxx_runtime: whether the sources use exceptions, ``new`` or the standard library. Without
            them a library links in a third of the time, and runs beside any C++ runtime.
        parts: macros; each source is compiled once with each of them defined, side by side, and
            then holds no more than that part. Default: once, with none.
        system_include_dirs: folders of installed headers (torch's, Python's); the compiler's report
            says which of them are included.
        release_include_dirs: folders of headers that a release named in `identity` fixes (SYCL's);
            they are not read.
        library_dirs: folders of libraries to link with.
        host_flags: flags for the C++ sources of a CUDA library beyond the engine's own.
        extension: whether the library is a Python extension or registers with torch; some of its
            symbols are then resolved when it is loaded.
        identity: further facts that the binary depends on, as ``(name, value)`` pairs (torch's
            build, Python's ABI).
    """

    name: str
    backend: str
    sources: tuple[Path, ...]
    include_dirs: tuple[Path, ...] = ()
    compile_flags: tuple[str, ...] = ()
    gcc_flags: tuple[str, ...] = ()
    link_flags: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    abi: int = 1
    language: Literal["c++", "cuda"] = "c++"
    openmp: bool = False
    cxx_runtime: bool = True
    parts: tuple[str, ...] = ()
    system_include_dirs: tuple[Path, ...] = ()
    release_include_dirs: tuple[Path, ...] = ()
    library_dirs: tuple[Path, ...] = ()
    host_flags: tuple[str, ...] = ()
    extension: bool = False
    identity: tuple[tuple[str, str], ...] = ()

    def _check(self) -> None:
        for label, text in (("name", self.name), ("backend", self.backend)):
            if not (text.isascii() and text.replace("_", "x").isalnum() and len(text) <= 64):
                raise ValueError(
                    f"Recipe {label} {text!r}: expected 1 to 64 letters, digits and underscores."
                )
        if not self.sources:
            raise ValueError(f"Recipe {self.name!r} names no source; give at least one.")

    @property
    def fit(self) -> str:
        """Hex digest of everything but the tools; reads the sources as they are now.

        Raises `OSError` if a source cannot be read.
        """
        return take_fit(self).digest


class Fit(Record):
    """A recipe's fit at one moment: hashes of its inputs.

    Attributes:
        digest: hex digest over `ingredients`.
        base: the same without the targets, to find a library that covers more targets.
        ingredients: every fact that counts, by name.
        files: the path of each local file, by label.
    """

    digest: str
    base: str
    ingredients: dict[str, str]
    files: dict[str, str]


def digest_of(ingredients: dict[str, str]) -> str:
    """Return the hex digest (32 digits) of named facts, independent of their order."""
    return sha256(json.dumps(ingredients, sort_keys=True).encode())[:32]


def platform_refusal() -> Rejected | None:
    """Return why nothing native can be built or loaded on this system, ``None`` on Linux."""
    if sys.platform == "linux":
        return None
    return Rejected(
        f"native ops are built and loaded on Linux only; this is {sys.platform}.",
        "Use the reference (ACCEL_OPS=auto), or Linux.",
    )


def libc() -> tuple[str, str]:
    """Return the C library's family and version, such as ``("glibc", "2.36")``."""
    try:
        family, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    except (AttributeError, ValueError, OSError):
        return ("other", "")
    return (family or "other", version)


def take_fit(recipe: Recipe) -> Fit:
    """Read the recipe's sources and local headers and return its fit; raises `OSError`."""
    found = scan(recipe.sources, recipe.include_dirs, csrc_dir())
    base = {
        "engine": ENGINE,
        "name": recipe.name,
        "backend": recipe.backend,
        "language": recipe.language,
        "abi": str(recipe.abi),
        "openmp": str(recipe.openmp),
        "C++ runtime": str(recipe.cxx_runtime),
        "parts": " ".join(recipe.parts),
        "extension": str(recipe.extension),
        "declared compile flags": " ".join(recipe.compile_flags),
        "declared flags for GCC": " ".join(recipe.gcc_flags),
        "declared host flags": " ".join(recipe.host_flags),
        "declared link flags": " ".join(recipe.link_flags),
        "platform": f"{sys.platform}-{os.uname().machine}",
        "libc": libc()[0],
        "includes": sha256("\n".join(found.edges).encode("utf-8", "surrogateescape")),
    }
    base |= {f"file {label}": content for label, content in found.contents.items()}
    base |= {f"identity {name}": value for name, value in recipe.identity}
    whole = base | {"targets": " ".join(recipe.targets)}
    return Fit(digest_of(whole), digest_of(base), whole, found.paths)
