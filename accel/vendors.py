"""Other vendors' devices: Apple's, and those that a package adds to torch (PrivateUse1).

None of them was run on hardware. Each is the contract's defaults over torch's module for the
device, and what is said here; its ops come from the portable or the reference rung.
"""

from __future__ import annotations

import platform
from importlib import import_module
from importlib.util import find_spec
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from accel.base import Accelerator
from accel.probe import FAILURES, Accepted, Probe, Rejected
from accel.torch_build import torch_build

if TYPE_CHECKING:
    from accel.base import DeviceProperties

_GPU = "torch calls NVIDIA and AMD GPUs 'cuda', Intel's 'xpu' and Apple's 'mps'."
_ROCM = "torch calls AMD GPUs 'cuda', too."
# Names of devices in use elsewhere, the backend that is meant, and why.
ELSEWHERE = MappingProxyType(
    {
        **dict.fromkeys(("gpu", "nvidia"), ("cuda", _GPU)),
        **dict.fromkeys(("hip", "rocm", "amd"), ("cuda", _ROCM)),
        **dict.fromkeys(("gaudi", "habana"), ("hpu", "torch calls Gaudi 'hpu'.")),
        **dict.fromkeys(("tpu", "xla"), ("", "No backend for TPUs is installed.")),
    }
)
_ONE_DEVICE = "mps has one device, with index 0."


class VendorAccelerator(Accelerator):
    """A device that a package adds to torch under its own name; a subclass names the package.

    The package must import and find a device; to be installed is not enough.

    Attributes:
        packages: names of the package; one of them must be installed.
        maker: the device's vendor, for messages.
    """

    packages: ClassVar[tuple[str, ...]] = ()
    maker: ClassVar[str] = ""

    def is_available(self) -> bool:
        """Return whether the vendor's package is installed, imports, and finds a device."""
        return bool(self.probe())

    def probe(self) -> Probe:
        """Return whether the device can be used; a package is imported only if it is installed."""
        package = next((one for one in self.packages if find_spec(one) is not None), None)
        if package is None:
            names = " or ".join(self.packages)
            return Rejected(f"{names} is not installed.", f"Install {self.maker}'s {names}.")
        try:
            import_module(package)
            module = getattr(import_module("torch"), self.device_type, None)
            count = int(module.device_count()) if module and module.is_available() else 0
        except FAILURES as error:
            reason = f"{package} failed: {type(error).__name__}: {error}."
            return Rejected(reason, f"Install the release of {package} for this torch.")
        if count == 0:
            return Rejected(f"{package} finds no device.", f"Check {self.maker}'s driver.")
        return Accepted(f"{count} device(s), {package}")


class NPUAccelerator(VendorAccelerator):
    """Huawei Ascend, through ``torch_npu`` and CANN. Untested on hardware."""

    name = "npu"
    maker = "Huawei"
    packages = ("torch_npu",)
    communication_backend = "hccl"
    visible_devices_env = ("ASCEND_RT_VISIBLE_DEVICES",)
    exported_env = ("HCCL", "ASCEND", "LD_LIBRARY_PATH", "PATH")


class MLUAccelerator(VendorAccelerator):
    """Cambricon MLU, through ``torch_mlu`` and Neuware. Untested on hardware."""

    name = "mlu"
    maker = "Cambricon"
    packages = ("torch_mlu",)
    communication_backend = "cncl"
    visible_devices_env = ("MLU_VISIBLE_DEVICES",)
    exported_env = ("CNCL", "NEUWARE_HOME", "LD_LIBRARY_PATH", "PATH")


class MUSAAccelerator(VendorAccelerator):
    """Moore Threads MUSA, through ``torch_musa``. Untested on hardware."""

    name = "musa"
    maker = "Moore Threads"
    packages = ("torch_musa",)
    communication_backend = "mccl"
    visible_devices_env = ("MUSA_VISIBLE_DEVICES",)
    exported_env = ("MCCL", "MUSA", "LD_LIBRARY_PATH", "PATH")


class SDAAAccelerator(VendorAccelerator):
    """Tecorigin SDAA, through ``torch_sdaa``. Untested on hardware."""

    name = "sdaa"
    maker = "Tecorigin"
    packages = ("torch_sdaa",)
    communication_backend = "tccl"
    visible_devices_env = ("SDAA_VISIBLE_DEVICES",)
    exported_env = ("TCCL", "SDAA", "LD_LIBRARY_PATH", "PATH")


class SUPAAccelerator(VendorAccelerator):
    """Biren SUPA, through ``torch_supa`` or its older name ``torch_br``. Untested on hardware."""

    name = "supa"
    maker = "Biren"
    packages = ("torch_supa", "torch_br")
    communication_backend = "bccl"
    visible_devices_env = ("SUPA_VISIBLE_DEVICES",)
    exported_env = ("BCCL", "BIREN", "SUPA", "LD_LIBRARY_PATH", "PATH")


