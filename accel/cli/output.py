"""Standard output that may fail: a full disk, or a reader that has left."""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

_Result = TypeVar("_Result")


class OutputFailed(Exception):
    """A failed write to standard output; `reason` is the system's error."""

    def __init__(self, reason: OSError) -> None:
        super().__init__(str(reason))
        self.reason = reason


class _Watched:
    """A stream whose failures can be distinguished from those of other files."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @property
    def buffer(self) -> _Watched:
        return _Watched(self._stream.buffer)

    def write(self, text: Any) -> Any:
        return self._tried(self._stream.write, text)

    def flush(self) -> None:
        self._tried(self._stream.flush)

    @staticmethod
    def _tried(action: Callable[..., _Result], *arguments: Any) -> _Result:
        try:
            return action(*arguments)
        except OSError as error:
            raise OutputFailed(error) from error


@contextmanager
def standard_output() -> Iterator[None]:
    """Watch standard output; if it fails, exit with one line, or like any writer to a closed pipe.

    Raises:
        SystemExit: 141 (128 + SIGPIPE), silently, if the reader has left; 1 after any other error.
    """
    for stream in (sys.stdout, sys.stderr):
        # File names and manifests may hold text that cannot be encoded.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    before = sys.stdout
    # Python has none if the caller closed it.
    whole = before or os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8")
    sys.stdout = _Watched(whole)
    try:
        try:
            yield
        finally:
            # Otherwise, buffered text would fail again when Python ends, and print more.
            if not whole.closed:
                sys.stdout.flush()
    except OutputFailed as failed:
        _discard(whole)
        if failed.reason.errno == errno.EPIPE:
            raise SystemExit(128 + signal.SIGPIPE) from None
        with suppress(OSError):
            sys.stderr.write(
                f"accel: standard output cannot be written: {failed.reason.strerror}. "
                "Redirect it elsewhere, or make room there.\n"
            )
        raise SystemExit(1) from None
    finally:
        sys.stdout = before
        if before is None:
            whole.close()


def _discard(stream: Any) -> None:
    """Redirect the stream's file to the null device, so that buffered text cannot fail again."""
    with suppress(OSError, ValueError):
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, stream.fileno())
        os.close(nothing)
