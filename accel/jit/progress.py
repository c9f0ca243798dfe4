"""What is seen of a build: one changing line on a terminal, two plain lines elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from types import TracebackType

_log = logging.getLogger("accel.jit")


class Progress:
    """Shows that a build is going on. Use as a context manager around the build.

    Args:
        who: what is built, for people.
        steps: how many steps there are.
        compiler: name and version of the compiler.
        verbose: show the plain lines on stderr too, where it is no terminal.
    """

    def __init__(self, who: str, steps: int, compiler: str, verbose: bool) -> None:
        self._who = who
        self._steps = steps
        self._compiler = compiler
        self._verbose = verbose
        self._terminal = sys.stderr is not None and sys.stderr.isatty()
        self._width = 0
        self._began = 0.0

    def __enter__(self) -> Progress:
        """Say that the build begins."""
        self._began = time.monotonic()
        if not self._terminal:
            self._say(f"building {self._who} with {self._compiler}: {self._steps} steps")
        return self

    def update(self, done: int, current: str) -> None:
        """Show how many steps are done and the file that is being compiled."""
        if self._terminal:
            elapsed = time.monotonic() - self._began
            self._draw(f"{self._who} {done}/{self._steps} {elapsed:.1f} s {current}")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Say that the build has ended, and how."""
        elapsed = time.monotonic() - self._began
        text = f"{'built' if kind is None else 'failed to build'} {self._who} in {elapsed:.1f} s"
        if self._terminal:
            self._draw("")
            _log.info("%s", text)
        else:
            self._say(text)

    def _say(self, text: str) -> None:
        _log.info("%s", text)
        if self._verbose:
            sys.stderr.write(f"accel: {text}\n")

    def _draw(self, text: str) -> None:
        sys.stderr.write("\r" + text.ljust(self._width))
        if not text:
            sys.stderr.write("\r")
        sys.stderr.flush()
        self._width = len(text)
