"""Durations and Markdown tables as text."""

from __future__ import annotations

Row = tuple[str, ...]


def duration(seconds: float) -> str:
    """Return seconds with three digits, in the unit that fits."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


def lines(columns: Row, found: list[Row]) -> str:
    """Return a Markdown table."""
    return "\n".join(f"| {' | '.join(row)} |" for row in (columns, ["---"] * len(columns), *found))
