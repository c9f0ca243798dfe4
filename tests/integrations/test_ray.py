"""Ray Train: two workers, one of which fails; the run goes on from its checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest
from snippets import need, run

need("ray")
pytestmark = pytest.mark.filterwarnings("ignore")


def test_the_page_runs(tmp_path: Path, session_cache: Path) -> None:
    said = run("ray.md", tmp_path, RAY_TRAIN_V2_ENABLED="1")
    assert "resumed after a failure, difference 0.0" in said
