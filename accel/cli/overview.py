"""The report as text: first the accelerator in use and its ops, then everything else."""

from __future__ import annotations

from typing import Any

import click

from accel.cli.report import Report
from accel.cli.tables import table
from accel.shown import Sheet


def show(facts: Report, *, everything: bool) -> None:
    """Print the report of `accel.cli.report.report`.

    Args:
        facts: the report.
        everything: whether to print the verdicts of all backends on all ops, each with its fix;
            otherwise the other backends have a line each.
    """
    choice = facts["accelerator"]
    name = choice["name"]
    found = next((row["reason"] for row in facts["backends"] if row["name"] == name), "")
    what = f": {found}" if found else ""
    click.echo(f"accelerator: {name or 'none'} ({choice['chosen']}){what}\n")
    if name is not None:
        rows = _ops_on(name, facts["ops"])
        table(Sheet(f"Ops on {name}", ("ops", "rung", "reason"), rows))
    if everything:
        for sheet in facts.sheets():
            table(sheet)
    else:
        click.echo("Other backends")
        for row in facts["backends"]:
            if row["name"] != name:
                click.echo(f"  {_line(row)}")
        click.echo("`accel report --all` says what to do about each, and how every op runs there.")
        click.echo()
    _surroundings(facts)


def _surroundings(facts: dict[str, Any]) -> None:
    place = facts["cache"]
    click.echo(f"cache: {place['path'] or 'none'}. {place['note']}".rstrip(". "))
    click.echo(f"threads: {facts['threads']['note']}")
    click.echo(" · ".join(f"{name} {version}" for name, version in facts["versions"].items()))


def _line(row: dict[str, Any]) -> str:
    """Return a backend and its verdict on one line, however many lines the reason has."""
    reason = " ".join(row["reason"].split())
    return f"{row['name']:5} {'usable' if row['accepted'] else 'not usable'}: {reason}"


def _ops_on(backend: str, ops: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """Return a row for every verdict, with the ops that share it."""
    by_verdict: dict[tuple[str, str], list[str]] = {}
    for row in ops:
        verdict = row["backends"][backend]
        key = (verdict["rung"], verdict["reason"])
        by_verdict.setdefault(key, []).append(row["op"].removesuffix("Builder"))
    return [(", ".join(names), *verdict) for verdict, names in by_verdict.items()]
