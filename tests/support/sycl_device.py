"""The SYCL CPU device, on which the kernels of the ``xpu`` backend run in tests."""

from __future__ import annotations

import ctypes
import re
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

from accel.builders.kinds import SYCLOpBuilder
from accel.jit import Library, Recipe, acquire
from accel.jit.tools.sycl import find_sycl, load_sycl, with_sycl
from accel.ops import native
from accel.probe import Rejected


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

    def wait(self) -> None:
        """Wait for everything that was launched."""
        self._wait(self.queue)

    def library(self, name: str) -> Library:
        """Return the library of an optimizer, by the stem of its source."""

        class Builder(SYCLOpBuilder):
            NAME = artifact = name
            native_sources = (f"xpu/optimizers/{name}.cpp",)

        library: Library = Builder().jit_load()
        return library
