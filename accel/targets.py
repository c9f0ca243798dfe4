"""Names of objects, ``"module:Class"``, and the entry points of packages that register them."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

from accel.record import Record

GROUPS = ("accel.ops", "accel.backends")


class EntryPoint(Record):
    """One entry point.

    Attributes:
        group: one of `GROUPS`.
        name: the registered name.
        target: the object, as ``"module:Class"``.
        package: name of the package.
    """

    group: str
    name: str
    target: str
    package: str


def split(target: str) -> tuple[str, str]:
    """Return the module and the name in it; raises if it is not ``"module:Class"``.

    Raises:
        TypeError: it is not a string.
        ValueError: it has another form.
    """
    if not isinstance(target, str):
        raise TypeError(f"{target!r} is not text of the form 'module:Class'.")
    module, colon, name = target.partition(":")
    if not (module and colon and all(part.isidentifier() for part in name.split("."))):
        raise ValueError(f"{target!r} is not of the form 'module:Class'.")
    return module, name


def resolve(target: str) -> Any:
    """Import the module of ``"module:Class"`` and return the object of that name.

    Raises:
        ValueError: `target` has another form.
        AttributeError: the module has no such name.
    """
    module, name = split(target)
    found: Any = import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found


_found: tuple[tuple[str, ...], tuple[EntryPoint, ...]] | None = None


def installed() -> tuple[EntryPoint, ...]:
    """Return the entry points of this project's groups; the same object while `sys.path` is.

    Reading takes 0.1 ms for each installed package. A package that is installed later into a folder
    on `sys.path` is seen by new processes, or after `forget_installed`.
    """
    global _found
    path = tuple(sys.path)
    if _found is None or _found[0] != path:
        _found = (path, tuple(_read()))
    return _found[1]


def forget_installed() -> None:
    """Make the next call of `installed` read the entry points again."""
    global _found
    _found = None


def _read() -> list[EntryPoint]:
    from importlib.metadata import distributions, entry_points

    # Most machines have none, and to look for the groups' names costs a third of parsing them all.
    texts = (one.read_text("entry_points.txt") or "" for one in distributions())
    if not any(f"[{group}]" in text for text in texts for group in GROUPS):
        return []
    everything = entry_points()
    return [
        EntryPoint(
            group,
            point.name,
            point.value,
            point.dist.name if point.dist is not None else "an unnamed package",
        )
        for group in GROUPS
        for point in everything.select(group=group)
    ]
