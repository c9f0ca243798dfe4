"""The library that checks a step's tensors for ops whose own library does not run on the host.

Importing this module does not import torch, since libraries can be built without it.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING

from accel import jit
from accel.errors import OpUnavailable

if TYPE_CHECKING:
    from ctypes import CDLL

NAME = "watch"
BACKEND = "cpu"
_AGAIN_S = 60.0
_found: list[CDLL] = []
_refused: list[float] = []


def recipe() -> jit.Recipe:
    """Return the library's recipe, for the host's compiler."""
    return jit.Recipe(
        name=NAME,
        backend=BACKEND,
        sources=(jit.csrc_dir() / "cpu" / "optimizers" / "watch.cpp",),
        include_dirs=(jit.csrc_dir() / "include", jit.csrc_dir() / BACKEND),
        compile_flags=("-O2", "-fno-exceptions", "-fno-rtti"),
        cxx_runtime=False,
    )


def needed_by(built: Iterable[tuple[list[str], jit.Recipe]]) -> list[tuple[list[str], jit.Recipe]]:
    """Return this library's recipe with the ops of `built` that need it; empty if none do."""
    names = [name for ops, own in built if own.backend != BACKEND for name in ops]
    return [(names, recipe())] if names else []


def host_watcher() -> CDLL | None:
    """Return the library, loaded once per process; ``None`` if it cannot be used.

    A failed load is tried again after a minute. An unexpected failure gives a warning; `hindrance`
    and the saved note report every failure.
    """
    from accel.ops.python_api import python_api

    if not _found and not isinstance(python_api(), str) and _may_try():
        try:
            _found.append(_load())
        except Exception as error:
            _refused[:] = [time.monotonic()]
            _tell(error)
    return _found[0] if _found else None


def _may_try() -> bool:
    return not _refused or time.monotonic() - _refused[0] >= _AGAIN_S


def _load() -> CDLL:
    from accel.ops.native import check_interface

    library = jit.acquire(recipe())
    check_interface(library, "accel_watch_take", "accel_watch_release")
    return library.handle


def _tell(error: Exception) -> None:
    from accel.jit.cache import trouble

    said = trouble.describe(error)
    trouble.keep_note(BACKEND, NAME, said)
    # A missing compiler is not an error: steps are correct, but slower.
    if not isinstance(error, OpUnavailable) or error.__cause__ is not None:
        warnings.warn(
            f"Python checks the tensors of each optimizer step, which is slower than the native "
            f"check: {said}",
            RuntimeWarning,
            stacklevel=2,
        )


def hindrance() -> str:
    """Return why Python checks the tensors of a device's step, ``""`` if a library can.

    Compiles and loads nothing.
    """
    from accel.ops.python_api import python_api

    api = python_api()
    if isinstance(api, str):
        return api
    verdicts = [probe for _, probe in jit.availability(recipe())]
    return "" if any(verdicts) else str(verdicts[-1])


def notes() -> tuple[str, ...]:
    """Return notes on how a device's tensors are checked and on failures, for `accel explain`."""
    from accel.jit.cache.trouble import last_note

    why, failed = hindrance(), last_note(BACKEND, NAME)
    if why:
        who = f"Python checks every tensor: {why.rstrip('.')}."
    else:
        who = "a library of the host checks every tensor that has a kernel."
    told = () if failed is None else (f"Last failed load of that library: {failed}",)
    return (f"Before each optimizer step, {who}", *told)
