"""Conformance suites that authors of backends and ops inherit, and a pytest plugin.

Importing this package must cost nothing: if accel is installed, pytest imports it in every session.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from accel.testing.accelerator import AcceleratorConformance as AcceleratorConformance
    from accel.testing.ops import OpConformance as OpConformance
    from accel.testing.ops import replay as replay
    from accel.testing.runner import Outcome as Outcome
    from accel.testing.runner import Report as Report
    from accel.testing.runner import run as run
    from accel.testing.spec import BadCall as BadCall
    from accel.testing.spec import OpSpec as OpSpec

_HOMES = {
    "AcceleratorConformance": "accel.testing.accelerator",
    "BadCall": "accel.testing.spec",
    "OpConformance": "accel.testing.ops",
    "OpSpec": "accel.testing.spec",
    "Outcome": "accel.testing.runner",
    "Report": "accel.testing.runner",
    "replay": "accel.testing.ops",
    "run": "accel.testing.runner",
}

__all__ = sorted(_HOMES)  # noqa: PLE0605 - computed from the one table above


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'accel.testing' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
