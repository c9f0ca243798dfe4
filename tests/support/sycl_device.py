"""The SYCL CPU device, on which the kernels of the ``xpu`` backend run in tests."""

from __future__ import annotations

import ctypes
import math
import re
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from accel.builders.convention import DECLARED, optimizers
from accel.builders.kinds import SYCLOpBuilder
from accel.jit import Library, Recipe, acquire
from accel.jit.tools.sycl import find_sycl, load_sycl, with_sycl
from accel.ops import native
from accel.ops.lists import declared
from accel.probe import Rejected
from accel.targets import resolve


def missing() -> str:
    """Return what this machine lacks of the extra ``xpu-test``, or ``""``."""
    runtime = find_sycl()
    if isinstance(runtime, Rejected):
        return str(runtime)
    return "" if _opencl_driver() else "intel-opencl-rt, the SYCL CPU device, is not installed"


def _opencl_driver() -> Path | None:
    try:
        package = distribution("intel-opencl-rt")
    except PackageNotFoundError:
        return None
    found = re.search(r"^(.*/libintelocl\.so),", package.read_text("RECORD") or "", re.MULTILINE)
    return Path(str(package.locate_file(found[1]))).resolve() if found else None


class SyclDevice:
    """Two queues on the CPU device; ops are run on `queue`, with host tensors."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        # The package's own .icd file names a folder of the machine that it was made on.
        patch.setenv("OCL_ICD_FILENAMES", str(_opencl_driver()))
        load_sycl()
        source = Path(__file__).parent / "sycl_queue.cpp"
        handle = acquire(with_sycl(Recipe("sycl_queue", "xpu", (source,)))).handle
        for make in (handle.queue_in_order, handle.queue_out_of_order):
            make.restype = ctypes.c_void_p
        self._wait = handle.queue_wait
        self._wait.argtypes = (ctypes.c_void_p,)
        self.queue: int | None = handle.queue_in_order()
        self.unordered: int | None = handle.queue_out_of_order()
        patch.setattr(native, "stream_of", lambda device: self.queue)
        patch.setattr(declared, "room_for_sums", _room_for_sums)

    def wait(self) -> None:
        """Wait for everything that was launched."""
        self._wait(self.queue)

    def library(self, name: str, family: str = "optimizers", *flags: str) -> Library:
        """Return the library of an op, by its family and the stem of its source."""

        class Builder(SYCLOpBuilder):
            NAME = artifact = name
            native_sources = (f"xpu/{family}/{name}.cpp",)

            def cxx_args(self) -> list[str]:
                return [*super().cxx_args(), *flags]

        library: Library = Builder().jit_load()
        return library

    def op(self, name: str, *flags: str) -> Any:
        """Return an op that runs on the queue, with tensors of the host."""
        target = DECLARED[name]
        family = target.split(".")[2]
        library = self.library(optimizers().get(name, name), family, *flags)
        return resolve(target)(_OnQueue(library, self), backend="cpu")


def _room_for_sums(tensors: Sequence[Tensor], device: torch.device) -> Tensor:
    """Return the workspace of lists on a device; the host's own kernels have none."""
    chunks = sum(-(-one.numel() // declared.CHUNK) for one in tensors)
    return torch.full((chunks + len(tensors),), math.nan, dtype=torch.float64, device="cpu")


class _OnQueue:
    """A library whose functions get the device's queue, and are waited for."""

    rung = "jit"

    def __init__(self, library: Library, device: SyclDevice) -> None:
        # Kernels are kept by their digest, and others of this library are not waited for.
        self.digest, self.path = f"{library.digest}-on-queue", library.path
        self._handle, self._device = library.handle, device

    @property
    def handle(self) -> _OnQueue:
        return self

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._handle, name)
        return _Function(found, self._device) if name.endswith("_step") else found

    def __getitem__(self, name: str) -> _Function:
        return _Function(self._handle[name], self._device)


class _Function:
    """A function of a library; what is set on it, such as its types, is set on that function."""

    def __init__(self, function: Any, device: SyclDevice) -> None:
        self.__dict__.update(_function=function, _device=device)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._function, name, value)

    def __call__(self, *args: Any) -> Any:
        status = self._function(*args[:-1], self._device.queue)
        self._device.wait()
        return status
