"""``torch.sim``: the functions that torch's own device modules have."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from simulator.library import default_generators as _default_generators
from simulator.library import device_count
from simulator.library import in_bad_fork as _is_in_bad_fork
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
    empty_cache,
    max_memory_allocated,
    max_memory_reserved,
    memory_allocated,
    memory_reserved,
    memory_stats,
    reset_peak_memory_stats,
    synchronize,
)
from torch.accelerator import get_memory_info as mem_get_info
from torch.accelerator import set_device_index as set_device

__all__ = [
    "Event",
    "Stream",
    "_is_in_bad_fork",
    "current_device",
    "current_stream",
    "default_generators",
    "default_stream",
    "device",
    "device_count",
    "empty_cache",
    "max_memory_allocated",
    "max_memory_reserved",
    "mem_get_info",
    "memory_allocated",
    "memory_reserved",
    "memory_stats",
    "reset_peak_memory_stats",
    "set_device",
    "set_stream",
    "stream",
    "synchronize",
]

default_generators = _default_generators()


def is_available() -> bool:
    return device_count() > 0


def is_initialized() -> bool:
    return True


def get_device_properties(device: Any = None) -> SimpleNamespace:
    index = current_device() if device is None else device
    return SimpleNamespace(name="simulated device", total_memory=mem_get_info(index)[1])


def get_amp_supported_dtype() -> list[torch.dtype]:
    return [torch.float16, torch.bfloat16]


def get_rng_state(device: int | None = None) -> torch.Tensor:
    return _generator(device).get_state()


def set_rng_state(new_state: torch.Tensor, device: int | None = None) -> None:
    _generator(device).set_state(new_state)


def manual_seed(seed: int) -> None:
    _generator(None).manual_seed(seed)


def manual_seed_all(seed: int) -> None:
    for generator in default_generators:
        generator.manual_seed(seed)


def initial_seed() -> int:
    return _generator(None).initial_seed()


def _generator(device: int | None) -> torch.Generator:
    return default_generators[current_device() if device is None else device]
