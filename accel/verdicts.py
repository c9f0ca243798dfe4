"""The verdicts on all known backends, for reports."""

from __future__ import annotations

from dataclasses import dataclass

from accel.probe import Accepted
from accel.registry import Entry, in_order, known, probe
from accel.shown import Sheet, Shown


@dataclass(frozen=True)
class Candidate:
    """The verdict on one known backend.

    Attributes:
        name: the backend's name, as ``ACCELERATOR`` takes it.
        accepted: whether it can be used here.
        reason: the finding.
        fix: what to do about a rejection, or ``""``.
        error: the traceback of a backend that could not be imported or probed, or ``None``.
        priority: its place in detection; the highest accepted one is taken.
        origin: ``built in``, ``registered``, or the package that registers it.
    """

    name: str
    accepted: bool
    reason: str
    fix: str
    error: str | None
    priority: int
    origin: str


class Candidates(Shown, list[Candidate]):
    """The verdicts as a list, which a notebook shows as a table."""

    def sheets(self) -> tuple[Sheet]:
        """Return a row for each backend."""
        rows = [
            (one.name, "yes" if one.accepted else "no", f"{one.reason} {one.fix}".strip())
            for one in self
        ]
        return (Sheet("Backends", ("backend", "usable", "reason"), rows),)


def candidates() -> Candidates:
    """Return the verdict on every known backend, in the order of detection.

    Creates no device context, compiles nothing, prints nothing and raises nothing: a backend that
    fails is a rejected candidate whose `error` holds the traceback.
    """
    entries, shadowed = known()
    judged = map(_judge, in_order(entries))
    return Candidates([*judged, *(_shadowed(plugin, taken) for plugin, taken in shadowed)])


def _judge(entry: Entry) -> Candidate:
    verdict, error = probe(entry)
    reason, fix = (
        (verdict.note, "") if isinstance(verdict, Accepted) else (verdict.reason, verdict.fix)
    )
    return Candidate(entry.name, bool(verdict), reason, fix, error, entry.priority, entry.origin)


def _shadowed(plugin: Entry, taken: Entry) -> Candidate:
    reason = f"{plugin.target} claims a name of {taken.target} ({taken.origin})."
    fix = f"Rename the entry point in {plugin.origin}, or uninstall it."
    return Candidate(plugin.name, False, reason, fix, None, plugin.priority, plugin.origin)
