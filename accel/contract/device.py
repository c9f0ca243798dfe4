"""Semantics of the device, and the choice of the current one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

from accel.contract.forward import Forwarding
from accel.errors import BackendUnavailable

if TYPE_CHECKING:
    import torch

    from accel.contract.properties import DeviceProperties


class DeviceMembers(Forwarding):
    """Semantics and device members of the contract."""

    def is_synchronized_device(self) -> bool:
        """Return whether every operation is complete when its call returns. Default ``False``."""
        return False

    def use_host_timers(self) -> bool:
        """Return whether the host's clock can time work. Default: as `is_synchronized_device`."""
        return self.is_synchronized_device()

    def resolves_data_dependency(self) -> bool:
        """Return whether work on two streams is ordered by the data it shares, without events.

        Default: as `is_synchronized_device`.
        """
        return self.is_synchronized_device()

    def handles_memory_backpressure(self) -> bool:
        """Return whether the device itself delays work until memory is free.

        Default: as `is_synchronized_device`.
        """
        return self.is_synchronized_device()

    def device_name(self, device_index: int | None = None) -> str:
        """Return ``"cuda"``, or ``"cuda:1"`` for index 1. No device context; traces under compile.

        Raises:
            TypeError, ValueError: the index is not a whole number, or is negative.
        """
        if device_index is None:
            return self.device_type
        return f"{self.device_type}:{self._index(device_index, 'device_name')}"

    def device(self, device_index: int | None = None) -> torch.device:
        """Return the `torch.device` named by `device_name`. No device context.

        Raises:
            BackendUnavailable: torch has no such type of device, and none can be used here.
            Unsupported: torch has no such type, although the device can be used.
        """
        import torch

        name = self.device_name(device_index)
        try:
            return torch.device(name)
        except RuntimeError as error:
            raise self._unknown_to_torch("device", str(error)) from error

    def set_device(self, device_index: int) -> None:
        """Make a device the current one of this thread. May create its context.

        Raises:
            TypeError, ValueError: the index is not a whole number, is negative, or is not below
                `device_count`.
        """
        index = self._index(device_index, "set_device")
        if index is None:
            raise TypeError(f"{self.name}: set_device(None): expected a device's index.")
        self._require("set_device")
        count = self.device_count()
        if index >= count:
            seen = f"{count} device(s), 0 to {count - 1}" if count else "no device"
            raise ValueError(f"{self.name}: set_device({index}): this process sees {seen}.")
        self._forward("set_device", index)

    def current_device(self) -> int:
        """Return the index of this thread's current device. May create a context."""
        return int(self._forward("current_device"))

    def current_device_name(self) -> str:
        """Return `device_name` of the current device, index included. May create a context."""
        return self.device_name(self.current_device())

    def device_index(self, device_index: int | None) -> AbstractContextManager[None]:
        """Return a context manager inside which a device is this thread's current one.

        The previous device is current again afterwards, also after an exception. ``None`` changes
        nothing. Entering it may create a context, and raises as `set_device` does.

        Raises:
            TypeError, ValueError: the index is not a whole number, or is negative.
        """
        return self._on_device(self._index(device_index, "device_index"))

    @contextmanager
    def _on_device(self, index: int | None) -> Iterator[None]:
        before = None if index is None else self.current_device()
        if index is None or before is None or before == index:
            yield
            return
        self.set_device(index)
        try:
            yield
        finally:
            self.set_device(before)

    def set_device_index(self, device_index: int) -> None:
        """Do `set_device`; the name is `torch.accelerator`'s."""
        self.set_device(device_index)

    def set_device_idx(self, device_index: int) -> None:
        """Do `set_device`; the name is an older one of `torch.accelerator`."""
        self.set_device(device_index)

    def current_device_index(self) -> int:
        """Return `current_device`; the name is `torch.accelerator`'s."""
        return self.current_device()

    def current_device_idx(self) -> int:
        """Return `current_device`; the name is an older one of `torch.accelerator`."""
        return self.current_device()

    def current_accelerator(self, check_available: bool = False) -> torch.device | None:
        """Return the `torch.device` of this kind, without an index. No device context.

        Args:
            check_available: whether to return ``None`` if no such device can be used here.

        Raises:
            BackendUnavailable, Unsupported: as `device`.
        """
        if check_available and not self._is_usable():
            return None
        return self.device()

    def device_count(self) -> int:
        """Return the number of devices that this process sees. No device context."""
        try:
            return int(self._forward("device_count"))
        except BackendUnavailable:
            return 0

    def synchronize(self, device_index: int | None = None) -> None:
        """Wait for all work on a device; default the current one. May create a context."""
        self._forward_at("synchronize", device_index)

    def on_accelerator(self, tensor: torch.Tensor) -> bool:
        """Return whether a tensor is on a device of this kind. No device context."""
        return tensor.device.type == self.device_type

    def device_properties(self, device_index: int | None = None) -> DeviceProperties:
        """Return the properties of a device; default the current one. May create a context.

        If torch has no properties of the device, the name is `device_name` and the memory 0.
        """
        from accel.contract.properties import DeviceProperties

        index = self._index(device_index, "device_properties")
        if index is None:
            index = self.current_device()
        found = None
        if hasattr(self._torch_module("device_properties"), "get_device_properties"):
            found = self._forward("get_device_properties", index, member="device_properties")
        return DeviceProperties(
            name=str(getattr(found, "name", self.device_name(index))),
            uuid=_text(getattr(found, "uuid", None)),
            total_memory=int(getattr(found, "total_memory", 0)),
            capability=self._capability(found),
            driver=_text(getattr(found, "driver_version", None)),
        )

    def get_device_name(self, device_index: int | None = None) -> str:
        """Return the maker's name of a device, as in `device_properties`. May create a context."""
        return self.device_properties(device_index).name

    def get_device_capability(self, device_index: int | None = None) -> tuple[int, int] | None:
        """Return major and minor number of a device's generation, such as ``(9, 0)``.

        ``None`` for a device that has no such pair of numbers; `device_properties` may name its
        generation in another way. May create a context.
        """
        index = self._index(device_index, "get_device_capability")
        self._require("get_device_capability")
        if not hasattr(self._torch_module("get_device_capability"), "get_device_properties"):
            return None
        if index is None:
            index = self.current_device()
        found = self._forward("get_device_properties", index, member="get_device_capability")
        major = getattr(found, "major", None)
        return None if major is None else (int(major), int(getattr(found, "minor", 0)))

    def _capability(self, properties: Any) -> str | None:
        """Return the generation of a device from torch's properties of it."""
        major = getattr(properties, "major", None)
        return None if major is None else f"{major}.{getattr(properties, 'minor', 0)}"


def _text(value: object) -> str | None:
    return None if value is None else str(value)
