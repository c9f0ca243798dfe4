"""The pointer arrays of a native call, copied to the device for a portable kernel."""

from __future__ import annotations

import ctypes
from array import array
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from accel.ops.native import stream_of
from accel.ops.optimizers.capture import is_captured
from accel.ops.optimizers.triton.staging import Reserve, pinned

BLOCK = 1024
"""Elements of one program."""

SCALARS = ("found_inf", "noop_flag", "lr_tensor", "grad_scale")
"""Scalars on the device, in the order of the table's first row."""

NUMEL = 0
FIRST_BLOCK = 1
NUMBER = 2
"""Columns of a tensor's row: its elements, its first program, its number; then addresses."""

ROLES = ("params", "grads", "masters", "steps")
"""Pointer arrays of every op, in the order of their columns; those of the states follow."""

_ADDRESSES = 3

OWN = 5
"""Columns at a row's end that are not addresses.

They are the index of its first program among those of all launches, and eight float32 that a
kernel over tensors stores for the kernel over their elements.
"""

_KEPT = 64


@dataclass(frozen=True, slots=True)
class DeviceTable:
    """One call's tensors on the device.

    Attributes:
        rows: int64, one row for the addresses of `SCALARS` and then one for each tensor; 0 means
            that there is none.
        launches: for each launch, the index of each program's tensor, int32, and whether the
            addresses and sizes of its full-size tensors are all multiples of 16. There is one
            launch for tensors of which this is true, and one for the rest.
    """

    rows: Tensor
    launches: tuple[tuple[Tensor, bool], ...]


_kept: OrderedDict[tuple[object, ...], DeviceTable] = OrderedDict()
# Tables, and the memory from which they are copied, that graphs read at every replay; they are kept
# until the process ends.
_captured: list[tuple[DeviceTable, Tensor | None]] = []
_reserve = Reserve()


def device_table(
    args: Any, states: tuple[str, ...], device: torch.device, extras: tuple[str, ...] = ()
) -> DeviceTable:
    """Return the table of a call's arguments; equal addresses give the same table.

    A new table is copied from pinned memory on the device's current stream: the host does not wait,
    and a graph can capture the copy.

    Args:
        args: the op's argument struct.
        states: its pointer arrays beside `ROLES`, in the order of the further columns.
        device: the tensors' device.
        extras: pointer arrays of tensors that have another size than the parameter.

    Raises:
        Unsupported: inside a capture, if too little pinned memory was reserved before it.
    """
    count = args.count
    scalars = tuple(getattr(args, name) or 0 for name in SCALARS)
    columns = tuple(
        ctypes.string_at(at, 8 * count) if (at := getattr(args, role)) else b""
        for role in ("numels", *ROLES, *states, *extras)
    )
    given = args.tensor_numbers
    numbers = (*array("I", ctypes.string_at(given, 4 * count)),) if given else (*range(count),)
    # A table's memory belongs to the stream that is current when the table is made.
    key = (device, stream_of(device), scalars, numbers, *columns)
    words = (count + 1) * _width(columns) + 2 * count
    table = _kept.pop(key, None)
    staging = None
    captured = device.type != "cpu" and is_captured(device)
    if captured and table is None:
        staging = _reserve.take(words, device)
        table = _make(scalars, numbers, columns, device, len(extras), staging)
    else:
        if device.type != "cpu" and not captured:
            _reserve.refill(words, device)
        if table is None:
            table = _make(scalars, numbers, columns, device, len(extras), pinned(words, device))
        _kept[key] = table
    if captured:
        # No other call may use a table made here, because only a replay fills it.
        _captured.append((table, staging))
    while len(_kept) > _KEPT:
        _kept.popitem(last=False)
    return table


def _width(columns: tuple[bytes, ...]) -> int:
    return _ADDRESSES + len(columns) - 1 + OWN


def _make(
    scalars: tuple[int, ...],
    numbers: tuple[int, ...],
    columns: tuple[bytes, ...],
    device: torch.device,
    extras: int,
    staging: Tensor,
) -> DeviceTable:
    """Return a table that is copied from `staging`, which is written here."""
    width = _width(columns)
    count = len(columns[0]) // 8
    ends = _fill(staging, scalars, numbers, columns, width - OWN - extras)
    table = torch.empty(len(staging), dtype=torch.int64, device=device)
    table.copy_(staging, non_blocking=True)
    rows, own_ends = table[: -2 * count].view(count + 1, width), table[-2 * count :].view(2, count)
    launches = []
    for aligned, host, there in zip((True, False), ends, own_ends, strict=True):
        programs = int(host[-1])
        if programs:
            # Computed on the device, because there are far more programs than tensors to copy.
            each = torch.arange(programs, dtype=torch.int64, device=device)
            owners = torch.searchsorted(there, each, right=True, out_int32=True)
            launches.append((owners, aligned))
    return DeviceTable(rows, tuple(launches))


def _fill(
    staging: Tensor,
    scalars: tuple[int, ...],
    numbers: tuple[int, ...],
    columns: tuple[bytes, ...],
    full_size: int,
) -> Tensor:
    """Write the rows and, after them, the end of each tensor's programs; return these ends.

    Args:
        staging: the memory to write.
        scalars: addresses of `SCALARS`.
        numbers: the tensors' numbers.
        columns: elements, and addresses of each role.
        full_size: the first column of tensors that have another size than the parameter.
    """
    count = len(columns[0]) // 8
    staging.zero_()
    rows, ends = staging[: -2 * count].view(count + 1, -1), staging[-2 * count :].view(2, count)
    rows[0, : len(scalars)] = torch.tensor(scalars, dtype=torch.int64, device="cpu")
    rows[1:, NUMBER] = torch.tensor(numbers, dtype=torch.int64, device="cpu")
    for column, data in enumerate(columns):
        if data:
            place = NUMEL if column == 0 else _ADDRESSES + column - 1
            rows[1:, place] = torch.frombuffer(bytearray(data), dtype=torch.int64)
    checked = [NUMEL, *range(_ADDRESSES, full_size)]
    checked.remove(_ADDRESSES + ROLES.index("steps"))
    aligned = (rows[1:, checked] & 15 == 0).all(1)
    before = 0
    for chosen, end in zip((aligned, ~aligned), ends, strict=True):
        programs = torch.where(chosen, (rows[1:, NUMEL] + BLOCK - 1) // BLOCK, 0)
        torch.cumsum(programs, 0, out=end)
        first = end - programs
        rows[1:, FIRST_BLOCK] += torch.where(chosen, first, 0)
        rows[1:, -OWN] += torch.where(chosen, first + before, 0)
        before = int(end[-1])
    return ends
