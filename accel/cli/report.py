"""The report as data: backends with reasons, and ops by backend with their rungs."""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import asdict
from importlib import metadata
from typing import Any

from accel import registry
from accel.probe import FAILURES, Accepted, Rejected
from accel.shown import Sheet, Shown
from accel.verdicts import Candidate, Candidates, candidates

# The load above which other processes compete with the threads of a program.
_BUSY = 0.7


def versions() -> dict[str, str]:
    """Return the versions for a report; ``"not installed"`` for absent packages."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for package in ("accel-torch", "torch", "ninja"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def chosen() -> tuple[str | None, str]:
    """Return the name of the accelerator in use and its origin, or ``None`` and the reason."""
    from accel import environment
    from accel.current import get_accelerator
    from accel.errors import AccelError

    asked = environment.accelerator()
    how = f"ACCELERATOR={asked}" if asked.lower() not in {"", "auto"} else "detected"
    try:
        return get_accelerator().name, how
    except AccelError as error:
        return None, str(error)


def ops() -> list[dict[str, Any]]:
    """Return one row per op: its name, its builder, and per backend the rung and its reason."""
    known = candidates()
    broken = {candidate.name for candidate in known if candidate.error is not None}
    backends = dict.fromkeys(one.name for one in known if one.name not in broken)
    rows = []
    for name in registry.builder_names():
        verdicts = {backend: _verdict(name, backend) for backend in backends}
        rows.append({"op": name, "backends": verdicts})
    return rows


def _verdict(name: str, backend: str) -> dict[str, str]:
    try:
        return _rung_of(name, backend)
    except FAILURES as error:
        return {"rung": "none", "reason": f"its builder failed: {type(error).__name__}: {error}"}


def _rung_of(name: str, backend: str) -> dict[str, str]:
    builder = registry.strategy(backend).create_op_builder(name)
    verdict = builder.compatibility()
    if isinstance(verdict, Rejected):
        return {"rung": "none", "reason": str(verdict)}
    rung, _, note = verdict.note.partition(": ")
    better = [
        f"{other}: {probe}" for other, probe in builder.rungs() if _refused(other, probe, rung)
    ]
    return {"rung": rung, "reason": "; ".join([note, *better])}


def _refused(other: str, probe: Accepted | Rejected, taken: str) -> bool:
    return isinstance(probe, Rejected) and other == "jit" and taken == "reference"


def cache() -> dict[str, Any]:
    """Return the folder of compiled ops, or ``None``, and a note if it is unusual."""
    from accel.errors import AccelError
    from accel.jit.disk import location

    try:
        place = location.locate()
    except (AccelError, OSError) as error:
        return {"path": None, "note": str(error)}
    return {"path": str(place.path), "note": place.note}


def threads() -> dict[str, Any]:
    """Return whether torch's idle threads spin, the machine's load, and whether that hurts now."""
    from accel import environment
    from accel.host import processors

    cpus = len(processors.usable())
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    spin = environment.threads_spin() and cpus > 1
    hurts = spin and load >= _BUSY
    note = f"{cpus} CPUs, load {load:.1f}; "
    if not spin:
        note += "idle threads sleep"
    elif hurts:
        note += (
            "other processes are running, and torch's idle threads spin, which can make a "
            "program on the CPU several times slower: start it with `accel run`"
        )
    else:
        note += "idle threads spin, which is fastest on a machine without other work"
    return {"cpus": cpus, "load": load, "spin": spin, "hurts": hurts, "note": note}


class Report(Shown, dict[str, Any]):
    """The report as a dict, which a notebook shows as tables."""

    def sheets(self) -> tuple[Sheet, Sheet]:
        """Return a table of the backends and one of the ops."""
        columns = ("backend", "rung", "ops", "reason")
        (backends,) = Candidates(Candidate(**row) for row in self["backends"]).sheets()
        return backends, Sheet("Ops on all backends", columns, _op_rows(self["ops"]))


def _op_rows(ops: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """Return a row for every verdict, with the backends and the ops that share it."""
    by_verdict: dict[tuple[str, str, str], list[str]] = {}
    for row in ops:
        for backend, verdict in row["backends"].items():
            key = (backend, verdict["rung"], verdict["reason"])
            by_verdict.setdefault(key, []).append(row["op"].removesuffix("Builder"))
    shared: dict[tuple[str, str, str], list[str]] = {}
    for (backend, rung, reason), names in by_verdict.items():
        shared.setdefault((rung, reason, ", ".join(names)), []).append(backend)
    return [
        (", ".join(backends), rung, names, reason)
        for (rung, reason, names), backends in shared.items()
    ]


def report() -> Report:
    """Return the report: versions, the choice, cache, threads, backends, and ops by backend."""
    name, how = chosen()
    facts = {
        "versions": versions(),
        "accelerator": {"name": name, "chosen": how},
        "backends": [asdict(candidate) for candidate in candidates()],
        "ops": ops(),
        "executable": sys.executable,
        "cache": cache(),
        "threads": threads(),
    }
    return Report(facts)
