"""Memory: how much is in use, how much there is, and page-locked host memory."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from accel.contract.forward import Forwarding

if TYPE_CHECKING:
    import torch


class MemoryMembers(Forwarding):
    """Memory members of the contract; every figure is an int in bytes.

    *Allocated* bytes are occupied by tensors of this process; *reserved* bytes (formerly *cached*)
    are held for them by its allocator. A peak is the largest value since the last reset. Without an
    index, the device is the current one. Each member may create a context.
    """

    def empty_cache(self) -> None:
        """Free memory that the allocator holds and no tensor uses. May create a context.

        Does nothing if torch has no such function for the device.
        """
        if hasattr(self._torch_module("empty_cache"), "empty_cache"):
            self._forward("empty_cache")

    def empty_host_cache(self) -> None:
        """Free page-locked memory that torch holds and no tensor uses. No device context.

        Default: torch's own function for the device, nothing if there is none.
        """
        # torch.accelerator's function crashes if a vendor's host allocator is a plain one.
        if hasattr(self._torch_module("empty_host_cache"), "empty_host_cache"):
            self._forward("empty_host_cache")

    def memory_allocated(self, device_index: int | None = None) -> int:
        """Return the bytes that tensors occupy."""
        return int(self._forward_at("memory_allocated", device_index))

    def max_memory_allocated(self, device_index: int | None = None) -> int:
        """Return the peak of `memory_allocated`."""
        return int(self._forward_at("max_memory_allocated", device_index))

    def reset_max_memory_allocated(self, device_index: int | None = None) -> None:
        """Restart every peak; an older name of `reset_peak_memory_stats`."""
        self.reset_peak_memory_stats(device_index)

    def memory_reserved(self, device_index: int | None = None) -> int:
        """Return the bytes that the allocator holds."""
        return int(self._forward_at("memory_reserved", device_index))

    def max_memory_reserved(self, device_index: int | None = None) -> int:
        """Return the peak of `memory_reserved`."""
        return int(self._forward_at("max_memory_reserved", device_index))

    def memory_cached(self, device_index: int | None = None) -> int:
        """Return `memory_reserved`; this is its older name."""
        return self.memory_reserved(device_index)

    def max_memory_cached(self, device_index: int | None = None) -> int:
        """Return `max_memory_reserved`; this is its older name."""
        return self.max_memory_reserved(device_index)

    def reset_max_memory_cached(self, device_index: int | None = None) -> None:
        """Restart every peak; an older name of `reset_peak_memory_stats`."""
        self.reset_peak_memory_stats(device_index)

    def memory_stats(self, device_index: int | None = None) -> dict[str, int]:
        """Return the allocator's counters by name, ``"allocated_bytes.all.current"`` among them."""
        return dict(self._forward_at("memory_stats", device_index))

    def reset_peak_memory_stats(self, device_index: int | None = None) -> None:
        """Restart the peaks from the current use."""
        self._forward_at("reset_peak_memory_stats", device_index)

    def reset_accumulated_memory_stats(self, device_index: int | None = None) -> None:
        """Restart, from 0, the counters of `memory_stats` that only grow."""
        name = "reset_accumulated_memory_stats"
        index = self._index(device_index, name)
        shared = self._torch_accelerator(name)
        if shared is None or hasattr(self._torch_module(name), name):
            self._forward_at(name, index)
        else:
            shared(index)

    def total_memory(self, device_index: int | None = None) -> int:
        """Return the bytes of memory that a device has."""
        index = self._index(device_index, "total_memory")
        if index is None:
            index = int(self._forward("current_device", member="total_memory"))
        properties = self._forward("get_device_properties", index, member="total_memory")
        return int(properties.total_memory)

    def available_memory(self, device_index: int | None = None) -> int:
        """Return the bytes free on a device, as its driver counts: a cache counts as used.

        If the driver does not report it: `total_memory` less `memory_reserved`.
        """
        self._index(device_index, "available_memory")
        if hasattr(self._torch_module("available_memory"), "mem_get_info"):
            with suppress(RuntimeError):
                free, _ = self._forward_at("mem_get_info", device_index, member="available_memory")
                return int(free)
        return self.total_memory(device_index) - self.memory_reserved(device_index)

    def mem_get_info(self, device_index: int | None = None) -> tuple[int, int]:
        """Return `available_memory` and `total_memory`."""
        return self.available_memory(device_index), self.total_memory(device_index)

    def get_memory_info(self, device_index: int | None = None) -> tuple[int, int]:
        """Return `mem_get_info`; the name is `torch.accelerator`'s."""
        return self.mem_get_info(device_index)

    def pin_memory(
        self, tensor: torch.Tensor, make_copy: bool = True, match_shape: bool = True
    ) -> torch.Tensor:
        """Return page-locked host memory like `tensor`. May create a context.

        A backend that lacks ``"pinning"`` returns ordinary memory with the same contents.

        Args:
            tensor: a tensor on the host.
            make_copy: whether the values are copied; otherwise they are uninitialised.
            match_shape: whether the result has the tensor's shape; otherwise it is flat.
        """
        import torch

        pinned = self._pin_memory(tensor if make_copy else torch.empty_like(tensor))
        return pinned if match_shape else pinned.reshape(-1)

    def pin_empty(
        self, *size: Any, dtype: torch.dtype, device: torch.device | str = "cpu"
    ) -> torch.Tensor:
        """Return uninitialised page-locked host memory. May create a context.

        A backend that lacks ``"pinning"`` returns ordinary memory instead.

        Args:
            size: the shape, as whole numbers or as one sequence of them.
            dtype: dtype of its elements.
            device: must be the host.

        Raises:
            ValueError: `device` is not the host.
        """
        import torch

        if torch.device(device).type != "cpu":
            raise ValueError(
                f"{self.name}: pin_empty(device={str(device)!r}): page-locked memory is on the "
                f"host: use device='cpu'. For memory of the device, use torch.empty."
            )
        one_sequence = len(size) == 1 and isinstance(size[0], tuple | list)
        return self._empty_pinned(tuple(size[0] if one_sequence else size), dtype)

    def pin_empty_like(
        self,
        tensor: torch.Tensor,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
    ) -> torch.Tensor:
        """Return `pin_empty` with a tensor's shape, and its dtype unless another is given."""
        dtype = tensor.dtype if dtype is None else dtype
        return self.pin_empty(tuple(tensor.shape), dtype=dtype, device=device)

    def pin_memory_alignment(self) -> int:
        """Return the alignment in bytes that `register_host_memory` needs. Default 1."""
        return 1

    def register_host_memory(self, address: int, num_bytes: int) -> bool:
        """Page-lock memory that was allocated elsewhere, for faster copies. May create a context.

        Args:
            address: its first byte, aligned to `pin_memory_alignment`.
            num_bytes: number of bytes.

        Returns:
            Whether the device's runtime did so. Default ``False``: it cannot.
        """
        return False

    def unregister_host_memory(self, address: int) -> None:
        """Undo `register_host_memory`. Default: nothing."""

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

    def _empty_pinned(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        import torch

        if self.has("pinning") and self._torch_accelerator("current_accelerator"):
            self._require("pin_empty")
            return torch.empty(shape, dtype=dtype, device="cpu", pin_memory=True)
        return self._pin_memory(torch.empty(shape, dtype=dtype, device="cpu"))

    def _torch_is_pinned(self, tensor: torch.Tensor) -> bool:
        return tensor.is_pinned()
