"""Guarantee 6: a private cache that works in every home, path, user and state of the disk."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine_tools import REPOSITORY, Workshop

NOBODY = 64_321
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="has to drop to another user id")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_cache_is_made_private(workshop: Workshop) -> None:
    workshop.cache.rmdir()
    old = os.umask(0)
    try:
        assert workshop.load()["value"] == 7
    finally:
        os.umask(old)
    assert mode(workshop.cache) == 0o700
    for path in workshop.cache.rglob("*"):
        assert mode(path) & 0o022 == 0, path


@pytest.mark.parametrize("others", [0o770, 0o707, 0o777])
def test_a_cache_that_others_may_write_is_refused(workshop: Workshop, others: int) -> None:
    workshop.load()
    workshop.cache.chmod(others)
    told = workshop.load(env={"ACCEL_OPS": "native"})
    assert told["error"] == "CacheUntrusted"
    assert f"chmod go-w '{workshop.cache}'" in told["message"]
    workshop.cache.chmod(0o755)
    assert workshop.load()["value"] == 7


@needs_root
def test_a_cache_of_somebody_else_is_refused(workshop: Workshop) -> None:
    os.chown(workshop.cache, NOBODY, NOBODY)
    told = workshop.load(env={"ACCEL_OPS": "native"})
    assert told["error"] == "CacheUntrusted"
    assert str(NOBODY) in told["message"]


def test_a_cache_in_a_folder_that_others_may_change_is_refused(workshop: Workshop) -> None:
    shared = workshop.folder / "shared"
    (shared / "cache").mkdir(parents=True)
    shared.chmod(0o777)
    told = workshop.load(env={"ACCEL_CACHE_DIR": str(shared / "cache"), "ACCEL_OPS": "native"})
    assert told["error"] == "CacheUntrusted"


def test_a_planted_artifact_is_not_loaded(workshop: Workshop) -> None:
    first = workshop.load()
    folder = Path(first["path"]).parent
    folder.chmod(0o777)
    assert workshop.load()["value"] == 7
    assert workshop.compiles() == 2
    assert mode(folder) == 0o700


ODD = [
    "with blank",
    "it's",
    'say "hi"',
    "$HOME $(touch owned) `touch owned`",
    "a;b&c|d>e",
    "naïve-日本語",
    "back\\slash",
    "-rf",
    "percent%20#hash",
    "tab\there",
    "co:lon",
    "*?[x]",
]


@pytest.mark.parametrize("name", ODD)
def test_odd_characters_in_every_path(tmp_path: Path, name: str) -> None:
    cache = tmp_path / f"cache {name}"
    workshop = Workshop(tmp_path / name, cache)
    if "'" not in name:
        workshop.use_compiler()
    assert workshop.load()["value"] == 7
    assert workshop.load()["value"] == 7
    workshop.source.write_text("#error reason\n")
    told = workshop.load()
    assert re.search(r"op\.cpp:1:2: error: (#error )?reason$", told["first_error"])
    assert list(tmp_path.rglob("owned")) == []


def test_bytes_that_are_no_text_in_a_path(tmp_path: Path) -> None:
    workshop = Workshop(tmp_path / os.fsdecode(b"latin-\xe9"), tmp_path / os.fsdecode(b"c-\xff"))
    assert workshop.load()["value"] == 7
    assert workshop.load()["value"] == 7


def test_a_line_break_in_a_path_is_named(tmp_path: Path) -> None:
    workshop = Workshop(tmp_path / "line\nbreak", tmp_path / "cache")
    told = workshop.load()
    assert told["error"] == "OpUnavailable"
    assert "line break" in told["message"]


def test_a_line_break_in_the_path_of_the_cache(tmp_path: Path) -> None:
    workshop = Workshop(tmp_path / "project", tmp_path / "line\nbreak")
    assert workshop.load()["value"] == 7


def usual(home: str | None) -> dict[str, str | None]:
    return {"ACCEL_CACHE_DIR": None, "XDG_CACHE_HOME": None, "HOME": home}


def test_the_usual_place_is_in_home(workshop: Workshop, tmp_path: Path) -> None:
    told = workshop.load(env=usual(str(tmp_path / "home")))
    assert told["path"].startswith(str(tmp_path / "home" / ".cache" / "accel" / "op-"))
    told = workshop.load(env=usual("/nowhere") | {"XDG_CACHE_HOME": str(tmp_path / "xdg")})
    assert told["path"].startswith(str(tmp_path / "xdg" / "accel" / "op-"))


@pytest.fixture
def open_to_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    """A workshop that another user id can use; pytest's own folders are private."""
    folder = Path(f"/tmp/accel-test-{os.getpid()}-{os.urandom(4).hex()}")
    folder.mkdir(mode=0o755)
    made = Workshop(folder / "project", folder / "cache")
    made.use_compiler()
    made.state.chmod(0o777)
    (folder / "tmp").mkdir()
    os.chown(folder / "tmp", NOBODY, NOBODY)
    copied = folder / "package"
    shutil.copytree(REPOSITORY / "accel", copied / "accel")
    made.environment |= {"PYTHONDONTWRITEBYTECODE": "1", "TMPDIR": str(folder / "tmp")}
    yield made
    shutil.rmtree(folder)


