"""Sharded optimizers under torchrun, two processes, gloo: full state dicts; FSDP1 is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_full_state_dicts_and_flat_parameters(session_cache: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
         str(ROOT / "tests/integration/sharded_faults.py")],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "rank 0 is done" in done.stdout and "rank 1 is done" in done.stdout
