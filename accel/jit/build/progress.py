"""Progress of a build: one changing line on a terminal, two plain lines elsewhere."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import time
from collections.abc import Callable
from types import TracebackType

_log = logging.getLogger("accel.jit")


class Progress:
    """Progress display, a context manager around a build.

    Args:
        who: name of the build in messages.
        steps: the number of steps.
        compiler: name and version of the compiler.
        verbose: print the plain lines on stderr too, if it is not a terminal.
        beat: called at every update, about ten times a second.
    """

    def __init__(
        self,
        who: str,
        steps: int,
        compiler: str,
        verbose: bool,
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        self._who = who
        self._steps = steps
        self._compiler = compiler
        self._verbose = verbose
        self._beat = beat
        self._columns = _terminal_columns()
        self._width = 0
        self._began = 0.0

    def __enter__(self) -> Progress:
        """Show that the build begins."""
        self._began = time.monotonic()
        if not self._columns:
            self._say(f"building {self._who} with {self._compiler}: {self._steps} steps")
        return self

    def update(self, done: int, current: str) -> None:
        """Show the number of finished steps and the file that is being compiled."""
        self._beat()
        if self._columns:
            elapsed = time.monotonic() - self._began
            self._draw(f"{self._who} {done}/{self._steps} {elapsed:.1f} s {current}")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Show that the build has ended, and how."""
        elapsed = time.monotonic() - self._began
        text = f"{'built' if kind is None else 'failed to build'} {self._who} in {elapsed:.1f} s"
        if self._columns:
            self._draw("")
            _log.info("%s", text)
        else:
            self._say(text)

    def _say(self, text: str) -> None:
        _log.info("%s", text)
        if self._verbose:
            _write(f"accel: {text}\n")

    def _draw(self, text: str) -> None:
        shown = "".join(letter if letter.isprintable() else "?" for letter in text)
        shown = shown[: self._columns - 1]
        _write("\r" + shown.ljust(self._width) + ("" if shown else "\r"))
        self._width = len(shown)


def _terminal_columns() -> int:
    """Return the width of the terminal behind stderr, 0 if there is none."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except (OSError, ValueError, AttributeError):
        return 0


def _write(text: str) -> None:
    # A closed or hung-up stderr must not fail a build.
    with contextlib.suppress(OSError, ValueError, AttributeError):
        # Text buffered for a closed descriptor would fail again when the process ends.
        with contextlib.suppress(io.UnsupportedOperation):
            os.fstat(sys.stderr.fileno())
        sys.stderr.write(text)
        sys.stderr.flush()
