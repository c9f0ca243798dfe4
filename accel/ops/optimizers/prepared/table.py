"""Sorting of tensors into native calls, and their C pointer arrays."""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from accel.ops.checks import Roles, is_dense
from accel.ops.optimizers.abi import DTYPES
from accel.ops.overlap import LOWEST, extent


def addresses(tensors: Sequence[Tensor]) -> array[int]:
    """Return the tensors' addresses as signed 64-bit integers, as `extent` does."""
    try:
        return array("q", map(Tensor.data_ptr, tensors))
    except OverflowError:
        # Some devices have their memory in the upper half of all addresses.
        return array("q", array("Q", map(Tensor.data_ptr, tensors)).tobytes())


class Partition:
    """Indices of the tensors, by the implementation that can step them.

    Attributes:
        native: one list of indices for each call of the native op: tensors of one device and the
            same dtypes, with flat memory in all roles.
        rest: indices that only the reference can step.
    """

    __slots__ = ("native", "rest")

    def __init__(self, native: tuple[tuple[int, ...], ...], rest: tuple[int, ...]) -> None:
        self.native = native
        self.rest = rest


def partition(roles: Roles) -> Partition:
    """Sort checked tensors into native calls and the rest."""
    calls: dict[tuple[object, ...], list[int]] = {}
    rest: list[int] = []
    lists = tuple(roles.values())
    for index, members in enumerate(zip(*lists, strict=True)):
        dtypes = tuple([member.dtype for member in members])
        known = all(dtype in DTYPES or dtype is torch.uint8 for dtype in dtypes)
        if known and flat(members):
            calls.setdefault((members[0].device, *dtypes), []).append(index)
        else:
            rest.append(index)
    return Partition(tuple(map(tuple, calls.values())), tuple(rest))


def flat(members: Sequence[Tensor]) -> bool:
    """Return whether tensors of one shape have their elements in one order, without gaps."""
    if any(map(Tensor.is_neg, members)):
        return False
    if all(map(Tensor.is_contiguous, members)):
        return True
    strides = members[0].stride()
    return is_dense(members[0]) and all(member.stride() == strides for member in members)


class Occupied:
    """The memory that a call writes, to find gradients that may share it.

    Tensors whose elements alternate count as one block, including the gaps.

    Args:
        tensors: written tensors that share no element with each other.
    """

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        self._starts, self._stops = array("q"), array("q")
        for start, stop in sorted(extent(tensor) for tensor in tensors if tensor.numel()):
            if self._stops and start < self._stops[-1]:
                self._stops[-1] = max(self._stops[-1], stop)
            else:
                self._starts.append(start)
                self._stops.append(stop)

    def blocks(self) -> Iterator[tuple[int, int]]:
        """Yield each block's first byte and the byte after its last, in rising order."""
        return zip(self._starts, self._stops, strict=True)

    def meets(self, starts: array[int], nbytes: array[int]) -> bool:
        """Return whether any block of memory overlaps a written one."""
        if not starts or not self._starts:
            return False
        begin = torch.frombuffer(starts, dtype=torch.int64)
        end = begin + torch.frombuffer(nbytes, dtype=torch.int64)
        # Only the last written block that starts before a block's end can overlap it.
        before = torch.searchsorted(torch.frombuffer(self._starts, dtype=torch.int64), end)
        stops = torch.frombuffer(array("q", [LOWEST, *self._stops]), dtype=torch.int64)
        return bool((stops[before] > begin).any())


class PointerTable:
    """The pointer arrays of one native call; holds no tensors.

    Args:
        fields: lists of tensors by the C struct's field name; the first gives the sizes.
        numbers: the tensors' numbers if they are not their indices; see `TensorLists`.
        starts: the numbers of their first elements if they are not 0; see `TensorLists`.

    Attributes:
        device: the device of the first list's tensors.
        numels: the sizes.
        numbers: the numbers.
        starts: the first elements' numbers, or none.
        pointers: the addresses, by field.

    Raises:
        ValueError: a tensor has elements but no memory (a fake or wrapper tensor).
    """

    def __init__(
        self,
        fields: Roles,
        numbers: Sequence[int] | None = None,
        starts: Sequence[int] | None = None,
    ) -> None:
        leaders = next(iter(fields.values()))
        self.device = leaders[0].device
        self.numels = array("q", map(Tensor.numel, leaders))
        self.numbers = array("I", range(len(leaders)) if numbers is None else numbers)
        self.starts = array("q", starts or ())
        self.pointers = {field: addresses(tensors) for field, tensors in fields.items()}
        for field, pointers in self.pointers.items():
            if 0 in pointers:
                self._check_memory(field, pointers)

    def _check_memory(self, field: str, pointers: array[int]) -> None:
        for index, (pointer, numel) in enumerate(zip(pointers, self.numels, strict=True)):
            if numel and not pointer:
                raise ValueError(
                    f"{field}[{index}] has elements but no memory that a kernel can reach; pass an "
                    f"ordinary tensor."
                )

    def replace(self, field: str, pointers: array[int]) -> None:
        """Replace the addresses, in the memory that filled calls read."""
        self.pointers[field][:] = pointers

    def slot(self, field: str, index: int) -> int:
        """Return the address of one entry of a pointer array, valid as long as this table lives."""
        start, _ = self.pointers[field].buffer_info()
        return start + 8 * index

    def fill(self, args: ctypes.Structure) -> None:
        """Write count, sizes and pointer arrays into a call's arguments."""
        args.struct_size = ctypes.sizeof(args)
        args.count = len(self.numels)
        args.numels = self.numels.buffer_info()[0]
        args.tensor_numbers = self.numbers.buffer_info()[0]
        args.first_elements = self.starts.buffer_info()[0] if self.starts else None
        for field, pointers in self.pointers.items():
            setattr(args, field, pointers.buffer_info()[0])
