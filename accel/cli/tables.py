"""Tables for people, and for programs that read them from a pipe."""

from __future__ import annotations

import sys

# Wider than any row, so that a program which reads a pipe finds a row on one line.
_UNFOLDED = 100_000


def table(title: str, columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Print rows under a title: folded to a terminal's width, each on one line elsewhere."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    drawn = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for column in columns:
        drawn.add_column(
            column, overflow="fold", no_wrap=column not in {"backend", "ops", "reason"}
        )
    for row in rows:
        drawn.add_row(*row)
    width = None if sys.stdout.isatty() else _UNFOLDED
    Console(highlight=False, markup=False, width=width).print(drawn)
