"""The ``xpu`` backend: Intel GPUs through stock `torch.xpu`. Untested on hardware."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

from accel import environment
from accel.base import Accelerator
from accel.probe import Accepted, Probe, Rejected
from accel.torch_build import torch_build

_MASK = "ZE_AFFINITY_MASK"
_INSTALL = "Install an XPU build of torch (https://pytorch.org/get-started)."
_EXTENSION = "intel-extension-for-pytorch"


class XPUAccelerator(Accelerator):
    """Intel GPUs. Needs an XPU build of torch, and neither oneAPI nor an extension package."""

    name = "xpu"
    communication_backend = "xccl"
    op_builders = "accel.builders.xpu"
    visible_devices_env = (_MASK,)
    exported_env = ("CCL_", "FI_", "ZE_", "SYCL_", "LD_LIBRARY_PATH", "PATH")

    def is_available(self) -> bool:
        """Return whether torch has XPU support and finds a device.

        No context. If Level Zero's Sysman cannot count the devices, SYCL does, after which a
        forked child cannot use them.
        """
        return bool(self.probe())

    def probe(self) -> Probe:
        """Return whether XPU can be used; torch is imported only if it was built with XPU."""
        build = torch_build()
        if build is None:
            return Rejected("torch is not installed.", _INSTALL)
        if not (build.xpu or "xpu" in build.version):
            return Rejected(f"torch {build.version} was built without XPU.", _INSTALL)
        import torch

        if torch.xpu._is_in_bad_fork():
            return Rejected(
                "this process was forked from one that had initialised XPU.",
                "Start workers with the 'spawn' method, or fork before the first use of XPU.",
            )
        count = torch.xpu.device_count()
        if count:
            return Accepted(f"{count} device(s), torch {build.version}")
        mask = environment.visible_devices(_MASK)
        limited = f" ({_MASK}={mask!r})" if mask is not None else ""
        return Rejected(
            f"torch {build.version} finds no XPU device{limited}.",
            f"Check the GPU driver, the 'render' group and {_MASK}.",
        )

    def has(self, capability: str) -> bool:
        """Return whether the device has a capability; older torch has no graphs."""
        if capability == "graphs":
            import torch

            return hasattr(torch.xpu, "XPUGraph")
        return super().has(capability)

    def empty_host_cache(self) -> None:
        """Free page-locked memory that torch holds; nothing before torch 2.13."""
        empty = self._torch_accelerator("empty_host_cache")
        if empty is not None and self._is_usable():
            empty()

    def is_bf16_supported(self) -> bool:
        """Return whether the device has bfloat16 arithmetic, without torch's emulation."""
        return self._is_usable() and bool(self._forward("is_bf16_supported", False))

    def is_fp16_supported(self) -> bool:
        """Return whether the device computes in float16: SYCL's aspect ``fp16``."""
        if not self._is_usable():
            return False
        found = self._forward("get_device_capability", member="is_fp16_supported")
        return bool(found.get("has_fp16", False))

    def is_fp64_supported(self) -> bool:
        """Return whether the device computes in float64: SYCL's aspect ``fp64``."""
        if not self._is_usable():
            return False
        found = self._forward("get_device_capability", member="is_fp64_supported")
        return bool(found.get("has_fp64", False))

    def is_triton_supported(self) -> bool:
        """Return whether Triton is installed and a device is there. No context."""
        return find_spec("triton") is not None and self._is_usable()

    def _capability(self, properties: Any) -> str | None:
        """Return the GPU architecture's number if torch reports it."""
        architecture = getattr(properties, "architecture", None)
        return None if architecture is None else str(architecture)

    def _open_range(self, msg: str) -> Callable[[], object]:
        """Open a range for Intel's tools (ITT) if torch has them, and one of torch's own."""
        itt: Any = import_module("torch.profiler.itt")
        close = super()._open_range(msg)
        if not itt.is_available():
            return close
        itt.range_push(msg)
        return lambda: (itt.range_pop(), close())


def extension() -> Probe:
    """Return whether intel-extension-for-pytorch may be imported: only one made for this torch.

    The import of another ends the process. It is optional, archived, and its last release is for
    torch 2.8. Nothing is imported to find out.
    """
    try:
        found = version(_EXTENSION)
    except PackageNotFoundError:
        return Rejected(f"{_EXTENSION} is not installed.", "It is not needed.")
    build = torch_build()
    wanted = build.version.split(".")[:2] if build is not None else []
    if found.split(".")[:2] != wanted:
        return Rejected(
            f"{_EXTENSION} {found} is not for torch {'.'.join(wanted) or '(absent)'}.",
            "Uninstall it, or install 'accel-torch[ipex]'.",
        )
    return Accepted(f"{_EXTENSION} {found}")
