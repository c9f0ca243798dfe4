"""`DeviceProperties`, a dataclass: its definition costs a first load a third of a millisecond."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DeviceProperties:
    """Properties of one device.

    Attributes:
        name: the maker's name of the device.
        uuid: its identity across processes, or ``None`` if it has none.
        total_memory: bytes of memory that it has.
        capability: generation or instruction set, such as ``"9.0"`` or ``"AVX512"``, or ``None``.
        driver: version of its driver, or ``None``.
    """

    name: str
    uuid: str | None
    total_memory: int
    capability: str | None
    driver: str | None
