"""Triton kernels: run in Triton's interpreter, and compiled for devices that are not here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from triton_marks import needs_triton, passes

from accel.builders import cuda
from accel.builders.convention import optimizers
from accel.builders.kinds import declared
from accel.ops.optimizers.triton import probe_portable
from accel.probe import Accepted, Rejected


@needs_triton
@pytest.mark.portable
def test_interpreted() -> None:
    passes("test_kernels.py")


@needs_triton
@pytest.mark.portable
def test_compiled_ahead_of_time(tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "support/compile_portable.py"
    environment = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path), "TRITON_INTERPRET": "0"}
    targets = ["cuda:80:32", "cuda:90:32", "hip:gfx942:64"]
    done = subprocess.run(
        [sys.executable, str(script), *targets],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    sizes = json.loads(done.stdout)
    assert [*sizes] == targets
    for binaries in sizes.values():
        steps = {f"{stem}_step" for stem in optimizers().values()}
        assert steps - {"lamb_step"} < {*binaries}
        assert min(binaries.values()) > 500


def test_who_may_use_it() -> None:
    builder = cuda.FusedAdamBuilder()
    assert isinstance(probe_portable("cuda", "accel_sort_step", used=True), Rejected)
    for _, kind in declared(cuda.__name__):
        portable = str(probe_portable("cpu", kind.entry_point, used=False))
        assert kind.backend != "cuda" or portable != "no portable kernel.", kind.__name__
    assert "not used on cpu" in str(probe_portable("cpu", builder.entry_point, used=False))
    verdict = builder.portable()
    if find_spec("triton") is None:
        assert isinstance(verdict, Rejected)
        assert "not installed" in verdict.reason
    else:
        assert isinstance(verdict, Accepted)
