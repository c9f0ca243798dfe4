"""DeepSpeed by its configuration on our ops: ZeRO-1, 2 and 3, offloaded or not, and resuming."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from sharded_runs import run_two as run_script
from snippets import PAGES, need, program, start

need("deepspeed")
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.launched]
# DeepSpeed compiles a library for collectives on every CPU run, which takes a minute.
QUICK = 'import deepspeed\ndeepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False\n'


@pytest.fixture(autouse=True)
def mode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    monkeypatch.setenv("ACCEL_DEEPSPEED", "1")


def test_every_stage_resumes_to_no_difference(session_cache: Path, tmp_path: Path) -> None:
    run_script("deepspeed_resumes.py", str(tmp_path))


def test_zeropp_trains_as_well_as_plain_zero(session_cache: Path) -> None:
    run_script("deepspeed_zeropp.py")


def test_states_and_parameters_in_files(session_cache: Path, tmp_path: Path) -> None:
    run_script("deepspeed_nvme.py", str(tmp_path))


def test_the_page_runs(session_cache: Path, tmp_path: Path) -> None:
    page = (PAGES / "deepspeed.md").read_text()
    (config,) = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    (tmp_path / "ds_config.json").write_text(config)
    (tmp_path / "train.py").write_text(QUICK + program("deepspeed.md"))
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    said = start(tmp_path, *launcher, "train.py")
    assert said.count("CPUAdam from jit") == said.count("resumed, difference 0.0") == 2
