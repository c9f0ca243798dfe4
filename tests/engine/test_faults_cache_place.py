"""A cache that cannot be used: said once in every process, with what was asked, found and to do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

LOAD = """
import accel
for _ in range(2):
    op = accel.get_accelerator().get_op_builder("FusedLionBuilder")().load()
    accel.get_accelerator().get_op_builder("UtilsBuilder")().load()
print(op.implementation, op.path)
"""


def loaded(cache: str, temporary: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", LOAD],
        env={**os.environ, "ACCEL_CACHE_DIR": cache, "TMPDIR": str(temporary)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_a_stand_in_is_told_in_every_process(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    asked = str(tmp_path / "file" / "cache")
    for _ in range(2):
        done = loaded(asked, tmp_path)
        assert done.stdout.startswith("jit "), done.stderr
        assert f"{tmp_path}/accel-{os.geteuid()}/" in done.stdout
        said = [line for line in done.stderr.splitlines() if "compiled ops go to" in line]
        assert len(said) == 1
        assert said[0].startswith(f"ACCEL_CACHE_DIR={asked} cannot be written (")
        assert f"{tmp_path / 'file'} is not a folder" in said[0]
        assert f"go to {tmp_path}/accel-{os.geteuid()} instead. Set ACCEL_CACHE_DIR" in said[0]


@pytest.mark.skipif(os.geteuid() != 0, reason="others are told that /proc belongs to root")
def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    done = loaded("/proc/x/y", tmp_path)
    assert done.stdout.startswith("reference "), done.stderr
    assert "/proc/x/y: no folder can be made (No such file or directory)" in done.stderr
    assert "Set ACCEL_CACHE_DIR to a writable folder." in done.stderr
