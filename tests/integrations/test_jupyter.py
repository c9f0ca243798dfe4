"""Notebooks: verdicts and reports are tables there, and what they were elsewhere."""

from __future__ import annotations

import json
import pickle
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from snippets import cells, need

import accel
from accel.cli.report import report
from accel.jit.explain import explain
from accel.shown import Sheet, Shown
from accel.testing.runner import Outcome, Report

CELLS = cells("jupyter.md")


def cells_of(shown: Shown) -> list[list[list[str]]]:
    """Return the texts of the tables in HTML, of which Markdown has as many rows and columns."""
    tables = ElementTree.fromstring(f"<all>{shown._repr_html_()}</all>")
    found = [
        [[cell.text or "" for cell in row] for row in table.iter("tr")]
        for table in tables.iter("table")
    ]
    written = shown._repr_markdown_()
    for rows, part in zip(found, written.split("\n\n")[1::2], strict=True):
        lines = part.splitlines()
        assert len(lines) == len(rows) + 1
        for line in lines:
            assert len(re.findall(r"(?<!\\)\|", line)) == len(rows[0]) + 1
    return found


def test_candidates_are_a_table_and_a_list() -> None:
    found = accel.candidates()
    ((head, *rows),) = cells_of(found)
    assert head == ["backend", "usable", "reason"]
    assert [row[0] for row in rows] == [one.name for one in found]
    assert [row[1] for row in rows] == ["yes" if one.accepted else "no" for one in found]
    assert isinstance(found, list)
    assert pickle.loads(pickle.dumps(found)) == [*found]


def test_the_report_is_tables_and_a_dict(cache_dir: Path) -> None:
    found = report()
    (_, *backends), (head, *ops) = cells_of(found)
    assert [row[0] for row in backends] == [one["name"] for one in found["backends"]]
    assert head == ["backend", "rung", "ops", "reason"]
    assert any("FusedAdam" in row[2] for row in ops)
    assert json.loads(json.dumps(found)).keys() == found.keys()


def test_an_explanation_is_tables(cache_dir: Path) -> None:
    recipe = accel.accelerator_for("cpu").create_op_builder("fused_adam").recipe()
    found = explain(recipe)
    (_, *rungs), (_, *facts) = cells_of(found)
    assert [row[0] for row in rungs] == [rung for rung, _ in found.rungs]
    assert dict(facts)["digest"] == found.digest


def test_a_conformance_report_shows_what_did_not_pass() -> None:
    outcomes = (
        Outcome("test_a", "passed", "", "", 0.1),
        Outcome("test_b", "failed", "a | b\n<script>", "", 0.1),
    )
    found = Report("my_npu:NPU", outcomes)
    ((_, row),) = cells_of(found)
    assert row == ["test_b", "failed", "a | b\n<script>"]
    assert "FAIL, 1 passed, 1 failed" in found._repr_html_()


def test_no_text_of_others_becomes_markup() -> None:
    class One(Shown):
        def sheets(self) -> list[Sheet]:
            return [Sheet("<i>", ("<b>", "|"), [("<img src=x>", "\\| *\n<i>")])]

    ((head, row),) = cells_of(One())
    assert head == ["<b>", "|"] and row == ["<img src=x>", "\\| *\n<i>"]
    assert not re.search(r"<(i|b|img)\b", One()._repr_html_() + One()._repr_markdown_())


def test_the_pages_cells_run_in_a_kernel(cache_dir: Path, tmp_path: Path) -> None:
    nbclient = need("nbclient")
    need("ipykernel")
    import nbformat

    cells = [nbformat.v4.new_code_cell(cell) for cell in CELLS]
    book = nbformat.v4.new_notebook(cells=cells)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACCELERATOR", "cpu")
        patch.setenv("IPYTHONDIR", str(tmp_path))
        nbclient.NotebookClient(book, timeout=120, kernel_name="python3").execute()
    for cell in book.cells:
        (output,) = cell.outputs
        assert output["data"]["text/html"].startswith("<table>")
        assert output["data"]["text/markdown"].startswith("**")
