"""Random numbers of the device."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from accel.contract.device import DeviceMembers

if TYPE_CHECKING:
    import torch


class RandomMembers(DeviceMembers):
    """Random-number members of the contract. They act on this device's generators only."""

    def random(self) -> Any:
        """Return the module with torch's random-number functions for this device. No context.

        Default: ``torch.<device_type>.random``, the device's module itself if it has the
        functions, else ``torch.random``.
        """
        import torch

        module = self._torch_module("random")
        own = getattr(module, "random", module)
        return own if hasattr(own, "manual_seed") else torch.random

    def get_rng_state(self, device_index: int | None = None) -> torch.Tensor:
        """Return a copy of a generator's state, a byte tensor on the host. May create a context."""
        state: torch.Tensor = self._forward_at("get_rng_state", device_index)
        return state

    def set_rng_state(self, new_state: torch.Tensor, device_index: int | None = None) -> None:
        """Set a generator to a state from `get_rng_state`. May create a context."""
        self._forward_at("set_rng_state", device_index, new_state)

    def get_rng_state_all(self) -> list[torch.Tensor]:
        """Return `get_rng_state` of every device, by index. May create contexts."""
        self._require("get_rng_state_all", "rng")
        return [self.get_rng_state(index) for index in range(self.device_count())]

    def set_rng_state_all(self, new_states: Iterable[torch.Tensor]) -> None:
        """Set the generators of devices 0, 1, ... to states from `get_rng_state_all`.

        Devices beyond the last state keep theirs. May create contexts.

        Raises:
            ValueError: there are more states than devices, or none although there is a device; no
                generator is changed then.
        """
        self._require("set_rng_state_all", "rng")
        states = [*new_states]
        count = self.device_count()
        if len(states) > count:
            raise ValueError(
                f"{self.name}: set_rng_state_all() got {len(states)} states, but this process sees "
                f"{count} device(s). Pass a slice of them, one for each device."
            )
        if count and not states:
            raise ValueError(
                f"{self.name}: set_rng_state_all() got no state, and this process sees {count} "
                f"device(s). Pass the result of get_rng_state_all(), one state for each device."
            )
        for index, state in enumerate(states):
            self.set_rng_state(state, index)

    def manual_seed(self, seed: int) -> None:
        """Seed the current device's generator. No context: kept until there is one."""
        self._forward("manual_seed", int(seed))

    def manual_seed_all(self, seed: int) -> None:
        """Seed the generators of all devices of this kind. No context: kept until there is one."""
        self._forward("manual_seed_all", int(seed))

    def initial_seed(self) -> int:
        """Return the seed of the current device's generator. May create a context."""
        return int(self._forward("initial_seed"))

    def default_generator(self, device_index: int | None = None) -> torch.Generator:
        """Return a device's default generator; default the current one's. May create a context.

        Raises:
            ValueError: no such device.
        """
        index = self._index(device_index, "default_generator")
        if index is None:
            index = self.current_device()
        generators = self._attribute("default_generator", "default_generators")
        if not generators and hasattr(self._torch_module("default_generator"), "init"):
            # torch fills the tuple when it initialises the device, which replaces the attribute.
            self._forward("init", member="default_generator")
            generators = self._attribute("default_generator", "default_generators")
        if index >= len(generators):
            raise ValueError(
                f"{self.name}: default_generator({index}): there are {len(generators)} devices."
            )
        generator: torch.Generator = generators[index]
        return generator
