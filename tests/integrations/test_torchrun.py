"""Elastic torchrun: a run whose process was killed ends as one that was left alone."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from snippets import PAGES, program, run_two, start

pytestmark = pytest.mark.launched
PAGE = "torchrun.md"
KILLER = Path(__file__).parents[1] / "support/kill_once.py"


def saved(folder: Path) -> Any:
    return torch.load(folder / "checkpoint.pt", weights_only=True)


@pytest.fixture(scope="module")
def whole(session_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    said = run_two("torchrun.md", folder)
    assert said.count("starts at step 0") == said.count("is done") == 2
    return folder


def test_a_killed_process_leaves_no_difference(whole: Path, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(program("torchrun.md"))
    page = (PAGES / PAGE).read_text()
    (command,) = re.findall(r"^torchrun (.*) train\.py$", page, re.MULTILINE)
    variables = dict(re.findall(r"^export (\w+)=(\w+)$", page, re.MULTILINE))
    launcher = ("-m", "torch.distributed.run", *command.split())
    # It dies at the step after the one that was saved.
    said = start(tmp_path, *launcher, str(KILLER), "train.py", "3", **variables)
    assert said.count("starts at step 0") == said.count("starts at step 2") == 2
    assert said.count("is done") == 2
    left, right = saved(tmp_path), saved(whole)
    assert left["step"] == right["step"] == 6
    for name, value in right["model"].items():
        assert float((left["model"][name] - value).abs().max()) == 0.0
    for number, entry in right["optimizer"]["state"].items():
        for key, value in entry.items():
            assert torch.equal(left["optimizer"]["state"][number][key], value), key
