"""The simulated devices' library: how it is built, found and bound to a torch device type."""

from __future__ import annotations

import atexit
import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.utils import cpp_extension

from accel.jit import Recipe, acquire, availability

_CSRC = Path(__file__).parent / "csrc"
_kept: dict[str, ctypes.CDLL] = {}


def recipe() -> Recipe:
    """What is compiled: quickly, since what it does is not to be fast."""
    torch_folder = Path(torch.__file__).parent
    return Recipe(
        name="simulator",
        backend="sim",
        sources=tuple(_CSRC / f"{stem}.cpp" for stem in ("ops", "runtime", "memory", "driver")),
        include_dirs=(_CSRC,),
        system_include_dirs=tuple(Path(folder) for folder in cpp_extension.include_paths("cpu")),
        compile_flags=("-std=c++20", "-O0", "-Wno-unknown-pragmas"),
        link_flags=(f"-L{torch_folder / 'lib'}", "-ltorch_cpu", "-lc10"),
        extension=True,
        identity=(("torch", torch.__version__),),
    )


def build() -> Path:
    """Build the library, or find it built, and return its path."""
    return acquire(recipe()).path


def bind(device_type: str, visible: str | None) -> None:
    """Make the simulated devices torch's devices of `device_type`: ``"sim"`` or ``"hpu"``.

    Args:
        device_type: the name; a process has one.
        visible: the variable that says which devices it sees, as written; ``None``: both.

    Raises:
        ImportError: the library is not built (nothing is compiled here), or bound already.
    """
    if _kept:
        raise ImportError("The simulated devices have another name in this process already.")
    if device_type == "sim":
        torch.utils.rename_privateuse1_backend("sim")
    library = _load()
    library.sim_set_delay.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_double]
    library.sim_bind(int(device_type == "hpu"), 2 if visible is None else _count(visible))
    _kept["library"] = library
    atexit.register(library.sim_drain)


@contextmanager
def late(seconds: float, stream: torch.Stream | None = None) -> Iterator[None]:
    """Let kernels and copies begin that much later inside the block, on `stream` or on all."""
    set_delay = _kept["library"].sim_set_delay
    where = (0, -1) if stream is None else (stream.device_index, stream.stream_id)
    set_delay(*where, seconds)
    try:
        yield
    finally:
        set_delay(*where, 0.0)


def in_bad_fork() -> bool:
    """Whether this process was forked from one that had used a device."""
    return bool(_kept["library"].sim_bad_fork())


def device_count() -> int:
    """How many devices this process sees."""
    return int(_kept["library"].sim_device_count())


def default_generators() -> tuple[torch.Generator, ...]:
    """The random number generators of the devices."""
    return tuple(torch.ops.sim.default_generator(index) for index in range(device_count()))


def _count(visible: str) -> int:
    return len([name for name in visible.split(",") if name.strip() in {"0", "1"}])


def _load() -> ctypes.CDLL:
    given = os.environ.get("SIMULATOR_LIBRARY")
    if given:
        return ctypes.CDLL(given)
    jit = dict(availability(recipe()))["jit"]
    if not jit or jit.note != "cached":
        raise ImportError("The simulated device is not built. Run: python -m simulator")
    return acquire(recipe()).handle
