"""Ray Train: two workers that fail; the run goes on from its checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest
from snippets import need, run

need("ray")
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.launched]
# Ray starts several processes here, each of which imports torch.
LIMIT = 600


@pytest.mark.timeout(LIMIT + 60)
def test_the_page_runs(tmp_path: Path, session_cache: Path) -> None:
    # Without a mode it would write a token into the user's home.
    said = run("ray.md", tmp_path, LIMIT, RAY_AUTH_MODE="disabled")
    assert "2 workers, resumed at step 3, difference 0.0" in said
