"""Streams and events of the host: work is done when its call returns; time is the host's clock."""

from __future__ import annotations

import threading
import time
from typing import Any


class HostStream:
    """A place in the order of work. On the host all work is done when its call returns.

    It is its own context manager: inside ``with stream:`` it is this thread's current stream, and
    the one before is current again afterwards. It nests, and threads do not see one another's.

    Args:
        device: accepted for programs written for other backends; there is one host device.
        priority: kept, without effect.
    """

    def __init__(self, device: Any = None, priority: int = 0) -> None:
        self.priority = priority
        self.device_index = 0

    def __enter__(self) -> HostStream:
        """Make it this thread's current stream."""
        _thread.outer.append(_thread.current)
        _thread.current = self
        return self

    def __exit__(self, *exception: object) -> None:
        """Make the stream before current again."""
        _thread.current = _thread.outer.pop()

    def synchronize(self) -> None:
        """Return at once: there is nothing to wait for."""

    def query(self) -> bool:
        """Return ``True``: all its work is done."""
        return True

    def record_event(self, event: HostEvent | None = None) -> HostEvent:
        """Record `event`, or a new one without timing, and return it."""
        recorded = HostEvent() if event is None else event
        recorded.record(self)
        return recorded

    def wait_event(self, event: HostEvent) -> None:
        """Order later work after `event`, which it is in any case."""
        event.wait(self)

    def wait_stream(self, stream: HostStream) -> None:
        """Order later work after that of `stream`, which it is in any case."""
        stream.synchronize()


class HostEvent:
    """A point in time on the host's monotonic clock.

    Args:
        enable_timing: whether `elapsed_time` may be called.
        blocking: without effect, as is `interprocess`.
    """

    def __init__(
        self, enable_timing: bool = False, blocking: bool = False, interprocess: bool = False
    ) -> None:
        self.enable_timing = enable_timing
        self._recorded_ns: int | None = None

    def record(self, stream: HostStream | None = None) -> None:
        """Take the time now, when all earlier work of this thread is done."""
        self._recorded_ns = time.perf_counter_ns()

    def wait(self, stream: HostStream | None = None) -> None:
        """Order later work of `stream` after this event, which it is in any case."""

    def synchronize(self) -> None:
        """Return at once: a recorded event has happened."""

    def query(self) -> bool:
        """Return ``True``: the work before it is done."""
        return True

    def elapsed_time(self, end_event: HostEvent) -> float:
        """Return the milliseconds from this event to `end_event`.

        Raises:
            RuntimeError: one of them was made without ``enable_timing``, or not recorded.
        """
        for event in (self, end_event):
            if not event.enable_timing:
                raise RuntimeError("elapsed_time: make both events with enable_timing=True.")
        if self._recorded_ns is None or end_event._recorded_ns is None:
            raise RuntimeError("elapsed_time: record() both events first.")
        return (end_event._recorded_ns - self._recorded_ns) / 1e6


DEFAULT_STREAM = HostStream()


class _CurrentStream(threading.local):
    """The thread's current stream, and those before it."""

    def __init__(self) -> None:
        self.current: HostStream = DEFAULT_STREAM
        self.outer: list[HostStream] = []


_thread = _CurrentStream()


def current_stream() -> HostStream:
    """Return this thread's current stream."""
    return _thread.current


def set_stream(stream: HostStream) -> None:
    """Make `stream` this thread's current stream.

    Raises:
        TypeError: it is not a `HostStream`.
    """
    _thread.current = checked(stream)


def checked(stream: Any) -> HostStream:
    """Return `stream`; raises `TypeError` if it is not a `HostStream`."""
    if not isinstance(stream, HostStream):
        raise TypeError(f"cpu: expected a CPU stream, not {type(stream).__name__}.")
    return stream
