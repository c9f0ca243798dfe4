"""``pin_memory``: tensors in page-locked memory of the host, with DeepSpeed's names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from accel.ops.base import Op
from accel.ops.io.locking import limit
from accel.ops.io.pinned import PinnedMemory, shared
from accel.ops.native import check_interface

if TYPE_CHECKING:
    from accel.jit import Library


class PinHandle:
    """Page-locked tensors of one process; all handles of a backend share them.

    Args:
        memory: the pool of locked memory.
    """

    def __init__(self, memory: PinnedMemory) -> None:
        self._memory = memory

    def new_cpu_locked_tensor(self, num_elem: int, example_tensor: Tensor) -> Tensor:
        """Return a flat, page-aligned tensor in page-locked memory; its contents are undefined.

        As much of it is locked as the process may lock. Once per process, a warning says how much
        was not locked, and how to raise the limit. The memory lives as long as a tensor uses it.

        Args:
            num_elem: number of elements.
            example_tensor: a tensor of the wanted dtype.

        Raises:
            TypeError: `num_elem` is not a whole number, or `example_tensor` not a tensor.
            ValueError: `num_elem` is negative.
            MemoryError: there is no memory of that size.
        """
        return self._memory.new(num_elem, example_tensor)

    def free_cpu_locked_tensor(self, locked_tensor: Tensor) -> bool:
        """Unlock a tensor's memory; ``False`` if it is not a locked tensor, or only a view of one.

        The tensor can still be used, as ordinary memory.
        """
        return self._memory.free(locked_tensor)

    def free_cpu_locked_tensor_by_ptr(self, address: int) -> bool:
        """Unlock the tensor that begins at an address; ``False`` if no locked one does."""
        return self._memory.free_at(address)

    def is_pinned(self, buffer: Tensor) -> bool:
        """Return whether all memory of `buffer` belongs to such a tensor, or is pinned by torch.

        It is ``True`` even if the process's limit allowed only a part to be locked.
        """
        return self._memory.is_pinned(buffer)


class PinMemory(Op):
    """The op of ``PinMemoryBuilder``."""

    name: ClassVar[str] = "pin_memory"
    functions: ClassVar[tuple[str, ...]] = ("pin_handle",)

    def __init__(self, library: Library | None = None, *, backend: str = "cpu") -> None:
        super().__init__(library, backend=backend)
        if library is not None:
            check_interface(library, "accel_pin_lock", "accel_pin_unlock")
        self._memory: Any = shared(backend, library)

    @classmethod
    def notes(cls, backend: str) -> tuple[str, ...]:
        """Return a note on how memory is locked, and how much of it may be."""
        who = "The device's runtime" if PinnedMemory(backend).by_device else "The system"
        return (f"{who} locks memory; this process may lock {limit()} by the system.",)

    def pin_handle(self) -> PinHandle:
        """Return a handle."""
        return PinHandle(self._memory)
