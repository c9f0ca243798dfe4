"""The known backends: their order of detection, and which of them can be used here."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from types import MappingProxyType
from typing import Any

from accel.base import Accelerator
from accel.builders import lookup
from accel.builders.lookup import register_op as register_op
from accel.errors import BackendUnavailable, UnknownBackend
from accel.probe import FAILURES, Accepted, Probe, Rejected
from accel.record import Record
from accel.targets import installed, resolve, split

ENTRY_POINT_GROUP = "accel.backends"
PLUGIN_PRIORITY = 100
_log = logging.getLogger("accel")


class Entry(Record):
    """One known backend: the place of its class, and its priority in detection."""

    name: str
    target: str
    priority: int
    hint: str = ""
    origin: str = "built in"


_BUILT_IN = MappingProxyType(
    {
        entry.name: entry
        for entry in (
            Entry("cuda", "accel.cuda:CUDAAccelerator", 400),
            Entry("xpu", "accel.xpu:XPUAccelerator", 300),
            Entry("hpu", "accel.hpu:HPUAccelerator", 200),
            Entry("cpu", "accel.cpu:CPUAccelerator", 0),
        )
    }
)
# Strategies for devices whose vendors may provide a better one: any other claim to the name wins.
_GENERIC = MappingProxyType(
    {
        name: Entry(name, f"accel.vendors:{name.upper()}Accelerator", 50)
        for name in ("mps", "npu", "mlu", "musa", "sdaa", "supa")
    }
)
_registered: dict[str, Entry] = {}
_instances: dict[Entry, Accelerator] = {}
_by_kind: dict[str, tuple[Any, ...]] = {}


def register_accelerator(
    name: str,
    target: str,
    *,
    priority: int = PLUGIN_PRIORITY,
    hint: str = "",
    replace: bool = False,
) -> None:
    """Register a backend under `name`; its class is imported on first use.

    Args:
        name: what ``ACCELERATOR`` will take: lower-case letters, digits and ``_``.
        target: where the class is, as ``"module:Class"``.
        priority: place in detection. Built in are cuda 400, xpu 300, hpu 200 and cpu 0; the
            default, 100, comes after every built-in device and before the CPU; 50 are the
            strategies of `accel.vendors`, which give way to any other of their name.
        hint: the sentence to print when the class cannot be imported, such as what to install.
        replace: whether another registration of that name may be replaced.

    Raises:
        TypeError: `target` is not a string.
        ValueError: `name` or `target` is malformed, or `name` is taken by another class.
    """
    if not name.isidentifier() or name != name.lower():
        raise ValueError(f"register_accelerator: {name!r} is not a lower-case identifier.")
    try:
        split(target)
    except (TypeError, ValueError) as error:
        raise type(error)(f"register_accelerator: {error}") from None
    entry = Entry(name, target, priority, hint, "registered")
    taken = _registered.get(name) or _BUILT_IN.get(name)
    if taken is not None and taken.target != target and not replace:
        raise ValueError(
            f"register_accelerator: {name!r} is already {taken.target} ({taken.origin}); "
            f"pass replace=True to use {target} instead."
        )
    _registered[name] = entry


def _plugins() -> Iterator[Entry]:
    """Yield the backends of packages in the order of the packages' names; the first claim wins.

    Entry points are found in the order of a folder, which differs between machines.
    """
    found = [
        Entry(point.name, point.target, PLUGIN_PRIORITY, "", f"package {point.package}")
        for point in installed()
        if point.group == ENTRY_POINT_GROUP
    ]
    yield from sorted(found, key=lambda entry: (entry.origin, entry.target))


def known() -> tuple[dict[str, Entry], list[tuple[Entry, Entry]]]:
    """Return every backend by name, and each plugin whose name another has, with that other."""
    entries = {**_BUILT_IN, **_registered}
    shadowed: list[tuple[Entry, Entry]] = []
    for plugin in _plugins():
        taken = entries.get(plugin.name)
        if taken is None:
            entries[plugin.name] = plugin
        elif taken.target != plugin.target:
            shadowed.append((plugin, taken))
    return {**_GENERIC, **entries}, shadowed


def _load(entry: Entry) -> Accelerator:
    """Import and construct the strategy of `entry`, once per process."""
    if entry in _instances:
        return _instances[entry]
    backend = resolve(entry.target)
    if not (isinstance(backend, type) and issubclass(backend, Accelerator)):
        raise TypeError(f"{entry.target} is not a subclass of accel.Accelerator.")
    made = backend()
    if made.name != entry.name:
        raise TypeError(
            f"{entry.target} is registered as {entry.name!r} but its name is {made.name!r}."
        )
    return _instances.setdefault(entry, made)


def probe(entry: Entry) -> tuple[Probe, str | None]:
    """Ask a backend whether it can be used; a plugin that raises is rejected, never fatal."""
    try:
        verdict = _load(entry).probe()
    except FAILURES as error:
        reason = f"{entry.target} failed: {type(error).__name__}: {str(error).rstrip('.')}."
        fix = entry.hint or f"Fix it or uninstall it ({entry.origin})."
        import traceback

        return Rejected(reason, fix), traceback.format_exc()
    if not isinstance(verdict, Accepted | Rejected):
        reason = f"{entry.target}.probe() returned {verdict!r}, not Accepted or Rejected."
        return Rejected(reason, f"Fix it ({entry.origin})."), None
    return verdict, None


def in_order(entries: dict[str, Entry]) -> list[Entry]:
    """Return backends in the order of detection."""
    return sorted(entries.values(), key=lambda entry: (-entry.priority, entry.name))


def detect() -> Accelerator:
    """Return the accepted backend of the highest priority; log the choice once, with reasons."""
    verdicts: list[str] = []
    for entry in in_order(known()[0]):
        verdict, _ = probe(entry)
        if verdict:
            _log.info("chose %s (%s)", entry.name, "; ".join(verdicts) or "first in order")
            return _load(entry)
        verdicts.append(f"{entry.name}: {verdict}")
    raise BackendUnavailable(f"No backend can be used here. {' '.join(verdicts)}")


def require(name: str, asked: str) -> Accelerator:
    """Return the backend `name`, or raise an error that says why it cannot be used.

    Args:
        name: the backend's name.
        asked: how it was asked for, such as ``"ACCELERATOR=xpu"``, for the message.

    Raises:
        UnknownBackend: nothing of that name is known.
        BackendUnavailable: it is known and cannot be used here.
    """
    entry = {**_BUILT_IN, **_registered}.get(name) or known()[0].get(name)
    if entry is None:
        raise _unknown(name, asked)
    verdict, error = probe(entry)
    if isinstance(verdict, Accepted):
        return _load(entry)
    more = " accel.candidates() has the traceback." if error is not None else ""
    instead = "Or unset ACCELERATOR" if asked.startswith("ACCELERATOR=") else "Or ask for 'auto'"
    raise BackendUnavailable(
        f"{asked}, but {verdict} {instead} to use what this machine has.{more}"
    )


def _unknown(name: str, asked: str) -> UnknownBackend:
    from accel.misnamed import unknown_message

    return UnknownBackend(unknown_message(name, asked, sorted(known()[0])))


def for_device_type(kind: str) -> Accelerator:
    """Return the strategy that drives devices of the torch device type `kind`.

    Raises:
        UnknownBackend: no known backend drives them.
    """
    known = _by_kind.get(kind)
    if known is not None and known[1:] == (_registered, installed(), _instances):
        strategy: Accelerator = known[0]
        return strategy
    # Before the search, so that nothing can be registered unseen meanwhile.
    registered, points = dict(_registered), installed()
    strategy = _find_by_kind(kind)
    _by_kind[kind] = (strategy, registered, points, _instances)
    return strategy


def _find_by_kind(kind: str) -> Accelerator:
    entries = known()[0]
    first = [entries[kind]] if kind in entries else []
    meant = ""
    for entry in first + [entry for entry in in_order(entries) if entry not in first]:
        try:
            strategy = _load(entry)
        except FAILURES as error:
            _log.debug("%s cannot be asked for its device type: %s", entry.name, error)
            continue
        if strategy.device_type == kind:
            return strategy
        if entry.name == kind:
            meant = f" torch calls the devices of backend {kind!r} {strategy.device_type!r}."
    from accel.misnamed import nearest

    names = sorted(entries)
    raise UnknownBackend(
        f"device type {kind!r}, which no known backend drives."
        f"{meant or nearest(kind.lower(), names)} "
        f"Known: {', '.join(names)}; accel.register_accelerator() adds one."
    )


def builder_names() -> tuple[str, ...]:
    """Return the sorted names of all op builders, those of third parties' backends included.

    Imports no torch of its own; a backend that cannot be imported here adds no names.
    """
    modules: list[str] = []
    for entry in known()[0].values():
        if entry in _BUILT_IN.values() or entry in _GENERIC.values():
            continue
        try:
            module = _load(entry).op_builder_dir()
            lookup.builder_names(module)
        except FAILURES as error:
            _log.debug("%s adds no builder names: %s", entry.name, error)
            continue
        modules.append(module)
    return lookup.builder_names(*modules)


def strategy(backend: str) -> Accelerator:
    """Return the strategy of a known backend, whether or not it can be used here.

    Raises:
        UnknownBackend: nothing of that name is known.
    """
    entry = known()[0].get(backend)
    if entry is None:
        raise _unknown(backend, f"backend {backend!r}")
    return _load(entry)
