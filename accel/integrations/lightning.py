"""Lightning: ``Trainer(accelerator="accel")`` trains on the device that ``ACCELERATOR`` names.

Importing this module registers the accelerator and the strategy ``accel`` with Lightning.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from accel.base import Accelerator
from accel.current import get_accelerator
from accel.integrations.needs import require

require("lightning")

import torch  # noqa: E402 - after the check for missing packages
from lightning.pytorch import Trainer  # noqa: E402
from lightning.pytorch.accelerators import Accelerator as LightningAccelerator  # noqa: E402
from lightning.pytorch.accelerators import AcceleratorRegistry  # noqa: E402
from lightning.pytorch.plugins.precision import MixedPrecision  # noqa: E402
from lightning.pytorch.strategies import (  # noqa: E402
    SingleDeviceStrategy,
    Strategy,
    StrategyRegistry,
)

NAME = "accel"


class AccelAccelerator(LightningAccelerator):
    """Lightning's view of the accelerator in use, whichever that is."""

    def setup_device(self, device: torch.device) -> None:
        """Make a device the current one of this process.

        Raises:
            BackendUnavailable, UnknownBackend: ``ACCELERATOR`` names an unusable backend.
        """
        acc = get_accelerator()
        if device.type == acc.device_type and device.index is not None:
            acc.set_device(device.index)

    def setup(self, trainer: Trainer) -> None:
        """Give the strategy and the precision plugin the device, before the model is moved.

        Lightning makes both for the CPU or CUDA if it does not know an accelerator's name.
        """
        acc = get_accelerator()
        _place(trainer.strategy, trainer._accelerator_connector._parallel_devices, acc)
        _adapt(trainer.precision_plugin, acc)

    def teardown(self) -> None:
        """Free memory that the allocator holds and no tensor uses."""
        get_accelerator().empty_cache()

    def get_device_stats(self, device: torch.device | str | int) -> dict[str, Any]:
        """Return `memory_stats` of a device, by name; nothing if the device counts no memory."""
        acc = get_accelerator()
        index = device if isinstance(device, int) else torch.device(device).index
        return dict(acc.memory_stats(index)) if acc.has("memory") else {}

    @staticmethod
    def parse_devices(devices: int | str | list[int]) -> list[int]:
        """Return the indices of devices: of a number, ``-1`` (all), ``"0,2"``, or a list.

        Raises:
            ValueError: there are not so many.
        """
        acc = get_accelerator()
        count = acc.device_count()
        if isinstance(devices, str):
            words = [word for word in devices.split(",") if word.strip()]
            devices = [int(word) for word in words] if "," in devices else int(devices)
        if isinstance(devices, int):
            devices = list(range(count if devices == -1 else devices))
        one_for_all = acc.device_name(count) == acc.device_name()
        beyond = [index for index in devices if not 0 <= index < count]
        if beyond and not one_for_all:
            raise ValueError(
                f"Trainer(accelerator='accel', devices={devices}): {acc.name} has {count} "
                f"device(s), so there is no {beyond[0]}. Ask for fewer, or set ACCELERATOR."
            )
        return devices

    @staticmethod
    def get_parallel_devices(devices: list[int]) -> list[torch.device]:
        """Return the `torch.device` of each index, one for each process."""
        return [get_accelerator().device(index) for index in devices]

    @staticmethod
    def auto_device_count() -> int:
        """Return how many devices this process sees."""
        return get_accelerator().device_count()

    @staticmethod
    def is_available() -> bool:
        """Return ``True``; if no device can be used, the look-up of devices raises the reason."""
        return True

    @staticmethod
    def name() -> str:
        """Return ``"accel"``."""
        return NAME


class AccelStrategy(SingleDeviceStrategy):
    """One process on one device of the accelerator in use; default: its current device."""

    strategy_name = NAME

    def __init__(self, device: torch.device | str | None = None, **options: Any) -> None:
        super().__init__(get_accelerator().device() if device is None else device, **options)


def _place(strategy: Strategy, devices: Sequence[Any] | None, acc: Accelerator) -> None:
    """Put a strategy for one device onto a device of `acc`; others know theirs already."""
    if not isinstance(strategy, SingleDeviceStrategy):
        return
    if strategy.root_device.type != acc.device_type:
        strategy._root_device = devices[0] if devices else acc.device()
    if strategy.root_device.index is not None:
        acc.set_device(strategy.root_device.index)


def _adapt(precision: Any, acc: Accelerator) -> None:
    """Let mixed precision cast, and scale its loss, on the device of `acc`."""
    if not isinstance(precision, MixedPrecision) or precision.device == acc.device_type:
        return
    precision.device = acc.device_type
    if precision.scaler is not None:
        loaded = precision.scaler.state_dict()
        precision.scaler = acc.GradScaler()
        if loaded:
            precision.scaler.load_state_dict(loaded)


def register() -> None:
    """Make ``accel`` known to Lightning as an accelerator and as a strategy; once is enough."""
    if NAME not in AcceleratorRegistry:
        AcceleratorRegistry.register(
            NAME, AccelAccelerator, description="The device that ACCELERATOR names, else detected."
        )
    if NAME not in StrategyRegistry:
        StrategyRegistry.register(
            NAME, AccelStrategy, description="One device of the accelerator in use."
        )


register()
