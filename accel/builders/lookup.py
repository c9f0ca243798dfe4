"""From a builder's name to its class, on any backend, third parties' ops included."""

from __future__ import annotations

import logging
import sys
from typing import Any

from accel.builders.base import OpBuilder
from accel.builders.convention import DECLARED, HOST, conventional, name_of
from accel.builders.kinds import declared
from accel.errors import UnknownOp, suggestion
from accel.record import Record
from accel.targets import EntryPoint, installed, split

ENTRY_POINT_GROUP = "accel.ops"
_log = logging.getLogger("accel")


class _Answer(Record):
    """A builder that was found, and the inputs of the search."""

    builder: type[OpBuilder]
    asked: str
    own: object
    registered: dict[str, str]
    points: tuple[EntryPoint, ...]


_registered: dict[str, str] = {}
_derived: dict[tuple[Any, ...], type[OpBuilder]] = {}
_answers: dict[tuple[str, str, str, bool | None, str], _Answer] = {}


def builder_name(op: str) -> str:
    """Return the builder's name for an op's name: ``"my_op"`` gives ``"MyOpBuilder"``."""
    return "".join(part[:1].upper() + part[1:] for part in op.split("_")) + "Builder"


def register_op(name: str, target: str, *, replace: bool = False) -> None:
    """Make an op known on every backend, under the builder name that `builder_name` gives.

    If a backend's builders module has a class of that name, that class is used; otherwise the
    implementations that `accel.builders.convention` finds beside the op, or its reference. The op's
    class is imported when it is first loaded.

    Args:
        name: the op's name: lower-case letters, digits and ``_``.
        target: the class, as ``"module:Class"``, with the interface of `accel.ops.base.Op`.
        replace: whether another registration of that name may be replaced.

    Raises:
        TypeError: `target` is not a string.
        ValueError: `name` or `target` is malformed, or `name` is taken by another op.
    """
    if not name.isidentifier() or name != name.lower():
        raise ValueError(f"register_op: {name!r} is not a lower-case identifier.")
    try:
        split(target)
    except (TypeError, ValueError) as error:
        raise type(error)(f"register_op: {error}") from None
    taken = _ops().get(name)
    if taken is not None and taken != target and not replace:
        raise ValueError(
            f"register_op: {name!r} is already {taken}; pass replace=True to use {target} instead."
        )
    _registered[name] = target


def _ops() -> dict[str, str]:
    """Op name to ``"module:Class"``: built in, then installed, then registered."""
    ops = dict(DECLARED)
    for point in installed():
        if point.group != ENTRY_POINT_GROUP:
            continue
        if point.name in ops and ops[point.name] != point.target:
            _log.warning(
                "entry point %s = %s is ignored: that op is already %s",
                point.name,
                point.target,
                ops[point.name],
            )
            continue
        ops[point.name] = point.target
    return {**ops, **_registered}


def builder_names(*modules: str) -> tuple[str, ...]:
    """Return the names of all builders, sorted: built in, registered, installed.

    Imports no torch. `modules` are further builder modules, such as those of other backends.
    """
    names = {_name_of(op) for op in _ops()}
    for module in modules:
        names.update(name for name, _ in declared(module))
    return tuple(sorted(names))


def _name_of(op: str) -> str:
    return name_of(DECLARED[op]) if op in DECLARED else builder_name(op)


def find_builder(
    name: str,
    module: str,
    backend: str,
    uses_triton: bool | None = None,
    device_type: str = "",
) -> type[OpBuilder]:
    """Return the class that has the builder name (or op name) `name` on `backend`.

    Args:
        name: ``"FusedAdamBuilder"``, or the op's own name ``"fused_adam"``.
        module: the backend's builders module, ``""`` if it has none.
        backend: the backend's name, for the reference rung of an op without a builder in `module`.
        uses_triton: whether Triton compiles for its devices, from its strategy; ``None``: from the
            builders in `module`.
        device_type: torch's name of its devices, from its strategy; ``""``: `backend`.

    Raises:
        UnknownOp: no op of that name exists anywhere.
    """
    devices = "" if device_type == backend else device_type
    query = (name, module, backend, uses_triton, devices)
    known = _answers.get(query)
    if known is not None and _holds(known, module):
        return known.builder
    asked = name if name.endswith("Builder") else _name_of(name)
    # Read before the search, so that a registration during the search is noticed.
    registered, points = dict(_registered), installed()
    builder = _find(name, asked, module, backend, uses_triton, devices)
    own = _in_module(module, asked)
    _answers[query] = _Answer(builder, asked, own, registered, points)
    return builder


def _holds(known: _Answer, module: str) -> bool:
    return (
        known.own is _in_module(module, known.asked)
        and known.registered == _registered
        and known.points is installed()
    )


def _in_module(module: str, asked: str) -> object:
    return getattr(sys.modules.get(module), asked, None) if module else None


def _find(
    name: str, asked: str, module: str, backend: str, uses_triton: bool | None, devices: str
) -> type[OpBuilder]:
    own = dict(declared(module)) if module else {}
    if asked in own:
        return _for_strategy(own[asked], backend, uses_triton, devices)
    for op, target in _ops().items():
        if _name_of(op) == asked:
            if op in DECLARED and op.startswith(HOST):
                # It steps tensors of the host, whatever the model's device.
                return dict(declared("accel.builders.cpu"))[asked]
            return _conventional(asked, op, target, backend, bool(uses_triton), devices)
    known = sorted({*own, *builder_names()})
    meant = suggestion(asked, known, "Builder")
    raise UnknownOp(f"{name!r} is not a known op.{meant} Known: {', '.join(known)}.")


def _for_strategy(
    builder: type[OpBuilder], backend: str, uses_triton: bool | None, devices: str
) -> type[OpBuilder]:
    """Return a backend's builder with its strategy's attributes; other backends' unchanged."""
    triton = builder.uses_triton if uses_triton is None else uses_triton
    same = triton == builder.uses_triton and devices == builder.device_type
    if same or builder.backend != backend:
        return builder
    attributes = {"uses_triton": triton, "device_type": devices, "__module__": builder.__module__}
    made: Any = type(builder.__name__, (builder,), {**attributes, "__doc__": builder.__doc__})
    return _derived.setdefault((builder, triton, devices), made)


def _conventional(
    name: str, op: str, target: str, backend: str, uses_triton: bool, devices: str
) -> type[OpBuilder]:
    """Return the builder of an op that `backend` has no own builder for."""
    key = (backend, target, uses_triton, devices)
    found = _derived.get(key)
    # Threads that ask at once make several, and all are given the first.
    return found or _derived.setdefault(
        key,
        conventional(name, op, target, backend, uses_triton=uses_triton, device_type=devices),
    )