class MPSAccelerator(Accelerator):
    """Apple's GPU, through `torch.mps`. Untested on hardware.

    There is one device, with one stream; memory is the host's, of which torch may use
    ``recommended_max_memory``.
    """

    name = "mps"
    communication_backend = "gloo"
    lacks = ("streams", "graphs", "peaks", "pinning")

    def is_available(self) -> bool:
        """Return whether this is macOS on a machine whose GPU torch can use."""
        return bool(self.probe())

    def probe(self) -> Probe:
        """Return whether the GPU can be used; torch is imported on macOS only."""
        if platform.system() != "Darwin":
            return Rejected(f"mps needs macOS; this is {platform.system()}.", "Use a Mac.")
        build = torch_build()
        if build is None:
            return Rejected("torch is not installed.", "Install torch.")
        import torch

        if torch.backends.mps.is_available():
            return Accepted(f"torch {build.version}")
        return Rejected(f"torch {build.version} finds no Metal device.", "Use macOS 14 or newer.")

    def set_device(self, device_index: int) -> None:
        """Check the index, which is 0."""
        if device_index is None:
            raise TypeError("mps: set_device(None): expected a device's index.")
        self._only(device_index, "set_device")

    def current_device(self) -> int:
        """Return 0."""
        self._require("current_device")
        return 0

    def device_count(self) -> int:
        """Return 1, or 0 without the device."""
        return int(self._is_usable())

    def synchronize(self, device_index: int | None = None) -> None:
        """Wait for all work on the device."""
        self._only(device_index, "synchronize")
        self._forward("synchronize")

    def device_properties(self, device_index: int | None = None) -> DeviceProperties:
        """Return the processor's name and the memory that torch may use."""
        from accel.base import DeviceProperties

        self._only(device_index, "device_properties")
        memory = self.total_memory()
        return DeviceProperties(platform.processor() or "mps", None, memory, None, None)

    def get_device_capability(self, device_index: int | None = None) -> None:
        """Return ``None``: Apple's GPUs have no such numbers."""
        self._only(device_index, "get_device_capability")
        self._require("get_device_capability")

    def get_rng_state(self, device_index: int | None = None) -> Any:
        """Return a copy of the generator's state."""
        self._only(device_index, "get_rng_state")
        return self._forward("get_rng_state")

    def set_rng_state(self, new_state: Any, device_index: int | None = None) -> None:
        """Set the generator's state."""
        self._only(device_index, "set_rng_state")
        self._forward("set_rng_state", new_state)

    def manual_seed_all(self, seed: int) -> None:
        """Call `manual_seed`: there is one device."""
        self.manual_seed(seed)

    def initial_seed(self) -> int:
        """Return the seed that the generator started from."""
        return int(self.default_generator().initial_seed())

    def default_generator(self, device_index: int | None = None) -> Any:
        """Return the generator."""
        self._only(device_index, "default_generator")
        self._require("default_generator")
        return self._forward("_get_default_mps_generator", member="default_generator")

    def memory_allocated(self, device_index: int | None = None) -> int:
        """Return the bytes that tensors occupy."""
        self._only(device_index, "memory_allocated")
        return int(self._forward("current_allocated_memory", member="memory_allocated"))

    def memory_reserved(self, device_index: int | None = None) -> int:
        """Return the bytes that Metal holds for this process."""
        self._only(device_index, "memory_reserved")
        return int(self._forward("driver_allocated_memory", member="memory_reserved"))

    def memory_stats(self, device_index: int | None = None) -> dict[str, int]:
        """Return both under the names that torch's allocators use."""
        return {
            "allocated_bytes.all.current": self.memory_allocated(device_index),
            "reserved_bytes.all.current": self.memory_reserved(device_index),
        }

    def reset_accumulated_memory_stats(self, device_index: int | None = None) -> None:
        """Check the index; none of its counters only grows."""
        self._only(device_index, "reset_accumulated_memory_stats")
        self._require("reset_accumulated_memory_stats")

    def total_memory(self, device_index: int | None = None) -> int:
        """Return the bytes that Metal recommends to use at most."""
        self._only(device_index, "total_memory")
        return int(self._forward("recommended_max_memory", member="total_memory"))

    def available_memory(self, device_index: int | None = None) -> int:
        """Return `total_memory` less `memory_reserved`."""
        return self.total_memory(device_index) - self.memory_reserved(device_index)

    def is_fp64_supported(self) -> bool:
        """Return ``False``: Metal has no float64."""
        return False

    def _only(self, device_index: int | None, member: str) -> None:
        if self._index(device_index, member) not in {None, 0}:
            raise ValueError(f"{member}({device_index}): {_ONE_DEVICE}")
