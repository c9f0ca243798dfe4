"""The programs of docs/quantizers.md run as they stand there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[3] / "docs/quantizers.md"
PROGRAMS = [part.split("```")[0] for part in PAGE.read_text().split("```python\n")[1:]]
PRINTED = [
    "torch.uint8 torch.Size([200]) torch.bfloat16\ntorch.Size([25600, 1]) torch.Size([512, 100])\n",
    "torch.Size([64, 32]) torch.Size([16, 2]) torch.Size([64, 64])\n"
    "torch.Size([1024]) torch.Size([16, 1])\n",
    "torch.Size([32, 1]) True\n",
]


@pytest.mark.parametrize("at", range(len(PROGRAMS)))
def test_the_pages_programs(at: int, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAMS[at]],
        cwd=tmp_path,
        env=os.environ | {"ACCELERATOR": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == PRINTED[at]
