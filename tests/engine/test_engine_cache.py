"""Explaining a digest, building ahead of time, and looking after the cache while others load."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from engine_tools import Workshop, finish, kill, until

from accel import jit
from accel.errors import BuildFailed, CacheUntrusted, OpUnavailable
from accel.jit.build.prebuilt import build_prebuilt
from accel.jit.cache import maintenance
from accel.jit.disk import lock
from accel.jit.explain import explain
from accel.probe import Accepted, Rejected


@pytest.fixture
def recipe(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> jit.Recipe:
    for name, text in workshop.environment.items():
        monkeypatch.setenv(name, text)
    return jit.Recipe("op", "cpu", (workshop.source,), (workshop.include,))


def test_explain_before_and_after_a_build(workshop: Workshop, recipe: jit.Recipe) -> None:
    told = explain(recipe)
    assert dict(told.rungs)["jit"] == Accepted("compiles with " + told.plan.compiler.label)
    assert isinstance(dict(told.rungs)["prebuilt"], Rejected)
    assert told.artifacts == ()
    assert workshop.compiles() == 0
    assert not list(workshop.cache.glob("op-*"))
    workshop.load()
    told = explain(recipe)
    assert dict(told.rungs)["jit"] == Accepted("cached")
    (only,) = told.artifacts
    assert only.verdict == ""
    assert only.changes == ()
    assert only.folder.name == f"op-{told.digest}"
    assert json.loads(json.dumps(told.as_dict()))["digest"] == told.digest


def test_explain_names_what_changed(
    workshop: Workshop, recipe: jit.Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    workshop.load()
    workshop.set_value(8)
    (only,) = explain(recipe).artifacts
    assert [change.name for change in only.changes] == ["file include/deep/number.h"]
    assert "include/deep/number.h" in only.verdict
    workshop.set_value(7)
    monkeypatch.setenv("CXXFLAGS", "-DEXTRA")
    (only,) = explain(recipe).artifacts
    (change,) = only.changes
    assert change.name == "flags"
    assert change.after == f"{change.before} -DEXTRA"
    monkeypatch.delenv("CXXFLAGS")
    workshop.use_compiler(extra=": another")
    (only,) = explain(recipe).artifacts
    assert [change.name for change in only.changes] == ["compiler"]


def test_explain_leaves_out_what_another_backend_has_under_that_name(
    workshop: Workshop, recipe: jit.Recipe
) -> None:
    workshop.load()
    assert explain(recipe.replace(backend="xpu")).artifacts == ()


def test_explain_never_raises(
    workshop: Workshop, recipe: jit.Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = recipe.replace(sources=(workshop.folder / "missing.cpp",))
    assert "missing.cpp" in str(explain(missing).plan)
    monkeypatch.setenv("CXX", "/bin/false")
    told = explain(recipe)
    assert "CXX=/bin/false" in str(told.plan)
    assert told.fit
    assert told.digest == ""
    workshop.cache.chmod(0o777)
    assert "Others may write" in explain(recipe).note
    monkeypatch.setenv("ACCEL_OPS", "native")
    told = explain(recipe)
    assert told.cache is None
    assert "Others may write" in told.note
    assert not any(probe for _, probe in told.rungs)
    json.dumps(told.as_dict())


def test_prebuilding_reports_what_it_cannot_do(
    workshop: Workshop, recipe: jit.Recipe, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BuildFailed, match="cannot be written"):
        build_prebuilt(recipe, tmp_path / "file")
    workshop.source.write_text("#error reason\n")
    with pytest.raises(BuildFailed, match=r"op\.cpp:1:2: error: (#error )?reason"):
        build_prebuilt(recipe, tmp_path / "out")
    monkeypatch.setenv("CXX", "/bin/false")
    with pytest.raises(OpUnavailable, match="CXX=/bin/false"):
        build_prebuilt(recipe, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_prebuilding_again_keeps_what_is_right(
    workshop: Workshop, recipe: jit.Recipe, tmp_path: Path
) -> None:
    made = build_prebuilt(recipe, tmp_path / "out")
    before = (made / "op.so").stat().st_ino
    assert build_prebuilt(recipe, tmp_path / "out") == made
    assert (made / "op.so").stat().st_ino == before
    (made / "op.so").write_bytes(b"junk")
    assert build_prebuilt(recipe, tmp_path / "out") == made
    assert (made / "op.so").stat().st_size > 1000
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [made.name]


def test_entries_and_verify(workshop: Workshop, recipe: jit.Recipe) -> None:
    first = Path(workshop.load()["path"]).parent
    workshop.set_value(8)
    second = Path(workshop.load()["path"]).parent
    entries = {entry.folder: entry for entry in maintenance.entries()}
    assert set(entries) == {first, second}
    entry = entries[first]
    assert (entry.name, entry.backend, entry.trouble) == ("op", "cpu", "")
    assert entry.size == sum(path.stat().st_size for path in first.iterdir())
    assert 0 <= time.time() - entry.created < 60
    (first / "op.so").write_bytes(b"junk")
    verdicts = {entry.folder: verdict for entry, verdict in maintenance.verify_all()}
    assert verdicts[second] == Accepted()
    assert isinstance(verdicts[first], Rejected)


def test_prune_by_age_size_and_digest(workshop: Workshop, recipe: jit.Recipe) -> None:
    folders = []
    for number in range(4):
        workshop.set_value(number)
        folders.append(Path(workshop.load()["path"]).parent)
        then = time.time() - 86400 * (10 - number)
        os.utime(folders[-1] / "op.so", (then, then))
    told = maintenance.prune(older_than=86400 * 9.5, dry_run=True)
    assert [one.path for one in told if one.path.suffix != ".lock"] == [folders[0]]
    assert folders[0].exists()
    maintenance.prune(older_than=86400 * 9.5)
    assert [folder.exists() for folder in folders] == [False, True, True, True]
    size = maintenance.entries()[0].size
    maintenance.prune(max_bytes=size * 2 + size // 2)
    assert [folder.exists() for folder in folders] == [False, False, True, True]
    maintenance.prune(current={folders[2].name.rpartition("-")[2]})
    assert [folder.exists() for folder in folders] == [False, False, True, False]
    assert workshop.litter() == []


def test_prune_leaves_what_is_in_use(workshop: Workshop, recipe: jit.Recipe) -> None:
    pause = workshop.state / "wait-compile"
    pause.touch()
    builder = workshop.start()
    until(workshop.compiles)
    assert maintenance.prune() == ()
    pause.unlink()
    assert finish(builder)["value"] == 7


def test_prune_removes_what_killed_builds_left(workshop: Workshop, recipe: jit.Recipe) -> None:
    workshop.hang("compile")
    builder = workshop.start()
    until(workshop.hanging)
    kill(builder)
    assert len(workshop.litter()) == 1
    foreign = workshop.cache / ".staging" / "another_host-1-2-3-abcdef"
    foreign.mkdir()
    maintenance.prune()
    assert workshop.litter() == [foreign], "it may be alive on its own machine"
    os.utime(foreign, (1, 1))
    maintenance.prune()
    assert workshop.litter() == []


def test_prune_and_an_untrusted_cache(
    workshop: Workshop, recipe: jit.Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(workshop.load()["path"]).parent
    workshop.cache.chmod(0o777)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert maintenance.entries() == maintenance.prune(current=()) == ()
    assert folder.exists(), "what others may change is left alone"
    monkeypatch.setenv("ACCEL_OPS", "native")
    for function in (maintenance.entries, maintenance.verify_all, maintenance.prune):
        with pytest.raises(CacheUntrusted):
            function()


def test_prune_follows_no_link_out_of_the_cache(
    workshop: Workshop, recipe: jit.Recipe, tmp_path: Path
) -> None:
    outside = tmp_path / "precious"
    outside.mkdir()
    (outside / "file").touch()
    (workshop.cache / f"op-{'0' * 32}").symlink_to(outside)
    for folder in (".staging", ".failed", ".locks"):
        (workshop.cache / folder).mkdir(exist_ok=True)
    (workshop.cache / ".staging" / "linked").symlink_to(outside)
    os.utime(workshop.cache / ".staging" / "linked", (1, 1), follow_symlinks=False)
    os.utime(outside, (1, 1))
    maintenance.prune(current=())
    assert (outside / "file").exists()


def test_an_artifact_removed_before_it_is_loaded_is_built_again(workshop: Workshop) -> None:
    assert workshop.load(vanish=True)["value"] == 7
    assert workshop.compiles() == 2
    assert workshop.load(vanish=True)["value"] == 7
    assert workshop.compiles() == 3


def test_prune_leaves_what_was_just_built_until_it_is_loaded(
    workshop: Workshop, recipe: jit.Recipe
) -> None:
    gate = workshop.state / "gate"
    builder = workshop.start(linger=str(gate))
    until((workshop.state / "gate.reached").exists)
    assert maintenance.prune(current=()) == ()
    gate.touch()
    assert finish(builder)["value"] == 7
    assert workshop.compiles() == 1
    maintenance.prune(current=())
    assert workshop.artifacts() == []
    assert list((workshop.cache / ".locks").iterdir()) == []


def test_a_lock_removed_while_it_is_taken_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lock"
    flock = fcntl.flock

    def late(fd: int, operation: int) -> None:
        path.unlink()
        flock(fd, operation)

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", late)
        assert not lock.BuildLock(path).acquire(), "it locks out nobody who comes later"
    again = lock.BuildLock(path)
    assert again.acquire()
    again.remove()
    assert not path.exists()


def test_a_lock_in_a_folder_without_rights_names_the_rights() -> None:
    user = os.geteuid()
    # Not in `tmp_path`, which other users cannot enter.
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o555)
        if user == 0:
            os.seteuid(65534)  # Root may write everywhere.
        try:
            with pytest.raises(PermissionError):
                lock.BuildLock(Path(folder, "lock")).acquire()
        finally:
            os.seteuid(user)
            Path(folder).chmod(0o755)


def test_loaders_are_not_hurt_by_pruning(workshop: Workshop, recipe: jit.Recipe) -> None:
    """Loaders run while everything is pruned as fast as can be."""
    workshop.load()
    loaders: list[subprocess.Popen[str]] = []
    for _ in range(12):
        loaders.append(workshop.start())
        end = time.monotonic() + 0.15
        while time.monotonic() < end:
            maintenance.prune(current=())
    told = [finish(loader) for loader in loaders]
    assert [one.get("value") for one in told] == [7] * 12, told
