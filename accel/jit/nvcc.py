"""Where nvcc is, which release it is and what it compiles for."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from accel import environment
from accel.jit.arch import supported_by
from accel.jit.driver import Driver
from accel.jit.process import run_tool
from accel.probe import Accepted, Probe, Rejected

USUAL = Path("/usr/local/cuda")
_FIX = (
    "Install a CUDA toolkit, or `pip install nvidia-cuda-nvcc nvidia-cuda-runtime nvidia-cuda-crt "
    "nvidia-nvvm`, or point CUDA_HOME or NVCC at one."
)
# What a compile needs from the packages beside nvidia-cuda-nvcc, and the package that has it.
_PACKAGED = (
    ("include/cuda_runtime.h", "nvidia-cuda-runtime"),
    ("include/crt/host_config.h", "nvidia-cuda-crt"),
    ("nvvm/bin/cicc", "nvidia-nvvm"),
)
_SCRIPT_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Location:
    """An nvcc that was found.

    Attributes:
        path: the compiler itself, links and wrapper scripts followed.
        root: the toolkit's folder: ``bin``, ``include`` and ``lib`` lie in it.
        origin: where it was found: ``NVCC``, ``CUDA_HOME``, ``PATH``, ...
    """

    path: Path
    root: Path
    origin: str


@dataclass(frozen=True, slots=True)
class Nvcc:
    """What is known of an nvcc.

    Attributes:
        location: where it is.
        version: its release, as ``(13, 0)``.
        release: its release with the build, as ``"13.0.88"``.
        archs: plain architectures that it compiles for, as ``"9.0"``, oldest first.
    """

    location: Location
    version: tuple[int, int]
    release: str
    archs: tuple[str, ...]

    def __str__(self) -> str:
        """Return name, release and place, for people."""
        return f"nvcc {self.release} ({self.location.path}, from {self.location.origin})"


def locate() -> Location | Rejected:
    """Find nvcc without running anything.

    In this order: ``NVCC``, ``CUDA_HOME`` (``CUDA_PATH``), ``PATH``, ``/usr/local/cuda``, the
    ``nvidia-cuda-nvcc`` package. A variable that is set and leads nowhere is a rejection.
    """
    if asked := environment.nvcc():
        return _from_command(asked)
    if home := environment.cuda_home():
        found = _in_folder(home, "CUDA_HOME")
        missing = f"CUDA_HOME={home} has no bin/nvcc."
        return found or Rejected(missing, "Point CUDA_HOME at a CUDA toolkit, or unset it.")
    if on_path := shutil.which("nvcc", path=environment.search_path()):
        return _location(Path(on_path), "PATH")
    if found := _in_folder(USUAL, str(USUAL)):
        return found
    return _in_packages() or Rejected(
        f"No nvcc in NVCC, CUDA_HOME, PATH, {USUAL} or the nvidia-cuda-nvcc package.", _FIX
    )


def toolkit_version(location: Location) -> tuple[int, int] | None:
    """Return the release from the toolkit's files, or ``None``: `find` then asks nvcc."""
    if release := _release_from_file(location.root):
        return _pair(release)
    for header in (
        location.root / "include/cuda.h",
        *location.root.glob("targets/*/include/cuda.h"),
    ):
        if match := re.search(r"^#define CUDA_VERSION (\d+)", _read(header), re.MULTILINE):
            number = int(match[1])
            return (number // 1000, number % 1000 // 10)
    return None


def library_flags(root: Path) -> tuple[str, ...]:
    """Return flags for the toolkit's library folder where nvcc does not search it by itself.

    nvcc looks in ``lib64``; the folder of the packages has ``lib`` only.
    """
    lib = root / "lib"
    return (f"-L{lib}",) if lib.is_dir() and not (root / "lib64").exists() else ()


def find() -> Nvcc | Rejected:
    """Return nvcc with its release and architectures, or why there is none.

    Asks nvcc itself (a few milliseconds), and remembers the answers by path, size and time of the
    file. Architectures come from a table where nvcc cannot list them (before CUDA 11.5).
    """
    location = locate()
    if isinstance(location, Rejected):
        return location
    try:
        state = location.path.stat()
    except OSError as error:
        return Rejected(f"{location.path}: {error.strerror}.", _FIX)
    return _ask(location, state.st_size, state.st_mtime_ns)


def fits_driver(toolkit: tuple[int, int], driver: Driver | Rejected) -> Probe:
    """Judge whether what `toolkit` builds runs under `driver`.

    The runtime is linked statically, and a driver runs every runtime of its own major release and
    of older ones. Without a driver there is nothing to object to: the result runs elsewhere.
    """
    if isinstance(driver, Rejected):
        return Accepted("no driver here: built for another machine")
    have, need = "{}.{}".format(*driver.cuda), "{}.{}".format(*toolkit)
    if toolkit[0] <= driver.cuda[0]:
        return Accepted(f"driver {driver.version} runs CUDA {have}, the toolkit is {need}")
    return Rejected(
        f"nvcc is of CUDA {need}, and driver {driver.version} runs CUDA {have} at most.",
        f"Use a toolkit of CUDA {driver.cuda[0]} (CUDA_HOME), or a newer driver.",
    )


def _from_command(asked: str) -> Location | Rejected:
    found = shutil.which(asked, path=environment.search_path())
    if found is None:
        return Rejected(
            f"NVCC={asked!r} is no command that can be run.", "Correct the path, or unset NVCC."
        )
    return _location(Path(found), "NVCC")


def _location(path: Path, origin: str) -> Location:
    real = path.resolve()
    if real.stat().st_size < _SCRIPT_BYTES:
        # Packagers put a script that runs the compiler on the PATH; its own folder says nothing.
        named = re.findall(r"(/[^\s\"']*/nvcc)\b", _read(real))
        real = next((Path(other).resolve() for other in named if Path(other).is_file()), real)
    return Location(real, real.parent.parent, origin)


def _in_folder(folder: Path, origin: str) -> Location | None:
    found = shutil.which("nvcc", path=str(folder / "bin"))
    return _location(Path(found), origin) if found else None


def _in_packages() -> Location | Rejected | None:
    spec = importlib.util.find_spec("nvidia")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        for folder in sorted(Path(place).glob("cu[0-9]*"), reverse=True):
            found = _in_folder(folder, "the nvidia-cuda-nvcc package")
            if found is None:
                continue
            lacks = [package for file, package in _PACKAGED if not (folder / file).exists()]
            if lacks:
                reason = f"The nvidia-cuda-nvcc package in {folder} lacks {', '.join(lacks)}."
                return Rejected(reason, f"`pip install {' '.join(lacks)}` of the same release.")
            return found
    return None


@lru_cache(maxsize=16)
def _ask(location: Location, _size: int, _mtime_ns: int) -> Nvcc | Rejected:
    said = _run(location.path, "--version")
    if isinstance(said, Rejected):
        return said
    release = re.search(r"\bV(\d+\.\d+\.\d+)", said) or re.search(r"release (\d+\.\d+)", said)
    if release is None:
        return Rejected(
            f"{location.path} --version says {said[:80]!r}: not an nvcc.",
            "Point NVCC or CUDA_HOME at NVIDIA's compiler.",
        )
    version = _pair(release[1])
    listed = _run(location.path, "--list-gpu-arch")
    archs = () if isinstance(listed, Rejected) else _plain_archs(listed)
    return Nvcc(location, version, release[1], archs or supported_by(version))


def _run(path: Path, argument: str) -> str | Rejected:
    answer = run_tool([str(path), argument])
    return (
        Rejected(f"{path} {argument} {answer.trouble}.", _FIX) if answer.trouble else answer.output
    )


def _plain_archs(listed: str) -> tuple[str, ...]:
    numbers = sorted({int(number) for number in re.findall(r"compute_(\d+)$", listed, re.M)})
    return tuple(f"{number // 10}.{number % 10}" for number in numbers)


def _release_from_file(root: Path) -> str:
    try:
        known = json.loads(_read(root / "version.json") or "{}")
        release = known.get("cuda_nvcc", known.get("cuda", {})).get("version", "")
    except (ValueError, AttributeError):
        return ""
    return release if isinstance(release, str) and re.match(r"\d+\.\d+", release) else ""


def _pair(release: str) -> tuple[int, int]:
    major, minor = release.split(".")[:2]
    return int(major), int(minor)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
