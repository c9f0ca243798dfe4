"""`PinnedMemory`: tensors in page-locked memory of the host, as far as the process may lock it."""

from __future__ import annotations

import mmap
import os
import threading
import warnings
import weakref
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from accel.ops.io.buffers import check_int
from accel.ops.io.locking import LibcLocking, Locking, NativeLocking, limit

if TYPE_CHECKING:
    from accel.jit import Library

_ACCELERATORS = ("cuda", "xpu", "hpu")
_HOW = (
    "Raise the limit: `ulimit -l unlimited`, `--ulimit memlock=-1` for a container, LimitMEMLOCK= "
    "for a service, or give the process CAP_IPC_LOCK."
)


class PinnedMemory:
    """Tensors of one process in memory that the system does not swap out.

    If the machine has a CUDA, XPU or HPU device, the device's runtime pins the memory, so that
    copies to the device are direct; otherwise the system locks it. Memory that cannot be locked is
    ordinary memory, with one warning.

    Args:
        backend: name of the backend whose device the memory is for.

    Attributes:
        by_device: whether a device's runtime pins memory.
        locking: locks memory by the system.
    """

    def __init__(self, backend: str) -> None:
        self.locking: Locking = LibcLocking()
        self.by_device = backend in _ACCELERATORS
        self._process = os.getpid()
        self._lock = threading.Lock()
        # By address: bytes, bytes locked by the system, and the object that owns the memory.
        self._regions: dict[int, tuple[int, int, Any]] = {}
        self._warned = False

    def new(self, num_elem: int, example: Any) -> Tensor:
        """Return a flat tensor of the dtype of `example`; see `PinHandle`."""
        count = check_int("num_elem", num_elem, 0, 2**63 - 1)
        if not isinstance(example, Tensor):
            kind = type(example).__name__
            raise TypeError(f"example_tensor is a {kind}; expected a tensor of the wanted dtype.")
        if self.by_device:
            try:
                made = torch.empty(count, dtype=example.dtype, device="cpu", pin_memory=True)
            except RuntimeError as error:
                self._warn(
                    f"the device's runtime cannot pin memory ({error}); the system locks it."
                )
            else:
                storage = made.untyped_storage()
                self._keep(made.data_ptr(), made.nbytes, 0, storage)
                return made
        return self._by_system(count, example.dtype)

    def _by_system(self, count: int, dtype: torch.dtype) -> Tensor:
        size = count * dtype.itemsize
        try:
            # Private, so that a child's writes do not reach the parent.
            memory = mmap.mmap(-1, max(size, 1), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        except (OSError, OverflowError, ValueError) as error:
            raise MemoryError(f"num_elem is {count}: no memory for {size} bytes: {error}") from None
        flat = torch.frombuffer(memory, dtype=torch.uint8)
        address = flat.data_ptr()
        locked = self.locking.lock(address, size)
        self._keep(address, size, locked, memory)
        if locked < size:
            self._warn(
                f"pin_memory: only {locked} of {size} bytes of a tensor could be locked, because "
                f"of this process's limit of {limit()}. The rest is ordinary memory: correct, but "
                f"slower if it is swapped out. {_HOW}"
            )
        return flat[:size].view(dtype)

    def free(self, tensor: Any) -> bool:
        """Unlock a tensor; return whether it was locked here."""
        if not isinstance(tensor, Tensor):
            raise TypeError(f"tensor is a {type(tensor).__name__}; expected a torch.Tensor.")
        if tensor.device.type != "cpu" or tensor.layout is not torch.strided:
            return False
        if tensor.storage_offset():
            return False
        return self.free_at(tensor.untyped_storage().data_ptr())

    def free_at(self, address: Any) -> bool:
        """Unlock the tensor at an address; return whether one was locked there.

        Its memory stays as long as a tensor uses it.
        """
        place = check_int("address", address, 0, 2**64 - 1)
        with self._lock:
            self._forget_parent()
            region = self._regions.pop(place, None)
        if region is None:
            return False
        if region[1]:
            self.locking.unlock(place, region[1])
        return True

    def is_pinned(self, buffer: Any) -> bool:
        """Return whether all of `buffer` is in memory of `new`, or pinned by torch."""
        if not isinstance(buffer, Tensor):
            raise TypeError(f"buffer is a {type(buffer).__name__}; expected a torch.Tensor.")
        if buffer.device.type != "cpu" or buffer.layout is not torch.strided:
            return False
        if buffer.is_pinned():
            return True
        storage = buffer.untyped_storage()
        start, end = storage.data_ptr(), storage.data_ptr() + storage.nbytes()
        with self._lock:
            self._forget_parent()
            return any(at <= start and end <= at + one[0] for at, one in self._regions.items())

    def locked_bytes(self) -> int:
        """Return how many bytes the system has locked for living tensors."""
        with self._lock:
            self._forget_parent()
            return sum(region[1] for region in self._regions.values())

    def _keep(self, address: int, size: int, locked: int, owner: Any) -> None:
        with self._lock:
            self._forget_parent()
            end = weakref.finalize(owner, self._regions.pop, address, None)
            end.atexit = False
            self._regions[address] = size, locked, end

    def _forget_parent(self) -> None:
        # A child does not inherit locks.
        if os.getpid() != self._process:
            self._process = os.getpid()
            self._regions.clear()

    def _warn(self, text: str) -> None:
        if not self._warned:
            self._warned = True
            warnings.warn(text, RuntimeWarning, stacklevel=5)


_kept: dict[str, PinnedMemory] = {}


def shared(backend: str, library: Library | None = None) -> PinnedMemory:
    """Return the process's memory for a backend; both ops use the same."""
    found = _kept.get(backend) or _kept.setdefault(backend, PinnedMemory(backend))
    if library is not None:
        found.locking = NativeLocking(library.handle)
    return found