def as_nobody(workshop: Workshop, **options: object) -> dict:
    """Load as a user id that has no passwd entry, running only what that user can read."""
    folder = workshop.folder.parent
    python = next(
        (
            path
            for path in (shutil.which("python3", path="/usr/local/bin:/usr/bin"), sys.executable)
            if path and _can_run(path)
        ),
        None,
    )
    if python is None:
        pytest.skip("no Python here that another user may run")
    options["package"] = str(folder / "package")
    return workshop.load(user=NOBODY, python=python, **options)


def _can_run(python: str) -> bool:
    done = subprocess.run(
        [python, "-c", "import sys; sys.exit(sys.version_info < (3, 10))"],
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
        check=False,
        capture_output=True,
    )
    return done.returncode == 0


@needs_root
@pytest.mark.parametrize("home", [None, "", "/", "/root", "/nonexistent"])
def test_without_a_home_it_says_where_it_goes(open_to_all: Workshop, home: str | None) -> None:
    told = as_nobody(open_to_all, env=usual(home))
    place = open_to_all.folder.parent / "tmp" / f"accel-{NOBODY}"
    assert told["value"] == 7, told
    assert told["path"].startswith(str(place))
    assert f"compiled ops go to {place} instead" in told["log"]
    assert mode(place) == 0o700
    assert as_nobody(open_to_all, env=usual(home))["path"] == told["path"]
    assert open_to_all.compiles() == 1


@needs_root
@pytest.mark.parametrize("how", ["writable by all", "of somebody else", "a link", "a file"])
def test_a_squatted_temporary_folder_is_not_used(open_to_all: Workshop, how: str) -> None:
    squatted = open_to_all.folder.parent / "tmp" / f"accel-{NOBODY}"
    elsewhere = open_to_all.folder.parent / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    os.chown(elsewhere, NOBODY, NOBODY)
    if how == "a link":
        squatted.symlink_to(elsewhere)
    elif how == "a file":
        squatted.touch()
    else:
        squatted.mkdir(mode=0o755)
        if how == "writable by all":
            os.chown(squatted, NOBODY, NOBODY)
            squatted.chmod(0o777)
    told = as_nobody(open_to_all, env=usual(None))
    assert told["value"] == 7, told
    assert not told["path"].startswith((f"{squatted}/", f"{elsewhere}/"))
    assert list(elsewhere.iterdir()) == []


@needs_root
def test_a_read_only_cache_is_read(open_to_all: Workshop) -> None:
    first = open_to_all.load()
    for path in (open_to_all.cache, *open_to_all.cache.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    told = as_nobody(open_to_all)
    assert told["path"] == first["path"], told
    assert open_to_all.compiles() == 1
    open_to_all.set_value(8)
    told = as_nobody(open_to_all)
    assert told["value"] == 8
    assert "cannot be written" in told["log"]
    assert len(open_to_all.artifacts()) == 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 200 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200k,mode=0700", "tmpfs", str(disk)],
        check=False,
        capture_output=True,
    )
    if done.returncode:
        pytest.skip("may not mount a file system")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_is_a_clear_error(workshop: Workshop, small_disk: Path) -> None:
    cache = small_disk / "cache"
    workshop.environment["ACCEL_CACHE_DIR"] = str(cache)
    filler = small_disk / "filler"
    for free in (0, 4096, 16384, 24576):
        filler.unlink(missing_ok=True)
        with filler.open("wb") as file:
            available = os.statvfs(small_disk)
            file.write(bytes(max(0, available.f_bavail * available.f_frsize - free)))
        told = workshop.load()
        assert told.get("error") == "BuildFailed", (free, told)
        assert "No space left" in told["message"], (free, told)
        assert list(cache.glob("op-*")) == []
        assert list(cache.glob(".staging/*")) == []
    filler.unlink()
    workshop.cache = cache
    assert workshop.load()["value"] == 7


def test_a_limit_on_file_sizes_is_a_clear_error(workshop: Workshop) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, hard))
    try:
        process = workshop.start()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    from engine_tools import finish

    told = finish(process)
    assert told["error"] == "BuildFailed"
    assert workshop.artifacts() == []
    assert workshop.litter() == []
    assert workshop.load()["value"] == 7


@pytest.mark.parametrize("name", ["../evil", "a/b", "", "x" * 65, "a b", "a;b", "-o", "a\n", "ö"])
def test_a_hostile_name_is_refused(workshop: Workshop, name: str) -> None:
    told = workshop.load(name=name)
    assert "ValueError" in told["log"]
    assert workshop.artifacts() == []


@pytest.mark.parametrize(
    "variable",
    [
        "ACCEL_CACHE_DIR",
        "ACCEL_PREBUILT_DIR",
        "CXX",
        "CXXFLAGS",
        "CFLAGS",
        "MAX_JOBS",
        "NVCC",
        "CUDA_HOME",
        "TMPDIR",
        "XDG_CACHE_HOME",
        "HOME",
        "ACCEL_BUILD_TIMEOUT",
    ],
)
def test_a_shell_command_in_a_variable_is_inert(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    here = workshop.folder / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    workshop.load(env={variable: "; touch owned; $(touch owned) `touch owned` | touch owned &"})
    assert list(workshop.folder.rglob("owned")) == []
