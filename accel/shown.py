"""Tables as notebooks show them: the last value of a cell that has them is shown as HTML."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from accel.record import Record


class Sheet(Record):
    """A table: its title, its columns, and rows with a text for each column."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


class Shown:
    """Base of objects that a notebook shows as tables, which `sheets` of a subclass returns."""

    __slots__ = ()

    def sheets(self) -> Iterable[Sheet]:
        """Return the tables."""
        raise NotImplementedError

    def _repr_html_(self) -> str:
        """Return the tables in HTML, with every text escaped."""
        return "".join(map(_as_html, self.sheets()))

    def _repr_markdown_(self) -> str:
        """Return the tables in Markdown, each row on one line."""
        return "\n\n".join(map(_as_markdown, self.sheets()))


def _as_html(sheet: Sheet) -> str:
    # Its table of characters is not for who only loads an op.
    import html

    def row(kind: str, texts: Iterable[str]) -> str:
        style = ' style="text-align:left"'
        cells = "".join(f"<{kind}{style}>{html.escape(text)}</{kind}>" for text in texts)
        return f"<tr>{cells}</tr>"

    body = "".join(row("td", texts) for texts in sheet.rows)
    head = row("th", sheet.columns)
    title = f'<caption style="text-align:left">{html.escape(sheet.title)}</caption>'
    return f"<table>{title}<thead>{head}</thead><tbody>{body}</tbody></table>"


def _as_markdown(sheet: Sheet) -> str:
    def row(texts: Iterable[str]) -> str:
        return f"| {' | '.join(map(_in_cell, texts))} |"

    lines = [row(sheet.columns), row("---" for _ in sheet.columns), *map(row, sheet.rows)]
    return "\n".join([f"**{_in_cell(sheet.title)}**", "", *lines])


def _in_cell(text: str) -> str:
    """Return text on one line that cannot end a cell or begin a tag."""
    for plain, written in (("\\", "\\\\"), ("|", "\\|"), ("<", "&lt;"), ("*", "\\*")):
        text = text.replace(plain, written)
    return " ".join(text.split())
