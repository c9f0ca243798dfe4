"""What a torch device module has for devices and streams, over torch's generic ones."""

from __future__ import annotations

from typing import Any

import torch
from torch import Event as Event
from torch import Stream as Stream
from torch.accelerator import set_stream as set_stream


def _index(device: Any) -> int:
    if isinstance(device, str):
        device = torch.device(device)
    index = device.index if isinstance(device, torch.device) else device
    return torch.accelerator.current_device_index() if index is None else index


class device(torch.accelerator.device_index):
    """Makes a device current inside a ``with`` block."""

    def __init__(self, device: Any) -> None:
        super().__init__(_index(device))


class StreamContext:
    """Makes a stream, and its device, current inside a ``with`` block."""

    def __init__(self, stream: torch.Stream | None) -> None:
        self.stream = stream

    def __enter__(self) -> torch.Stream | None:
        if self.stream is not None:
            self.device = torch.accelerator.current_device_index()
            torch.accelerator.set_device_index(self.stream.device_index)
            self.before = torch.accelerator.current_stream()
            torch.accelerator.set_stream(self.stream)
        return self.stream

    def __exit__(self, *raised: object) -> None:
        if self.stream is not None:
            torch.accelerator.set_stream(self.before)
            torch.accelerator.set_device_index(self.device)


def current_stream(device: Any = None) -> torch.Stream:
    """The stream that this thread puts work on."""
    return torch.accelerator.current_stream(_index(device))


def default_stream(device: Any = None) -> torch.Stream:
    """The stream that every thread starts with."""
    current = torch.accelerator.current_stream(_index(device))
    return torch.Stream(
        stream_id=0, device_index=current.device_index, device_type=current.device_type
    )


def stream(stream: torch.Stream | None) -> StreamContext:
    """A ``with`` block on a stream; ``None`` changes nothing."""
    return StreamContext(stream)
