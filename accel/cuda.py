"""The ``cuda`` backend: NVIDIA GPUs, and AMD GPUs under a ROCm build of torch.

Probes ask the driver through NVML, so that a process may fork after them and use CUDA in the child.
"""

from __future__ import annotations

import sys
import threading
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from accel.base import Accelerator
from accel.probe import Accepted, Probe, Rejected
from accel.torch_build import TorchBuild, torch_build

if TYPE_CHECKING:
    from accel.base import DeviceProperties
    from accel.nvidia.driver import GPU

_FIRST_BF16 = (8, 0)
_FIRST_FP16 = (5, 3)
_FIRST_FP8 = (8, 9)
# CDNA 3 and 4, RDNA 4: the AMD generations with float8 matrix instructions.
_AMD_FP8 = ("gfx94", "gfx95", "gfx12")
_INSTALL = "Install a CUDA build of torch (https://pytorch.org/get-started)."


class _OpenRanges(threading.local):
    def __init__(self) -> None:
        self.domains: list[str | None] = []


_open = _OpenRanges()


class CUDAAccelerator(Accelerator):
    """CUDA devices through `torch.cuda`.

    A ROCm build of torch answers under the same names and is recognised; it is untested, and ops
    have no native form there.
    """

    name = "cuda"
    communication_backend = "nccl"
    op_builders = "accel.builders.cuda"
    uses_triton = True
    exported_env = ("NCCL", "CUDA_", "LD_LIBRARY_PATH", "PATH")

    def is_available(self) -> bool:
        """Return whether torch was built for these GPUs and a driver shows one. No context."""
        return bool(self.probe())

    def probe(self) -> Probe:
        """Return whether CUDA can be used, from torch's build and the driver. No context.

        On ROCm, and if a driver has no NVML (Jetson), torch itself answers, which counts as a
        use of the device: a process that is to fork should ask there in the child only.
        """
        build = torch_build()
        if build is None:
            return Rejected("torch is not installed.", _INSTALL)
        if not (build.cuda or build.hip):
            return Rejected(f"torch {build.version} was built without CUDA.", _INSTALL)
        if self._forked_too_late():
            return Rejected(
                "this process was forked from one that had initialised CUDA.",
                "Start workers with the 'spawn' method, or fork before the first use of CUDA.",
            )
        if build.hip:
            return self._probe_torch(build, f"ROCm {build.hip} (untested)")
        return self._probe_nvidia(build)

    def _probe_nvidia(self, build: TorchBuild) -> Probe:
        from accel.nvidia import driver as nvidia

        driver = nvidia.read_driver()
        if isinstance(driver, Rejected):
            return self._probe_torch(build, "by torch's account") if nvidia.has_cuda() else driver
        need = tuple(int(part) for part in build.cuda.split(".")[:2])
        if need[0] > driver.cuda[0]:
            return Rejected(
                f"torch {build.version} needs CUDA {build.cuda}, but driver {driver.version} runs "
                f"at most CUDA {driver.cuda[0]}.{driver.cuda[1]}.",
                "Install a newer driver, or a build of torch for an older CUDA.",
            )
        seen = nvidia.visible_gpus(driver)
        if not seen:
            return Rejected(
                f"driver {driver.version} has {len(driver.gpus)} GPU(s), and CUDA_VISIBLE_DEVICES "
                f"and MIG mode leave none visible.",
                "Correct or unset CUDA_VISIBLE_DEVICES.",
            )
        names = ", ".join(sorted({gpu.name for gpu in seen}))
        return Accepted(f"{len(seen)} x {names}, driver {driver.version}")

    def _probe_torch(self, build: TorchBuild, how: str) -> Probe:
        import torch

        if torch.cuda.is_available():
            return Accepted(f"torch {build.version}, {how}")
        return Rejected(f"torch {build.version} sees no device ({how}).", "Check the driver.")

    def _forked_too_late(self) -> bool:
        torch = sys.modules.get("torch")
        return bool(torch is not None and torch.cuda._is_in_bad_fork())

    @property
    def _rocm(self) -> bool:
        build = torch_build()
        return bool(build and build.hip)

    def _gpu(self, device_index: int | None) -> GPU | None:
        """Return the driver's facts about a device, ``None`` if only torch can tell.

        Before CUDA is initialised the current device is 0. Among unlike GPUs the driver's order
        may not be CUDA's, so that nothing is claimed there.
        """
        from accel.nvidia import driver as nvidia

        driver = Rejected("ROCm") if self._rocm else nvidia.read_driver()
        if isinstance(driver, Rejected):
            return None
        seen, kinds = nvidia.visible_gpus(driver), nvidia.visible_capabilities(driver)
        index = (
            (self.current_device() if self._initialised() else 0)
            if device_index is None
            else (device_index)
        )
        return seen[index] if index < len(seen) and len(kinds) == 1 else None

    def _initialised(self) -> bool:
        torch = sys.modules.get("torch")
        return bool(torch is not None and torch.cuda.is_initialized())

    def device_properties(self, device_index: int | None = None) -> DeviceProperties:
        """Return a device's properties, with its driver's version. May create a context."""
        from dataclasses import replace

        from accel.nvidia import driver as nvidia

        found = super().device_properties(device_index)
        driver = nvidia.read_driver()
        version = None if isinstance(driver, Rejected) else driver.version
        uuid = found.uuid
        if uuid and not uuid.startswith(("GPU-", "MIG-")):
            uuid = f"GPU-{uuid}"
        return replace(found, uuid=uuid, driver=version)

    def available_memory(self, device_index: int | None = None) -> int:
        """Return the bytes free on a device, as its driver counts. No context before the first use.

        From NVML until CUDA is initialised, from the runtime afterwards.
        """
        from accel.nvidia import driver as nvidia

        index = self._index(device_index, "available_memory")
        gpu = None if self._initialised() else self._gpu(index)
        if gpu is not None:
            try:
                return nvidia.free_memory(gpu.uuid)
            except nvidia.NvmlError:
                pass  # An integrated GPU has no figure of its own: the runtime's holds.
        return super().available_memory(index)

    def empty_host_cache(self) -> None:
        """Free page-locked memory that torch holds; nothing before the first use of CUDA."""
        import torch

        if self._initialised() and hasattr(torch._C, "_host_emptyCache"):
            torch._C._host_emptyCache()

    def register_host_memory(self, address: int, num_bytes: int) -> bool:
        """Page-lock memory that was allocated elsewhere. May create a context.

        Returns:
            ``True``.

        Raises:
            RuntimeError: CUDA refuses, as for memory that is registered already.
            BackendUnavailable: CUDA cannot be used here.
        """
        self._require("register_host_memory")
        runtime = self._forward("cudart", member="register_host_memory")
        self._forward("check_error", int(runtime.cudaHostRegister(address, num_bytes, 0)))
        return True

    def unregister_host_memory(self, address: int) -> None:
        """Undo `register_host_memory`; raises `RuntimeError` if it was not registered."""
        self._require("unregister_host_memory")
        runtime = self._forward("cudart", member="unregister_host_memory")
        self._forward("check_error", int(runtime.cudaHostUnregister(address)))

    def is_bf16_supported(self) -> bool:
        """Return whether the device has bfloat16 arithmetic (8.0 on; ROCm). May init CUDA."""
        return self._at_least(_FIRST_BF16)

    def is_fp16_supported(self) -> bool:
        """Return whether the device has float16 arithmetic (5.3 on; ROCm). May init CUDA."""
        return self._at_least(_FIRST_FP16)

    def is_fp8_supported(self) -> bool:
        """Return whether it multiplies float8 matrices (8.9 on; CDNA 3, RDNA 4). May init CUDA."""
        if not self._rocm:
            return self._at_least(_FIRST_FP8)
        if not self._is_usable():
            return False
        found = self._forward("get_device_properties", self.current_device())
        return str(found.gcnArchName).startswith(_AMD_FP8)

    def is_fp64_supported(self) -> bool:
        """Return whether there is a device: every generation computes in float64. No context."""
        return self._is_usable()

    def is_triton_supported(self) -> bool:
        """Return whether Triton is installed and every visible device is new enough. No context."""
        from accel.nvidia import driver as nvidia
        from accel.ops.optimizers.triton import OLDEST_CAPABILITY

        if find_spec("triton") is None or not self._is_usable():
            return False
        driver = Rejected("ROCm") if self._rocm else nvidia.read_driver()
        if isinstance(driver, Rejected):
            return True
        return all(kind >= OLDEST_CAPABILITY for kind in nvidia.visible_capabilities(driver))

    def _at_least(self, capability: tuple[int, int]) -> bool:
        if not self._is_usable():
            return False
        if self._rocm:
            return True
        if (gpu := self._gpu(None)) is not None:
            return gpu.capability >= capability
        return tuple(self._forward("get_device_capability")) >= capability

    @property
    def supports_nvtx_domain(self) -> bool:  # type: ignore[override]
        """True if the ``nvtx`` package is installed, which keeps domains of ranges apart."""
        return find_spec("nvtx") is not None

    def range_push(self, msg: str, domain: str | None = None, category: str | None = None) -> None:
        """Open an NVTX range of this thread. No context.

        Args:
            msg: the range's name.
            domain: group of ranges; without the ``nvtx`` package all are in the default one.
            category: sub-group of ranges, likewise.

        Raises:
            BackendUnavailable: torch was built without CUDA.
        """
        if domain is not None and self.supports_nvtx_domain:
            import_module("nvtx").push_range(message=msg, domain=domain, category=category)
        else:
            self._nvtx().range_push(msg)
        _open.domains.append(domain)

    def range_pop(self, domain: str | None = None) -> None:
        """Close this thread's innermost open range of that domain.

        Raises:
            RuntimeError: none is open.
        """
        if domain not in _open.domains:
            where = "" if domain is None else f" in domain {domain!r}"
            raise RuntimeError(f"{self.name}: range_pop() without an open range_push(){where}.")
        if domain is not None and self.supports_nvtx_domain:
            import_module("nvtx").pop_range(domain=domain)
        else:
            self._nvtx().range_pop()
        last = len(_open.domains) - 1 - _open.domains[::-1].index(domain)
        del _open.domains[last]

    def _nvtx(self) -> Any:
        build = torch_build()
        if build is None or not (build.cuda or build.hip):
            raise self._unavailable("range_push", "torch was built without CUDA")
        return self._attribute("range_push", "nvtx")

    def visible_devices_envs(self) -> list[str]:
        """Return ``CUDA_VISIBLE_DEVICES``, and on ROCm HIP's own variable before it."""
        own = ["CUDA_VISIBLE_DEVICES"]
        return ["HIP_VISIBLE_DEVICES", *own] if self._rocm else own

    def default_compute_capabilities(self) -> str:
        """Return the targets for CUDA sources, such as ``"8.0;9.0+PTX"``: one for each family.

        For the toolkit whose nvcc would be used; without one for torch's CUDA release; ``""`` with
        neither and on ROCm. Runs nothing.
        """
        from accel.jit.tools.cuda_targets import usual_targets

        build = torch_build()
        return "" if self._rocm else usual_targets(build.cuda if build is not None else "")
