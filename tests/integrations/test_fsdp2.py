"""FSDP2 with distributed checkpoints: two processes save and resume, one process loads the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp
from fsdp_checkpoints import KINDS, built
from sharded_runs import run_two as run_script
from snippets import run_two
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def folder(session_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints of two processes, which have resumed from them to a difference of 0.0."""
    made = tmp_path_factory.mktemp("checkpoints")
    run_script("fsdp_checkpoints.py", str(made))
    return made


@pytest.mark.parametrize("kind", [kind for kind in KINDS if not kind.endswith("8bit")])
def test_one_process_loads_what_two_have_saved(folder: Path, kind: str) -> None:
    model, optimizer = built(kind, sharded=False)
    weights, states = get_state_dict(model, optimizer)
    dcp.load({"model": weights, "optimizer": states}, checkpoint_id=folder / kind, no_dist=True)
    set_state_dict(model, optimizer, model_state_dict=weights, optim_state_dict=states)
    saved_weights, saved_states = torch.load(folder / f"{kind}.pt", weights_only=True)
    names = dict(model.named_parameters())
    assert saved_states["state"].keys() == names.keys()
    for name, param in names.items():
        assert torch.equal(param.detach(), saved_weights[name])
        found = optimizer.state[param]
        for key, value in saved_states["state"][name].items():
            assert float((found[key] - value).abs().max()) == 0.0, (name, key)
    (param, *_) = names.values()
    before = param.detach().clone()
    for one in names.values():
        one.grad = torch.ones_like(one)
    optimizer.step()
    assert not torch.equal(param.detach(), before)


def test_codes_of_shards_are_refused_by_another_division(folder: Path) -> None:
    model, optimizer = built("Adam8bit", sharded=False)
    weights, states = get_state_dict(model, optimizer)
    with pytest.raises(CheckpointException, match="Size mismatch"):
        dcp.load(
            {"model": weights, "optimizer": states}, checkpoint_id=folder / "Adam8bit", no_dist=True
        )


def test_the_page_runs(tmp_path: Path, session_cache: Path) -> None:
    said = run_two("fsdp2.md", tmp_path)
    for rank in range(2):
        assert f"rank {rank} resumed, difference 0.0" in said
