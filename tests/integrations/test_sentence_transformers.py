"""Sentence Transformers: its trainer with our optimizer, resumed and loaded."""

from __future__ import annotations

from pathlib import Path

import pytest
from snippets import need, run

need("sentence_transformers")
need("datasets")
pytestmark = pytest.mark.filterwarnings("ignore")


def test_the_page_runs(tmp_path: Path, session_cache: Path) -> None:
    said = run("sentence-transformers.md", tmp_path)
    assert "resumed, difference 0.0" in said
    assert "loaded True" in said
