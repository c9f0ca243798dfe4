"""``torch.hpu``: the documented functions of Gaudi's device module."""

from __future__ import annotations

from typing import Any

import torch
from simulator.library import device_count
from simulator.streams import (
    Event,
    Stream,
    current_stream,
    default_stream,
    device,
    set_stream,
    stream,
)
from torch.accelerator import current_device_index as current_device
from torch.accelerator import (
    max_memory_allocated,
    memory_allocated,
    reset_accumulated_memory_stats,
    reset_peak_memory_stats,
)
from torch.accelerator import set_device_index as set_device

from habana_frameworks.torch.hpu import random
from habana_frameworks.torch.hpu.graphs import HPUGraph, graph

__all__ = [
    "Event",
    "HPUGraph",
    "Stream",
    "current_device",
    "current_stream",
    "default_stream",
    "device",
    "device_count",
    "graph",
    "max_memory_allocated",
    "memory_allocated",
    "random",
    "reset_accumulated_memory_stats",
    "reset_peak_memory_stats",
    "set_device",
    "set_stream",
    "stream",
]


def is_available() -> bool:
    return device_count() > 0


def synchronize() -> None:
    """Wait for the current device; Gaudi's takes no argument."""
    torch.accelerator.synchronize()


def get_device_name(device: Any = None) -> str:
    return "GAUDI2"


def memory_stats(device: int | None = None) -> dict[str, int]:
    """The counters by Gaudi's names."""
    index = current_device() if device is None else device
    return {
        "Limit": torch.accelerator.get_memory_info(index)[1],
        "InUse": memory_allocated(index),
        "MaxInUse": max_memory_allocated(index),
    }


def get_amp_supported_dtype() -> list[torch.dtype]:
    return [torch.bfloat16]


def _lazy_init() -> None:
    """What torch calls before it first uses a device; each stream starts itself."""
