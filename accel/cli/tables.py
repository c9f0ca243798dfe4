"""Tables for people, and for programs that read them from a pipe."""

from __future__ import annotations

import sys

from accel.shown import Sheet

# Wider than any row, so that a program which reads a pipe finds a row on one line.
_UNFOLDED = 100_000


def table(sheet: Sheet) -> None:
    """Print a table: folded to a terminal's width, each row on one line elsewhere."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    drawn = Table(title=sheet.title, title_justify="left", box=box.SIMPLE_HEAD)
    for column in sheet.columns:
        drawn.add_column(
            column, overflow="fold", no_wrap=column not in {"backend", "ops", "reason"}
        )
    for row in sheet.rows:
        drawn.add_row(*row)
    width = None if sys.stdout.isatty() else _UNFOLDED
    Console(highlight=False, markup=False, width=width).print(drawn)
