"""The accelerator in use: selected once per process, overridden per context."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from accel import environment, registry
from accel.base import Accelerator

_selected: Accelerator | None = None
# Counts the open scopes of all threads: while it is zero, no context variable has to be read,
# which keeps get_accelerator() traceable by torch.compile and cheap.
_open_scopes = 0
_scoped: ContextVar[Accelerator | None] = ContextVar("accel_scoped", default=None)
_lock = threading.RLock()
_looked = False


def _renew_lock() -> None:
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    # A thread that holds the lock does not exist in a forked child, which would wait forever.
    os.register_at_fork(after_in_child=_renew_lock)


def get_accelerator() -> Accelerator:
    """Return the accelerator in use; select it on the first call.

    An open `use_accelerator` scope of this context decides first, then `set_accelerator`, then the
    variable ``ACCELERATOR``, then detection: the accepted candidate of the highest priority.

    Raises:
        UnknownBackend: ``ACCELERATOR`` names no known backend.
        BackendUnavailable: ``ACCELERATOR`` names one that cannot be used here.
    """
    if _open_scopes:
        scoped = _scoped.get()
        if scoped is not None:
            return scoped
    if _selected is not None:
        return _selected
    return _select()


def _select() -> Accelerator:
    global _selected
    _look_for_another_op_builder()
    with _lock:
        if _selected is None:
            asked = environment.accelerator()
            if asked.lower() in {"", "auto"}:
                _selected = registry.detect()
            else:
                _selected = registry.require(asked, f"ACCELERATOR={asked}")
        return _selected


def set_accelerator(accelerator: str | Accelerator | None) -> None:
    """Use `accelerator` in this process from now on.

    Args:
        accelerator: a backend's name, ``"auto"`` to detect now, an `Accelerator` object (taken as
            it is, without a probe), or ``None``: forget the choice, so that the next
            `get_accelerator` selects anew.

    Raises:
        UnknownBackend: no backend has that name.
        BackendUnavailable: the named backend cannot be used here.
        TypeError: anything else was given.
    """
    global _selected
    chosen = None if accelerator is None else _resolve(accelerator, "set_accelerator")
    if chosen is not None:
        _look_for_another_op_builder()
    with _lock:
        _selected = chosen


@contextmanager
def use_accelerator(accelerator: str | Accelerator) -> Iterator[Accelerator]:
    """Use `accelerator` inside a ``with`` block, in this context (thread or async task) only.

    Yields the accelerator. Takes and raises what `set_accelerator` does, ``None`` excepted.
    """
    global _open_scopes
    chosen = _resolve(accelerator, "use_accelerator")
    with _lock:
        _open_scopes += 1
    token = _scoped.set(chosen)
    try:
        yield chosen
    finally:
        _scoped.reset(token)
        with _lock:
            _open_scopes -= 1


def accelerator_for(device_or_tensor: Any) -> Accelerator:
    """Return the strategy of a device or a tensor, whichever accelerator is in use.

    Args:
        device_or_tensor: a `torch.Tensor`, a `torch.device`, or a device string such as
            ``"cuda:1"``.

    Raises:
        UnknownBackend: no known backend drives devices of that type.
        TypeError: the argument is none of the three.
    """
    device = getattr(device_or_tensor, "device", device_or_tensor)
    kind = device.partition(":")[0] if isinstance(device, str) else getattr(device, "type", None)
    if not isinstance(kind, str):
        raise TypeError(
            f"accelerator_for: expected a tensor, a torch.device or a device string, "
            f"not {type(device_or_tensor).__name__}."
        )
    current = (_scoped.get() if _open_scopes else None) or _selected
    if current is not None and current.device_type == kind:
        return current
    return registry.for_device_type(kind)


def _look_for_another_op_builder() -> None:
    """Warn once if DeepSpeed mode is on and DeepSpeed will import another ``op_builder``.

    DeepSpeed's source folder has one, which hides ours.
    """
    global _looked
    if _looked or not environment.deepspeed_mode():
        return
    _looked = True
    ours = Path(__file__).resolve().parent.parent / "op_builder"
    try:
        spec = find_spec("op_builder")
    except (ImportError, ValueError):
        spec = None
    places = spec.submodule_search_locations if spec is not None else None
    found = Path(next(iter(places))).resolve() if places else None
    if found == ours:
        return
    seen = f"finds {found}, which is not accel's" if found else "finds none"
    warnings.warn(
        f"ACCEL_DEEPSPEED=1 has no effect here: DeepSpeed looks for the package op_builder and "
        f"{seen} ({ours}). Start in a folder that has no op_builder/, and keep such a folder out "
        f"of PYTHONPATH.",
        RuntimeWarning,
        stacklevel=4,
    )


def _resolve(accelerator: str | Accelerator, caller: str) -> Accelerator:
    if isinstance(accelerator, Accelerator):
        return accelerator
    if isinstance(accelerator, str) and accelerator.lower() == "auto":
        return registry.detect()
    if isinstance(accelerator, str):
        return registry.require(accelerator, f"{caller}({accelerator!r})")
    if isinstance(accelerator, type) and issubclass(accelerator, Accelerator):
        raise TypeError(
            f"{caller}: got the class {accelerator.__name__}; pass an object: "
            f"{accelerator.__name__}()."
        )
    raise TypeError(
        f"{caller}: expected a backend's name or an accel.Accelerator object, "
        f"not {type(accelerator).__name__}."
    )
