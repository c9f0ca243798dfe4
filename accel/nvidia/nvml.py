"""NVML's functions, structures and errors, by ctypes."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

NVML = "libnvidia-ml.so.1"
_NAME_BYTES = 96


class NvmlError(RuntimeError):
    """A call into NVML failed; the message names the call and NVML's reason."""


class Memory(ctypes.Structure):
    """``nvmlMemory_t``: bytes."""

    _fields_ = (
        ("total", ctypes.c_ulonglong),
        ("free", ctypes.c_ulonglong),
        ("used", ctypes.c_ulonglong),
    )
    total: int
    free: int
    used: int


class Pci(ctypes.Structure):
    """``nvmlPciInfo_t``: where a GPU is."""

    _fields_ = (
        ("bus_id_legacy", ctypes.c_char * 16),
        ("domain", ctypes.c_uint),
        ("bus", ctypes.c_uint),
        ("device", ctypes.c_uint),
        ("ids", ctypes.c_uint * 2),
        ("bus_id", ctypes.c_char * 32),
    )
    domain: int
    bus: int
    device: int


class Calls:
    """NVML's functions by name; a code other than 0 becomes an `NvmlError`."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library

    def __call__(self, name: str, *arguments: object) -> None:
        """Call a function of NVML; raises `NvmlError`."""
        try:
            function = getattr(self._library, name)
        except AttributeError:
            raise NvmlError(f"{name}: not in this driver's NVML") from None
        code = function(*arguments)
        if code != 0:
            describe = self._library.nvmlErrorString
            describe.restype = ctypes.c_char_p
            raise NvmlError(f"{name}: {(describe(code) or b'').decode(errors='replace')} ({code})")

    def text(self, name: str, *handle: ctypes.c_void_p) -> str:
        """Return the text that a function writes into a buffer."""
        buffer = ctypes.create_string_buffer(_NAME_BYTES)
        self(name, *handle, buffer, ctypes.c_uint(_NAME_BYTES))
        return buffer.value.decode(errors="replace")

    def memory(self, handle: ctypes.c_void_p) -> Memory:
        """Return a device's memory; raises `NvmlError` if it has none of its own."""
        found = Memory()
        self("nvmlDeviceGetMemoryInfo", handle, ctypes.byref(found))
        return found

    def pci_address(self, handle: ctypes.c_void_p) -> str:
        """Return a GPU's address as Linux's sysfs writes it, ``""`` if it has none."""
        found = Pci()
        try:
            self("nvmlDeviceGetPciInfo_v3", handle, ctypes.byref(found))
        except NvmlError:  # An integrated GPU.
            return ""
        return f"{found.domain:04x}:{found.bus:02x}:{found.device:02x}.0"


@contextmanager
def session(library: str) -> Iterator[Calls]:
    """Open a session with NVML, the library of that file name; raises `OSError` or `NvmlError`."""
    nvml = Calls(ctypes.CDLL(library))
    nvml("nvmlInit_v2")
    try:
        yield nvml
    finally:
        nvml("nvmlShutdown")
