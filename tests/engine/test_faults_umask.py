"""Whatever the umask takes away: builds work, and all that is made has the modes that it needs."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from engine_tools import REPOSITORY, Workshop

from accel.host import process

# Root is held to modes as anybody is where it lacks these.
HELD = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]
SCRIPT = """
import json, os, sys
from pathlib import Path
from accel import jit
from accel.errors import AccelError
from accel.jit.build import prebuilt
folder = Path(sys.argv[1])
os.umask(int(sys.argv[2], 8))

def recipe(name):
    return jit.Recipe("op", "cpu", (folder / "project" / name,), (folder / "project" / "include",))

def told(function, *arguments):
    try:
        return str(function(*arguments))
    except AccelError as error:
        return f"{type(error).__name__}: {error}"

print(json.dumps({
    "load": told(lambda: jit.acquire(recipe("op.cpp")).handle.value()),
    "path": told(lambda: jit.acquire(recipe("op.cpp")).path),
    "fail": told(lambda: jit.acquire(recipe("broken.cpp"))),
    "fail again": told(lambda: jit.acquire(recipe("broken.cpp"))),
    "prebuilt": told(prebuilt.build_prebuilt, recipe("op.cpp"), folder / "out" / "deep"),
}))
"""


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.fixture
def held(workshop: Workshop) -> list[str]:
    """How to start a program that is held to modes; the workshop has a source that fails."""
    (workshop.folder / "broken.cpp").write_text("#error on purpose\n")
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        pytest.skip("no setpriv here")
    return HELD if os.geteuid() == 0 else []


def run(workshop: Workshop, held: list[str], umask: int, **env: str) -> dict[str, Any]:
    done = subprocess.run(
        [*held, sys.executable, "-c", SCRIPT, str(workshop.folder.parent), f"{umask:o}"],
        env={**os.environ, **workshop.environment, "PYTHONPATH": str(REPOSITORY), **env},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    told: dict[str, Any] = json.loads(done.stdout)
    return told | {"log": done.stderr}


def check(told: dict[str, Any]) -> None:
    assert told["load"] == "7", told
    for name in ("fail", "fail again"):
        assert told[name].startswith("BuildFailed: "), told
        assert "broken.cpp:1:2: error: #error on purpose" in told[name]
    assert "Not tried again" in told["fail again"]
    assert "/out/deep/op-" in told["prebuilt"]


@pytest.mark.parametrize("umask", [0o777, 0o277, 0o177, 0o477, 0o733, 0o077])
def test_a_user_builds_under_any_umask(workshop: Workshop, held: list[str], umask: int) -> None:
    check(run(workshop, held, umask))
    made = [workshop.cache, *workshop.cache.rglob("*")]
    assert {path.name for path in made} >= {".locks", ".staging", ".failed", ".toolchains", "op.so"}
    for path in made:
        assert mode(path) == (0o700 if path.is_dir() else 0o600), path
    assert workshop.litter() == []
    out = workshop.folder.parent / "out"
    for path in (out, *out.rglob("*")):
        assert mode(path) == (0o755 if path.is_dir() else 0o644), path
    compiled = workshop.compiles()
    check(run(workshop, held, 0o022))
    assert workshop.compiles() == compiled, "the next process uses what there is"


@pytest.mark.skipif(os.geteuid() != 0, reason="has to be root")
def test_root_leaves_what_it_could_use_without_its_rights(
    workshop: Workshop, held: list[str]
) -> None:
    check(run(workshop, [], 0o777))
    assert {mode(path) for path in workshop.cache.rglob("*")} == {0o700, 0o600}
    check(run(workshop, held, 0o022))


def test_a_private_place_can_be_used_under_any_umask(
    workshop: Workshop, held: list[str], tmp_path: Path
) -> None:
    """Of the one among temporary files, and of a fresh one if that one is squatted."""
    tmp = tmp_path / "tmp"
    tmp.mkdir()
    nowhere = {"ACCEL_CACHE_DIR": "/dev/null/cache", "TMPDIR": str(tmp)}
    check(run(workshop, held, 0o777, **nowhere))
    usual = tmp / f"accel-{os.geteuid()}"
    shutil.rmtree(usual)
    usual.touch()
    told = run(workshop, held, 0o777, **nowhere)
    assert told["load"] == "7", told
    assert told["path"].startswith(f"{usual}-")


def test_what_an_odd_umask_left_is_replaced(workshop: Workshop, held: list[str]) -> None:
    """Folders and locks without rights, as versions before this one made them."""
    place = Path(run(workshop, held, 0o022)["path"]).parent
    litter = workshop.cache / ".staging" / f"{process.machine()}-1-1-x"
    (litter / "inner").mkdir(parents=True)
    for path in (litter / "inner", litter, place, *(workshop.cache / ".locks").iterdir()):
        path.chmod(0)
    told = run(workshop, held, 0o022)
    assert told["load"] == "7"
    assert told["path"] == str(place / "op.so")
    assert "without a lock" not in told["log"]
    assert mode(place) == 0o700
    compiled = workshop.compiles()
    assert run(workshop, held, 0o022)["load"] == "7"
    assert workshop.compiles() == compiled
    place.chmod(0)
    done = subprocess.run(
        [*held, sys.executable, "-m", "accel", "cache", "prune"],
        env={**os.environ, **workshop.environment, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert str(place) in done.stdout and str(litter) in done.stdout
    assert workshop.litter() == workshop.artifacts() == []
