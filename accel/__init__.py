"""Hardware abstraction for PyTorch: one training script and one op name for every device.

Importing this package imports neither torch nor any backend; every name is resolved on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from accel import errors as errors
    from accel import ops as ops
    from accel import optim as optim
    from accel import testing as testing
    from accel.base import Accelerator as Accelerator
    from accel.current import accelerator_for as accelerator_for
    from accel.current import get_accelerator as get_accelerator
    from accel.current import set_accelerator as set_accelerator
    from accel.current import use_accelerator as use_accelerator
    from accel.probe import Accepted as Accepted
    from accel.probe import Rejected as Rejected
    from accel.registry import register_accelerator as register_accelerator
    from accel.registry import register_op as register_op
    from accel.verdicts import Candidate as Candidate
    from accel.verdicts import candidates as candidates

_HOMES = {
    "Accelerator": "accel.base",
    "Accepted": "accel.probe",
    "Candidate": "accel.verdicts",
    "Rejected": "accel.probe",
    "accelerator_for": "accel.current",
    "candidates": "accel.verdicts",
    "get_accelerator": "accel.current",
    "register_accelerator": "accel.registry",
    "register_op": "accel.registry",
    "set_accelerator": "accel.current",
    "use_accelerator": "accel.current",
}
_MODULES = ("errors", "ops", "optim", "testing")

__all__ = sorted([*_HOMES, *_MODULES])  # noqa: PLE0605 - computed from the one table above


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
    elif name in _MODULES:
        value = import_module(f"accel.{name}")
    elif name == "__version__":
        from importlib.metadata import version

        value = version("accel-torch")
    else:
        raise AttributeError(f"module 'accel' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__, "__version__"])
