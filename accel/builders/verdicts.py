"""The verdicts on an op's rungs, for reports and explanations; compiles nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from accel import environment, jit
from accel.builders.choosing import described
from accel.probe import Accepted, Probe, Rejected
from accel.targets import resolve

if TYPE_CHECKING:
    from accel.builders.declaration import Declaration

_ALLOWED_RUNGS = {
    "auto": frozenset({"prebuilt", "jit", "portable", "vendor", "reference"}),
    "native": frozenset({"prebuilt", "jit"}),
    "reference": frozenset({"reference"}),
}
_REFERENCE_NOTE = "plain PyTorch, on every device"


def rungs(builder: Declaration) -> tuple[tuple[str, Probe], ...]:
    """Return every rung of a builder with its verdict, best first."""
    if builder.op:
        reference: Probe = Accepted(_REFERENCE_NOTE)
    else:
        reference = Rejected("a plain library has no reference.")
    return (*_native_rungs(builder), *builder.stand_ins(), ("reference", reference))


def _native_rungs(builder: Declaration) -> tuple[tuple[str, Probe], ...]:
    if not builder.has_sources():
        none = Rejected("this backend has no native implementation.")
        return (("prebuilt", none), ("jit", none))
    packaged = builder.probe_packaged()
    try:
        prebuilt, compiled = jit.availability(builder.recipe())
    except Exception as error:
        broken = Rejected(described(error))
        prebuilt, compiled = ("prebuilt", broken), ("jit", broken)
    return (prebuilt if packaged is None else ("prebuilt", packaged)), compiled


def compatibility(builder: Declaration) -> Probe:
    """Return the verdict on the best rung that the policy in force allows."""
    allowed = _ALLOWED_RUNGS[environment.ops_policy()]
    verdicts = [(rung, probe) for rung, probe in builder.rungs() if rung in allowed]
    for rung, probe in verdicts:
        if isinstance(probe, Accepted):
            return Accepted(f"{rung}: {probe.note}".rstrip(": "))
    return Rejected("; ".join(f"{rung}: {probe}" for rung, probe in verdicts))


def notes(builder: Declaration) -> tuple[str, ...]:
    """Return further sentences about a builder's op; imports torch."""
    if not builder.op:
        return ()
    try:
        op: Any = resolve(builder.op)
    except Exception as error:
        return (f"{builder.op} cannot be imported: {described(error)}",)
    # A third party's op need not be a subclass of ours.
    return tuple(getattr(op, "notes", lambda backend: ())(builder.device_type or builder.backend))
