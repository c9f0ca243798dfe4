"""Memory: how much is in use, how much there is, and page-locked host memory."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from accel.contract.forward import Forwarding

if TYPE_CHECKING:
    import torch


class MemoryMembers(Forwarding):
    """Memory members of the contract; every figure is an int in bytes.

    *Allocated* is what tensors of this process occupy, *reserved* (the older word is *cached*) what
    its allocator holds for them; a peak is the most since the last reset. The device is the current
    one if no index is given. Each may create a context.
    """

    def empty_cache(self) -> None:
        """Give back memory that the allocator holds and no tensor uses. May create a context.

        Does nothing if torch has no such function for the device.
        """
        if hasattr(self._torch_module("empty_cache"), "empty_cache"):
            self._forward("empty_cache")

    def memory_allocated(self, device_index: int | None = None) -> int:
        """Return the bytes that tensors occupy."""
        return int(self._forward_at("memory_allocated", device_index))

    def max_memory_allocated(self, device_index: int | None = None) -> int:
        """Return the peak of `memory_allocated`."""
        return int(self._forward_at("max_memory_allocated", device_index))

    def reset_max_memory_allocated(self, device_index: int | None = None) -> None:
        """Restart the peaks, all of them: `reset_peak_memory_stats` by its older name."""
        self.reset_peak_memory_stats(device_index)

    def memory_reserved(self, device_index: int | None = None) -> int:
        """Return the bytes that the allocator holds."""
        return int(self._forward_at("memory_reserved", device_index))

    def max_memory_reserved(self, device_index: int | None = None) -> int:
        """Return the peak of `memory_reserved`."""
        return int(self._forward_at("max_memory_reserved", device_index))

    def memory_cached(self, device_index: int | None = None) -> int:
        """Return `memory_reserved`, of which this is the older name."""
        return self.memory_reserved(device_index)

    def max_memory_cached(self, device_index: int | None = None) -> int:
        """Return `max_memory_reserved`, of which this is the older name."""
        return self.max_memory_reserved(device_index)

    def reset_max_memory_cached(self, device_index: int | None = None) -> None:
        """Restart the peaks, all of them: `reset_peak_memory_stats` by its older name."""
        self.reset_peak_memory_stats(device_index)

    def memory_stats(self, device_index: int | None = None) -> dict[str, int]:
        """Return the allocator's counters by name, ``"allocated_bytes.all.current"`` among them."""
        return dict(self._forward_at("memory_stats", device_index))

    def reset_peak_memory_stats(self, device_index: int | None = None) -> None:
        """Restart the peaks from what is in use now."""
        self._forward_at("reset_peak_memory_stats", device_index)

    def total_memory(self, device_index: int | None = None) -> int:
        """Return the bytes of memory that a device has."""
        index = self._index(device_index, "total_memory")
        if index is None:
            index = int(self._forward("current_device", member="total_memory"))
        properties = self._forward("get_device_properties", index, member="total_memory")
        return int(properties.total_memory)

    def available_memory(self, device_index: int | None = None) -> int:
        """Return the bytes free on a device, as its driver counts: a cache counts as used.

        If the driver cannot be asked: `total_memory` less `memory_reserved`.
        """
        self._index(device_index, "available_memory")
        if hasattr(self._torch_module("available_memory"), "mem_get_info"):
            with suppress(RuntimeError):
                free, _ = self._forward_at("mem_get_info", device_index, member="available_memory")
                return int(free)
        return self.total_memory(device_index) - self.memory_reserved(device_index)

    def pin_memory(
        self, tensor: torch.Tensor, make_copy: bool = True, match_shape: bool = True
    ) -> torch.Tensor:
        """Return page-locked host memory like `tensor`. May create a context.

        A backend that lacks ``"pinning"`` returns ordinary memory of that content instead.

        Args:
            tensor: a tensor on the host.
            make_copy: whether the values are copied; otherwise they are uninitialised.
            match_shape: whether the result has the tensor's shape; otherwise it is flat.
        """
        import torch

        pinned = self._pin_memory(tensor if make_copy else torch.empty_like(tensor))
        return pinned if match_shape else pinned.reshape(-1)

    def is_pinned(self, tensor: torch.Tensor) -> bool:
        """Return whether a tensor's memory is page-locked."""
        return bool(self._torch_is_pinned(tensor))

    def unpin_memory(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return `tensor` in pageable memory: itself if it is not pinned, else a copy."""
        return tensor.clone() if self.is_pinned(tensor) else tensor

    def _pin_memory(self, tensor: torch.Tensor) -> torch.Tensor:
        if not self.has("pinning"):
            return tensor
        self._require("pin_memory")
        try:
            return tensor.pin_memory()
        except RuntimeError:
            # Raises the better error if torch does not know the device.
            self._torch_module("pin_memory")
            raise

    def _torch_is_pinned(self, tensor: torch.Tensor) -> bool:
        return tensor.is_pinned()
