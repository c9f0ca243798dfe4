"""Recipes for sources that include torch's headers: pybind11 modules and ``TORCH_LIBRARY``."""

from __future__ import annotations

import re
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from accel.errors import OpUnavailable
from accel.jit.recipe import Recipe

_CUDA_MACROS = (
    "-D__CUDA_NO_HALF_OPERATORS__",
    "-D__CUDA_NO_HALF_CONVERSIONS__",
    "-D__CUDA_NO_BFLOAT16_CONVERSIONS__",
    "-D__CUDA_NO_HALF2_OPERATORS__",
)


@dataclass(frozen=True, slots=True)
class TorchFacts:
    """The installed torch, read from its files without importing it.

    Attributes:
        folder: its package folder.
        version: such as ``"2.13.0+cpu"``.
        build: version, commit and CUDA of the build, on which a binary depends.
        cxx11_abi: value of ``_GLIBCXX_USE_CXX11_ABI`` that it was compiled with.
    """

    folder: Path
    version: str
    build: str
    cxx11_abi: str

    @property
    def standard(self) -> str:
        """The C++ standard that its headers need (torch.utils.cpp_extension of each release)."""
        numbers = [int(part) for part in re.findall(r"\d+", self.version)[:2]]
        return "c++20" if numbers >= [2, 12] else "c++17"


def torch_facts() -> TorchFacts:
    """Return the facts about the installed torch; raises `OpUnavailable` without one."""
    spec = find_spec("torch")
    if spec is None or not spec.submodule_search_locations:
        raise OpUnavailable("torch is not installed; a torch extension needs it. Install torch.")
    folder = Path(next(iter(spec.submodule_search_locations)))
    assigned = dict(
        re.findall(r"^(\w+)[^=\n]*= '?([^'\n]*)'?$", _text(folder / "version.py"), re.M)
    )
    version = assigned.get("__version__", "")
    build = f"{version} {assigned.get('git_version', '')} cuda {assigned.get('cuda', 'None')}"
    config = _text(folder / "share" / "cmake" / "Torch" / "TorchConfig.cmake")
    abi = re.search(r"_GLIBCXX_USE_CXX11_ABI=(\d)", config)
    return TorchFacts(folder, version, build, abi[1] if abi else "1")


def torch_recipe(
    name: str,
    backend: str,
    sources: Sequence[Path],
    *,
    include_dirs: Sequence[Path] = (),
    cxx_flags: Sequence[str] = (),
    cuda_flags: Sequence[str] = (),
    link_flags: Sequence[str] = (),
    targets: Sequence[str] = (),
) -> Recipe:
    """Return the recipe of a torch extension, as ``torch.utils.cpp_extension.load`` would build it.

    The extension's module is called `name` (``TORCH_EXTENSION_NAME``). Torch's build and ABI and
    Python's are part of the digest; torch's headers are recorded from the compiler's report.

    Args:
        name: name of the module and stem of the artifact.
        backend: the backend that it is for.
        sources: ``.cpp`` and, for CUDA, ``.cu`` files.
        include_dirs: folders of the extension's own headers.
        cxx_flags: flags for the C++ compiler.
        cuda_flags: flags for nvcc.
        link_flags: flags for the linker.
        targets: GPU architectures; empty for the toolkit's defaults.

    Raises:
        OpUnavailable: torch is not installed.
    """
    torch = torch_facts()
    cuda = any(source.suffix == ".cu" for source in sources)
    common = (
        f"-std={torch.standard}",
        f"-DTORCH_EXTENSION_NAME={name}",
        "-DTORCH_API_INCLUDE_EXTENSION_H",
        f"-D_GLIBCXX_USE_CXX11_ABI={torch.cxx11_abi}",
    )
    libraries = ["c10", "torch_cpu", "torch", "torch_python"]
    if cuda:
        libraries[1:1] = ["c10_cuda", "torch_cuda"]
    headers = torch.folder / "include"
    return Recipe(
        name=name,
        backend=backend,
        sources=tuple(sources),
        include_dirs=tuple(include_dirs),
        compile_flags=(*common, *_CUDA_MACROS, *cuda_flags) if cuda else (*common, *cxx_flags),
        host_flags=(*common, *cxx_flags) if cuda else (),
        link_flags=(*(f"-l{library}" for library in libraries), *link_flags),
        targets=tuple(targets),
        language="cuda" if cuda else "c++",
        system_include_dirs=(
            headers,
            headers / "torch" / "csrc" / "api" / "include",
            Path(sysconfig.get_paths()["include"]),
        ),
        library_dirs=(torch.folder / "lib",),
        extension=True,
        identity=(
            ("torch", torch.build),
            ("python", f"{sys.implementation.cache_tag} {sysconfig.get_config_var('SOABI')}"),
        ),
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise OpUnavailable(
            f"torch cannot be read: {path}: {error.strerror}. Try again."
        ) from error
