"""Guarantees 5 and 8: what is broken or does not fit is never loaded and never raises."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from engine_tools import Workshop, unloadable

from accel import jit
from accel.jit.build.prebuilt import build_prebuilt
from accel.jit.cache import store


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def rewrite(**changes: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "manifest.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def replace_by_pipe(folder: Path) -> None:
    (folder / "manifest.json").unlink()
    os.mkfifo(folder / "manifest.json")


def link_elsewhere(folder: Path) -> None:
    (folder / "op.so").rename(folder.parent.parent / "elsewhere.so")
    (folder / "op.so").symlink_to(folder.parent.parent / "elsewhere.so")


DAMAGE: dict[str, Callable[[Path], None]] = {
    "truncated": lambda folder: os.truncate(folder / "op.so", 1000),
    "empty": lambda folder: os.truncate(folder / "op.so", 0),
    "bit-flipped": lambda folder: flip(folder / "op.so"),
    "library gone": lambda folder: (folder / "op.so").unlink(),
    "library linked elsewhere": link_elsewhere,
    "manifest gone": lambda folder: (folder / "manifest.json").unlink(),
    "manifest truncated": lambda folder: os.truncate(folder / "manifest.json", 50),
    "manifest a pipe": replace_by_pipe,
    "manifest a folder": lambda folder: (
        (folder / "manifest.json").unlink(),
        (folder / "manifest.json").mkdir(),
    )[0],
    "manifest nested": lambda folder: (folder / "manifest.json").write_text("[" * 100_000) and None,
    "manifest binary": lambda folder: (folder / "manifest.json").write_bytes(b"\xff\0") and None,
    "another engine": rewrite(engine="0"),
    "another digest": rewrite(digest="0" * 32),
    "another name": rewrite(name="../../evil"),
    "wrong types": rewrite(size="many", headers=[1]),
    "odd headers": rewrite(headers={"/dev/zero": [0, 0, 0, "x"]}),
    "hostile headers": rewrite(headers={"\0": [0, 0, 0, "x"]}),
    "newer glibc": rewrite(glibc="2.999"),
    "writable by others": lambda folder: folder.chmod(0o777),
    "library writable by others": lambda folder: (folder / "op.so").chmod(0o666),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_artifact_is_rebuilt_never_loaded(workshop: Workshop, damage: str) -> None:
    first = workshop.load()
    folder = Path(first["path"]).parent
    DAMAGE[damage](folder)
    told = workshop.load()
    assert told["value"] == 7, told
    assert told["path"] == first["path"]
    assert workshop.compiles() == 2
    assert workshop.load()["value"] == 7
    assert workshop.compiles() == 2
    assert workshop.litter() == []


def test_the_second_to_publish_uses_the_first(workshop: Workshop) -> None:
    folder = Path(workshop.load()["path"]).parent
    ready = workshop.cache / ".staging" / "second" / folder.name
    shutil.copytree(folder, ready)
    before = (folder / "op.so").stat().st_ino
    assert store.publish(ready, folder, "op") == folder
    assert (folder / "op.so").stat().st_ino == before
    assert (ready / "op.so").exists()


@pytest.fixture
def prebuilt(workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A prebuilt folder for the op, moved after it was made; the cache is empty again."""
    for name, text in workshop.environment.items():
        monkeypatch.setenv(name, text)
    recipe = jit.Recipe("op", "cpu", (workshop.source,), (workshop.include,))
    made = build_prebuilt(recipe, tmp_path / "out")
    shutil.rmtree(workshop.cache)
    moved = tmp_path / "moved here"
    (tmp_path / "out").rename(moved)
    workshop.environment["ACCEL_PREBUILT_DIR"] = str(moved)
    return moved / made.name


def test_a_prebuilt_is_used_without_compiler_and_cache(workshop: Workshop, prebuilt: Path) -> None:
    told = workshop.load(env={"CXX": "/bin/false"})
    assert (told["value"], told["rung"]) == (7, "prebuilt")
    assert told["path"] == str(prebuilt / "op.so")
    assert not workshop.cache.exists()


def test_a_prebuilt_is_available_though_the_cache_is_not_trusted(
    workshop: Workshop, prebuilt: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCEL_PREBUILT_DIR", str(prebuilt.parent))
    workshop.cache.mkdir()
    workshop.cache.chmod(0o777)
    monkeypatch.setenv("ACCEL_OPS", "native")
    recipe = jit.Recipe("op", "cpu", (workshop.source,), (workshop.include,))
    probes = dict(jit.availability(recipe))
    assert probes["prebuilt"]
    assert "Others may write" in str(probes["jit"])
    assert workshop.load()["rung"] == "prebuilt"


def test_a_prebuilt_names_nothing_of_the_machine(workshop: Workshop, prebuilt: Path) -> None:
    for file in prebuilt.iterdir():
        assert str(workshop.folder).encode() not in file.read_bytes()


@pytest.mark.parametrize(
    "damage", [name for name in DAMAGE if name != "library writable by others"]
)
def test_a_prebuilt_that_does_not_fit_is_skipped(
    workshop: Workshop, prebuilt: Path, damage: str
) -> None:
    DAMAGE[damage](prebuilt)
    told = workshop.load()
    # Elsewhere the headers lie elsewhere: they are not looked at in a prebuilt folder.
    assert told["rung"] == ("prebuilt" if damage.endswith("headers") else "jit")
    assert told["value"] == 7


def test_a_prebuilt_of_other_sources_is_skipped_with_its_reason(
    workshop: Workshop, prebuilt: Path
) -> None:
    workshop.set_value(8)
    assert workshop.load()["value"] == 8
    told = workshop.load(env={"CXX": "/bin/false", "ACCEL_CACHE_DIR": str(workshop.folder / "no")})
    assert "differs in file include/deep/number.h" in told["message"]


def test_a_prebuilt_that_the_loader_refuses_is_skipped(workshop: Workshop, prebuilt: Path) -> None:
    junk = unloadable(workshop.folder)
    (prebuilt / "op.so").write_bytes(junk)
    from accel.jit.disk.safe_io import sha256

    rewrite(sha256=sha256(junk), size=len(junk))(prebuilt)
    told = workshop.load()
    assert (told["value"], told["rung"]) == (7, "jit")
    assert "cannot be loaded" in told["log"]


@pytest.mark.parametrize("folder", ["", "/nonexistent", "/dev/null", "relative", "/proc/self/mem"])
def test_an_odd_prebuilt_folder_is_skipped(workshop: Workshop, folder: str) -> None:
    assert workshop.load(env={"ACCEL_PREBUILT_DIR": folder})["value"] == 7
