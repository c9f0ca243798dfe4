"""Random numbers of the device."""

from __future__ import annotations

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
