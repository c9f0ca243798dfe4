"""Portable kernels in Triton, for its devices if no native library can be built.

They take the argument structs of the native libraries, so the code around them is the same.
Importing this package imports neither torch nor Triton.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from accel.probe import Accepted, Probe, Rejected

OLDEST_CAPABILITY = (7, 0)
"""The oldest CUDA devices that Triton compiles for."""


class Portable:
    """An implementation that takes the place of a native library.

    Attributes:
        rung: ``"portable"``.
        digest: ``"triton"``: one implementation in each process.
        path: the folder of the kernels' sources.
    """

    rung: Literal["portable"] = "portable"
    digest = "triton"
    path = Path(__file__).parent

    def bind(self, symbol: str) -> Any:
        """Return the Triton form of a native library's entry point; imports Triton.

        Raises:
            ImportError: there is no portable form of that entry point.
        """
        return getattr(import_module(_home(symbol)), symbol.removeprefix("accel_"))


def probe_portable(backend: str, symbol: str, *, used: bool) -> Probe:
    """Return whether the portable form of an entry point can be used on a backend.

    Args:
        backend: the backend's name.
        symbol: the entry point.
        used: whether Triton compiles for the backend's devices: the strategy's `uses_triton`.
    """
    if symbol and find_spec(_home(symbol)) is not None:
        return probe_triton(backend, used=used)
    return Rejected("no portable kernel.")


def _home(symbol: str) -> str:
    """Return the name of the module that has the portable form of ``accel_<module>_step``."""
    return f"{__name__}.{symbol.removeprefix('accel_').removesuffix('_step')}"


def probe_triton(backend: str, *, used: bool) -> Probe:
    """Return whether Triton can be used on a backend; see `probe_portable`.

    For ``cuda`` it lists the NVIDIA driver's devices. It creates no context, and imports neither
    torch nor Triton.
    """
    if not used:
        return Rejected(f"Triton is not used on {backend}.")
    if find_spec("triton") is None:
        return Rejected(
            "Triton is not installed.",
            "Install triton, or a CUDA or ROCm build of torch, which includes it.",
        )
    refusal = _too_old() if backend == "cuda" else None
    return refusal or Accepted("Triton, compiled on first use")


def _too_old() -> Rejected | None:
    """Return why a visible NVIDIA GPU is too old; no verdict if no NVIDIA driver answers."""
    from accel.nvidia.driver import read_driver, visible_capabilities

    driver = read_driver()
    if isinstance(driver, Rejected):
        return None
    for major, minor in visible_capabilities(driver):
        if (major, minor) < OLDEST_CAPABILITY:
            needed = ".".join(map(str, OLDEST_CAPABILITY))
            return Rejected(f"a device of capability {major}.{minor}; Triton needs {needed}.")
    return None
