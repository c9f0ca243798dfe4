"""The pointer arrays of a native call, moved to the device for a portable kernel."""

from __future__ import annotations

import ctypes
from array import array
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from accel.ops.native import stream_of

BLOCK = 1024
"""Elements of one program."""

SCALARS = ("found_inf", "noop_flag", "lr_tensor", "grad_scale")
"""Scalars on the device, in the order of the table's first row."""

NUMEL = 0
FIRST_BLOCK = 1
NUMBER = 2
"""Columns of a tensor's row: its elements, its first program, its number; then come addresses."""

ROLES = ("params", "grads", "masters", "steps")
"""Pointer arrays of every op, in the order of their columns; those of its states follow."""

_ADDRESSES = 3

_KEPT = 16


@dataclass(frozen=True, slots=True)
class DeviceTable:
    """One call's tensors on the device.

    Attributes:
        rows: int64, one row for the addresses of `SCALARS` and then one for each tensor; 0 stands
            for what is not there.
        launches: int32, for each program the index of its tensor; and whether the addresses and
            sizes of all its full-size tensors are multiples of 16. One launch for those that are,
            one for the rest.
    """

    rows: Tensor
    launches: tuple[tuple[Tensor, bool], ...]


_kept: OrderedDict[tuple[object, ...], DeviceTable] = OrderedDict()
# Graphs read them at every replay, for as long as the process lives.
_captured: list[DeviceTable] = []


def device_table(
    args: Any, states: tuple[str, ...], device: torch.device, extras: tuple[str, ...] = ()
) -> DeviceTable:
    """Return the table of a call's arguments, the same one for the same addresses.

    A new one is copied from host memory, which a graph capture forbids: step once before it.

    Args:
        args: the op's argument struct.
        states: its pointer arrays beside `ROLES`, in the order of the further columns.
        device: where the tensors are.
        extras: pointer arrays of tensors that have another size than the parameter.
    """
    count = args.count
    scalars = tuple(getattr(args, name) or 0 for name in SCALARS)
    columns = tuple(
        ctypes.string_at(at, 8 * count) if (at := getattr(args, role)) else b""
        for role in ("numels", *ROLES, *states, *extras)
    )
    given = args.tensor_numbers
    numbers = (*array("I", ctypes.string_at(given, 4 * count)),) if given else (*range(count),)
    # A table's memory belongs to the stream that is current when it is made.
    key = (device, stream_of(device), scalars, numbers, *columns)
    table = _kept.pop(key, None) or _make(scalars, numbers, columns, device, len(extras))
    _kept[key] = table
    if device.type == "cuda" and torch.cuda.is_current_stream_capturing():
        _captured.append(table)
    while len(_kept) > _KEPT:
        _kept.popitem(last=False)
    return table


def _make(
    scalars: tuple[int, ...],
    numbers: tuple[int, ...],
    columns: tuple[bytes, ...],
    device: torch.device,
    extras: int,
) -> DeviceTable:
    count = len(columns[0]) // 8
    width = _ADDRESSES + len(columns) - 1
    rows = torch.zeros(count + 1, width, dtype=torch.int64, device="cpu")
    rows[0, : len(scalars)] = torch.tensor(scalars, dtype=torch.int64, device="cpu")
    rows[1:, NUMBER] = torch.tensor(numbers, dtype=torch.int64, device="cpu")
    for column, data in enumerate(columns):
        if data:
            place = NUMEL if column == 0 else _ADDRESSES + column - 1
            rows[1:, place] = torch.frombuffer(bytearray(data), dtype=torch.int64)
    full_size = [NUMEL, *range(_ADDRESSES, _ADDRESSES + len(columns) - 1 - extras)]
    full_size.remove(_ADDRESSES + ROLES.index("steps"))
    aligned = (rows[1:, full_size] & 15 == 0).all(1)
    launches = []
    for wanted in (True, False):
        chosen = aligned == wanted
        programs = torch.where(chosen, (rows[1:, NUMEL] + BLOCK - 1) // BLOCK, 0)
        rows[1:, FIRST_BLOCK] += torch.where(chosen, programs.cumsum(0) - programs, 0)
        owners = torch.arange(count, dtype=torch.int32, device="cpu").repeat_interleave(programs)
        if len(owners):
            launches.append((owners.to(device), wanted))
    return DeviceTable(rows.to(device), tuple(launches))
