"""The files of a run: one run to a folder, every file replaced in one step."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

CHECKPOINT = "checkpoint.pt"
CURVE = "loss.png"


class RunError(Exception):
    """The run cannot go on for a reason that its user can change; the message says how."""


@contextmanager
def run_folder(folder: Path) -> Iterator[None]:
    """Make the folder of a run, keep other runs out, and remove what killed runs left in it.

    Raises:
        RunError: another run uses the folder, or it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(
            f"The folder {folder} cannot be made: {error.strerror}. Choose another: --out."
        ) from error
    lock = _lock(folder)
    try:
        for name in (CHECKPOINT, CURVE):
            for leftover in folder.glob(f".{name}.*"):
                with suppress(OSError):
                    leftover.unlink()
        yield
    finally:
        if lock is not None:
            os.close(lock)


def _lock(folder: Path) -> int | None:
    """Return a descriptor that holds the folder; the system frees it however the process ends."""
    if fcntl is None:
        return None
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return None  # Writing into it tells the reason.
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise RunError(
            f"Another run uses the folder {folder}. Wait for its end, or choose another: --out."
        ) from error
    except OSError:
        os.close(descriptor)
        return None  # Not every file system has locks.
    return descriptor


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a file to write that takes the place of `path`, in one step, when the block ends.

    Whoever reads `path`, whenever this process ends, finds the old content or the new.

    Raises:
        RunError: it cannot be written; the old content is kept.
    """
    staged = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with staged.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        staged.replace(path)
    except OSError as error:
        raise RunError(
            f"{path} cannot be written: {error.strerror or error}. What was there is as it was. "
            "Make room or set the permissions, or choose another folder: --out."
        ) from error
    finally:
        with suppress(OSError):
            staged.unlink()
