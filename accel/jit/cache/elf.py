"""Checks of a shared library's own tables before it is mapped.

The system's loader trusts those tables: if a file is shorter than they say, the process dies of
SIGBUS at the first access.
"""

from __future__ import annotations

import struct
from functools import cache

from accel.record import Record

_MAGIC = b"\x7fELF"
_OTHERS = {
    b"!<arch>\n": "is an archive of objects",
    b"!<thin>\n": "is an archive of objects",
    b"BC\xc0\xde": "is LLVM bitcode, which is not compiled yet",
    b"#!": "is a script",
}
_KINDS = {
    1: "is an object file, which is not linked yet",
    2: "is a program",
    4: "is the memory of a process that crashed",
}
_SHARED = 3
_MACHINES = {
    **{3: "i386", 20: "ppc", 21: "ppc64", 22: "s390", 40: "arm", 62: "x86-64", 183: "aarch64"},
    **{243: "riscv", 258: "loongarch"},
}
_LOADED, _DYNAMIC, _NO_BYTES, _STRINGS, _SYMBOLS = 1, 2, (0, 8), 5, 6


class _Layout(Record):
    """Formats of the 32-bit or 64-bit tables, and the places of offset, address and size."""

    header: str
    segment: str
    at: tuple[int, int, int]
    section: str
    entry: str


_LAYOUTS = {
    1: _Layout("HHIIIIIHHHHHH", "8I", (1, 2, 4), "10I", "iI"),
    2: _Layout("HHIQQQIHHHHHH", "IIQQQQQQ", (2, 3, 5), "IIQQQQIIQQ", "qQ"),
}
_ORDERS = {1: "<", 2: ">"}


def fault_of(data: bytes) -> str:
    """Return the fault of a shared library's bytes, such as ``"is empty"``; ``""`` for none.

    Its symbols and the libraries that it needs are left to the loader.
    """
    if not data:
        return "is empty"
    if not data.startswith(_MAGIC):
        found = next((what for start, what in _OTHERS.items() if data.startswith(start)), "")
        return f"{found or f'begins with {data[:8]!r}, as no ELF file does'}, not a shared library"
    try:
        return _fault_of_tables(data)
    except (struct.error, IndexError):
        return f"is truncated: it has {len(data)} bytes, fewer than the header of an ELF file"


def check(data: bytes) -> None:
    """Raise `ValueError` if these are not the bytes of a shared library that can be mapped."""
    if fault := fault_of(data):
        raise ValueError(f"it {fault}")


def _fault_of_tables(data: bytes) -> str:
    layout, order = _LAYOUTS.get(data[4]), _ORDERS.get(data[5])
    if layout is None or order is None:
        return "has the header of no known kind of ELF file"
    facts = struct.unpack_from(order + layout.header, data, 16)
    kind, machine, segments_at, sections_at = facts[0], facts[1], facts[4], facts[5]
    here = _this_process()
    if here and (data[4], data[5], machine) != here:
        return f"is for {_machine(data[4], machine)}, but this process for {_machine(*here[::2])}"
    if kind != _SHARED:
        return f"{_KINDS.get(kind, f'is an ELF file of type {kind}')}, not a shared library"
    segments, end = _table(data, order + layout.segment, segments_at, facts[9])
    sections, its_end = _table(data, order + layout.section, sections_at, facts[11])
    offset, address, size = layout.at
    ends = [end, its_end, *(one[offset] + one[size] for one in segments)]
    ends += [one[4] + one[5] for one in sections if one[1] not in _NO_BYTES]
    if max(ends) > len(data):
        return f"is truncated: it has {len(data)} bytes, and its tables name {max(ends)}"
    mapped = [(one[address], one[size]) for one in segments if one[0] == _LOADED]
    dynamic = [data[s[offset] : s[offset] + s[size]] for s in segments if s[0] == _DYNAMIC]
    return _fault_of_dynamic(dynamic[0] if dynamic else b"", order + layout.entry, mapped)


def _table(data: bytes, entry: str, at: int, count: int) -> tuple[list[tuple[int, ...]], int]:
    """Return a table's entries, none if it is not all there, and where it ends."""
    packed = struct.Struct(entry)
    end = at + packed.size * count
    return list(packed.iter_unpack(data[at:end])) if end <= len(data) else [], end


def _fault_of_dynamic(table: bytes, entry: str, mapped: list[tuple[int, int]]) -> str:
    """Return the fault of the dynamic table, which the loader reads first."""
    packed = struct.Struct(entry)
    whole = len(table) - len(table) % packed.size
    found: dict[int, int] = {}
    for tag, value in packed.iter_unpack(table[:whole]):
        if not tag:
            break
        found.setdefault(tag, value)
    for tag, name in ((_SYMBOLS, "symbols"), (_STRINGS, "names of symbols")):
        place = found.get(tag)
        if place is None or not any(start <= place < start + size for start, size in mapped):
            return f"is damaged: its table of {name} is not in it"
    return ""


def _machine(width: int, number: int) -> str:
    return f"{_MACHINES.get(number, f'machine {number}')} with {32 * width} bits"


@cache
def _this_process() -> tuple[int, int, int] | None:
    """Return class, byte order and machine of this process; ``None`` if they cannot be read."""
    try:
        with open("/proc/self/exe", "rb") as file:  # noqa: PTH123 - when warm
            start = file.read(20)
        (number,) = struct.unpack_from(_ORDERS[start[5]] + "H", start, 18)
    except (OSError, LookupError, struct.error):
        return None
    return start[4], start[5], number
