"""Results as rows of text: for a terminal, and as Markdown; the same input gives the same text."""

from __future__ import annotations

from typing import Any

from accel.bench import busy, gpu_tables
from accel.bench.results import Difference, Results, limit_of
from accel.bench.text import Row, duration, lines

COLUMNS = ("contestant", "median", "least", "of the limit", "time, relative to")
TRANSFERS = ("setting", "read MiB/s", "of the limit", "write MiB/s", "of the limit")
COMPARED = ("case", "contestant", "before", "after", "after / before", "of the limit")
_LIMIT = "of the limit"


def columns(case: dict[str, Any]) -> Row:
    """Return the heads of a case's columns; builds have no limit."""
    return tuple(one for one in COLUMNS if one != _LIMIT or case["limit"] is not None)


def rows(case: dict[str, Any]) -> list[Row]:
    """Return a row for each contestant of a case, the fastest first."""
    limit = limit_of(case)
    ordered = sorted(case["contestants"].items(), key=lambda item: (item[1]["seconds"], item[0]))
    return [
        (
            name,
            duration(one["seconds"]),
            duration(one["least"]),
            *(() if limit is None else (f"{limit / one['seconds']:.2f}",)),
            f"{_ratio(one['ratio'])} × {one['against']}" if _compared(name, one) else "",
        )
        for name, one in ordered
    ]


def rounds(case: dict[str, Any]) -> str:
    """Return how many rounds a case had, in words."""
    return f"{case['rounds']} round{'s'[: case['rounds'] != 1]}"


def _ratio(value: float) -> str:
    return f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"


def transfers(cases: dict[str, Any]) -> list[Row]:
    """Return a row of bandwidths for each contestant of both directions, in their order."""
    found = []
    for name in dict.fromkeys(name for case in cases.values() for name in case["contestants"]):
        row = [name]
        for case in cases.values():
            one = case["contestants"].get(name)
            limit = case["contestants"][case["limit"]]["seconds"]
            row.append(f"{case['bytes'] / (1 << 20) / one['seconds']:.0f}" if one else "")
            row.append(f"{limit / one['seconds']:.2f}" if one else "")
        found.append(tuple(row))
    return found


def _compared(name: str, one: dict[str, Any]) -> bool:
    return "ratio" in one and one["against"] != name


def differences(found: list[Difference]) -> list[Row]:
    """Return a row for each contestant of two results."""
    return [
        (
            one.case,
            one.contestant,
            duration(one.before),
            duration(one.after),
            f"{one.after / one.before:.2f}",
            " -> ".join(
                "-" if part is None else f"{part:.2f}"
                for part in (one.limit_before, one.limit_after)
            ),
        )
        for one in found
    ]


def title(results: Results) -> str:
    """Return one line on the measurement: subject, time and software."""
    versions = results.get("versions", {})
    device = results.get("device") or results.get("gpu")
    torch = versions.get("torch") or results.get("torch")
    driver = f", driver {results['driver']}" if results.get("driver") else ""
    return f"{device}{driver}, torch {torch}, {results['date'][:10]}"


def markdown(results: Results) -> str:
    """Return the tables of a README, with a line on the surroundings."""
    if "measures" in results:
        return f"{title(results)}\n\n{gpu_tables.table(results['measures'])}"
    parts = [title(results)]
    for case in results["cases"].values():
        parts.append(f"**{case['title']}** ({case['unit']}, {rounds(case)})")
        parts.append(lines(columns(case), rows(case)))
    if busy.note(results):
        parts.append(f"Busy: {busy.note(results)}")
    return "\n\n".join(parts) + "\n"
