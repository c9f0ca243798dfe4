"""Finding nvcc, its release, and its architectures."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path

from accel import environment
from accel.jit.disk.safe_io import read_regular, sha256
from accel.jit.tools.asking import Answered, Failed, Refused, ask
from accel.jit.tools.compiler import Compiler, Identified, Unanswered
from accel.nvidia.archs import supported_by
from accel.nvidia.driver import Driver
from accel.probe import Accepted, Probe, Rejected

USUAL = Path("/usr/local/cuda")
_FIX = (
    "Install a CUDA toolkit, or `pip install nvidia-cuda-nvcc nvidia-cuda-runtime nvidia-cuda-crt "
    "nvidia-nvvm`, or point CUDA_HOME or NVCC at one."
)
# Files that a compile needs from packages beside nvidia-cuda-nvcc, and their packages.
_PACKAGED = (
    ("include/cuda_runtime.h", "nvidia-cuda-runtime"),
    ("include/crt/host_config.h", "nvidia-cuda-crt"),
    ("nvvm/bin/cicc", "nvidia-nvvm"),
)
_AGAIN = "Try again in a new process, or point CUDA_HOME or NVCC at another toolkit."
# nvcc prints its own folder, whoever called it.
_WHERE = ("--dryrun", "-E", "-x", "cu", "/dev/null")
# A script that does nothing but call one nvcc with the same arguments.
_PLAIN_SCRIPT = re.compile(r"(?:\s*#.*\n|\s*\n)*\s*exec (['\"]?)(/[^\s\"'$`\\;&|]+)\1 \"\$@\"\s*")
_SCRIPT_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Location:
    """An nvcc that was found.

    Attributes:
        path: the compiler itself, links and plain scripts followed.
        root: the toolkit's folder, with ``bin``, ``include`` and ``lib``.
        origin: where it was found: ``NVCC``, ``CUDA_HOME``, ``PATH``, ...
        launcher: whether `path` is a program that chooses an nvcc by itself; then only that nvcc
            knows `root`.
    """

    path: Path
    root: Path
    origin: str
    launcher: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class Nvcc:
    """Facts about an nvcc.

    Attributes:
        location: its path, root and origin.
        version: its release, such as ``(13, 0)``.
        release: its release with the build, such as ``"13.0.88"``.
        archs: plain architectures that it compiles for, such as ``"9.0"``, oldest first.
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
    """Return flags for the toolkit's library folder if nvcc does not search it by itself.

    nvcc looks in ``lib64``; the folder of the packages has ``lib`` only.
    """
    lib = root / "lib"
    return (f"-L{lib}",) if lib.is_dir() and not (root / "lib64").exists() else ()


def find() -> Nvcc | Rejected:
    """Return nvcc with its release and architectures, or why there is none.

    Runs nvcc (a few milliseconds). Architectures come from a table if nvcc cannot list them
    (before CUDA 11.5).
    """
    location = locate()
    return location if isinstance(location, Rejected) else _ask(location)


def identify(location: Location) -> Identified | Rejected:
    """Return nvcc as a compiler that a plan takes, or why it cannot be one."""
    found = _ask(location)
    if isinstance(found, Rejected):
        return found
    root = found.location.root
    files = dict.fromkeys([location.path, *([root / "bin/nvcc"] if location.launcher else [])])
    try:
        contents = [sha256(read_regular(file)) for file in files if file.is_file()]
    except OSError as error:
        return Unanswered(f"{error.filename} cannot be read: {error.strerror}.", _AGAIN)
    identity = sha256(f"nvcc {found.release} {contents}".encode())[:32]
    command, archs = (str(location.path),), " ".join(found.archs)
    compiler = Compiler("nvcc", command, found.release, archs, identity, root=str(root))
    return Identified(compiler, (str(root / "bin/nvcc.profile"),), not location.launcher)


def fits_driver(toolkit: tuple[int, int], driver: Driver | Rejected) -> Probe:
    """Return whether libraries built with `toolkit` run under `driver`.

    The runtime is linked statically, and a driver runs every runtime of its own major release and
    of older ones. Without a driver the answer is yes: the result runs on another machine.
    """
    if isinstance(driver, Rejected):
        return Accepted("no driver here: built for another machine")
    have, need = "{}.{}".format(*driver.cuda), "{}.{}".format(*toolkit)
    if toolkit[0] <= driver.cuda[0]:
        return Accepted(f"driver {driver.version} runs CUDA {have}, the toolkit is {need}")
    return Rejected(
        f"nvcc is of CUDA {need}, but driver {driver.version} runs at most CUDA {have}.",
        f"Use a toolkit of CUDA {driver.cuda[0]} (CUDA_HOME), or a newer driver.",
    )


def _from_command(asked: str) -> Location | Rejected:
    found = shutil.which(asked, path=environment.search_path())
    if found is None:
        return Rejected(
            f"NVCC={asked!r} is not a command that runs.", "Correct the path, or unset NVCC."
        )
    return _location(Path(found), "NVCC")


def _location(path: Path, origin: str) -> Location:
    real = path.resolve()
    if script := _PLAIN_SCRIPT.fullmatch(_script(real)):
        real = Path(script[2]).resolve()
    if real.name != "nvcc" and path.name == "nvcc":
        # The link is to a program that acts on the name it is called by, such as ccache.
        return Location(path.absolute(), path.parent.parent, origin, launcher=True)
    return Location(real, real.parent.parent, origin, launcher=_script(real) != "")


def _script(path: Path) -> str:
    """Return the text of a script, ``""`` for a program."""
    try:
        with path.open("rb") as file:
            start = file.read(_SCRIPT_BYTES + 1)
    except OSError:
        return ""
    return start.decode("utf-8", "replace") if start.startswith(b"#!") else ""


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


def _ask(location: Location) -> Nvcc | Rejected:
    path = str(location.path)
    answer = ask((path, "--version"))
    if not isinstance(answer, Answered):
        return _no_answer(f"{path} --version", answer)
    release = re.search(r"\bV(\d+\.\d+\.\d+)", answer.text) or re.search(
        r"release (\d+\.\d+)", answer.text
    )
    if release is None:
        return Rejected(
            f"{path} --version says {answer.text[:80]!r}: not an nvcc.",
            "Point NVCC or CUDA_HOME at NVIDIA's compiler.",
        )
    version = _pair(release[1])
    listed = ask((path, "--list-gpu-arch"))
    if isinstance(listed, Failed):
        return _no_answer(f"{path} --list-gpu-arch", listed)
    # An nvcc that refuses is older than the option.
    archs = _plain_archs(listed.text) if isinstance(listed, Answered) else ()
    if location.launcher:
        where = ask((path, *_WHERE))
        if isinstance(where, Failed):
            return _no_answer(" ".join((path, *_WHERE)), where)
        if here := re.search(r"^#\$ _HERE_=(/.*)$", where.text, re.MULTILINE):
            location = replace(location, root=Path(here[1].strip()).parent)
    return Nvcc(location, version, release[1], archs or supported_by(version))


def _no_answer(question: str, answer: Refused | Failed) -> Rejected:
    if isinstance(answer, Failed):
        return Unanswered(f"{question} {answer.reason}.", _AGAIN)
    return Rejected(f"{question} {answer.reason}.", _FIX)


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
