"""``torch.hpu.random``."""

from __future__ import annotations

import torch
from simulator.library import default_generators as _all

default_generators = _all()


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
    index = torch.accelerator.current_device_index() if device is None else device
    return default_generators[index]
