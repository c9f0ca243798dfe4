"""Ray Train: two workers that fail; the run goes on from its checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
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
    # The workers together do what one process does with the mean of their gradients.
    last = max((tmp_path / "runs/whole").rglob("state.pt"), key=lambda file: file.stat().st_mtime)
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(16, 32), torch.nn.GELU(), torch.nn.Linear(32, 4))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    for step in range(6):
        for rank in range(2):
            generator = torch.Generator().manual_seed(step * 1000 + rank)
            (model(torch.randn(8, 16, generator=generator)).square().mean() / 2).backward()
        optimizer.step()
        optimizer.zero_grad()
    for name, found in torch.load(last, weights_only=True)["model"].items():
        wanted = model.state_dict()[name.removeprefix("module.")]
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
