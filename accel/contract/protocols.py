"""`DeviceStream` and `DeviceEvent`: the members of streams and events on every device."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class DeviceStream(Protocol):
    """A place in the order of a device's work.

    Devices' own streams have more, such as an address, which portable programs do not use.
    """

    def __init__(self, device: Any = None, priority: int = 0) -> None: ...

    def synchronize(self) -> None:
        """Wait on the host for all work on this stream."""

    def query(self) -> bool:
        """Return whether all work on this stream is done."""

    def record_event(self, event: Any = None) -> DeviceEvent:
        """Record `event`, or a new one without timing, and return it."""

    def wait_event(self, event: Any) -> None:
        """Order later work on this stream after an event."""

    def wait_stream(self, stream: Any) -> None:
        """Order later work on this stream after the current work on another one."""


@runtime_checkable
class DeviceEvent(Protocol):
    """A point in the order of a stream's work."""

    def __init__(self, *, enable_timing: bool = False) -> None: ...

    def record(self, stream: Any = None) -> None:
        """Put the event behind the work on a stream; default: the current one."""

    def wait(self, stream: Any = None) -> None:
        """Order later work on a stream after this event; default: the current one."""

    def synchronize(self) -> None:
        """Wait on the host until the event has happened."""

    def query(self) -> bool:
        """Return whether the event has happened."""

    def elapsed_time(self, end_event: Any) -> float:
        """Return the milliseconds from this event to another; both were made with timing."""
