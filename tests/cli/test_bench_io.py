"""``accel bench io``: what it measures, says, writes and refuses; never a time."""

from __future__ import annotations

import ctypes
import errno
import importlib.util
import json
import os
from pathlib import Path
from typing import Any

import pytest
from bench_cases import on_cpu, run  # noqa: F401
from io_cases import (
    READ_ONLY_AGAIN,
    faults,
    faulty,
    file_size_limit,
    in_child,
    libc,
    may_mount,
    missing,
    mount_small,
    open_files,
)

from accel.bench import io as benchmark
from accel.bench.io import LIMIT, MIB, Budget, Setting
from accel.ops.io.choosing import make_engine
from accel.ops.io.failures import TransferError

SMALL = ("--mib", "16", "--seconds", "99", "--total-gib", "0.25", "--threads", "1")
QUICK = (*SMALL, "--block-kib", "512", "--depth", "4")


def bypasses_the_cache(folder: Path) -> bool:
    engine, memory = make_engine(faulty()._library, MIB, 1, 1), bytearray(1 << 14)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    path = folder / "direct"
    shift = -address % 4096
    result = engine.run(os.fsencode(path), -1, address + shift, 0, 8192, 1)
    engine.close()
    path.unlink()
    return result.direct > 0


def test_it_measures_writes_draws_and_leaves_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ACCEL_IO_ENGINE", raising=False)
    place, file, png = tmp_path / "disk", tmp_path / "a.json", tmp_path / "a.png"
    place.mkdir()
    direct = bypasses_the_cache(place)
    options = (*SMALL, "--block-kib", "256,512", "--depth", "4,512")
    said = run(capfd, "io", str(place), *options, "--json", str(file), "--png", str(png))
    assert [*place.iterdir()] == []
    found = json.loads(file.read_text())
    assert json.loads(said[said.index("\n{") :]) == {"aio": found["aio"]}
    names = {LIMIT, "256 KiB, depth 4, threads 1", "512 KiB, depth 4, threads 1"}
    turns = 0
    for case in found["cases"].values():
        assert {*case["contestants"]} == names and case["limit"] == LIMIT
        assert case["bytes"] == 16 * MIB and case["best"] in names - {LIMIT}
        assert {*case["left_out"]} == {f"{size} KiB, depth 512, threads 1" for size in (256, 512)}
        turns += len(names) * (case["rounds"] + 1)
    assert turns * 16 * MIB <= 0.25 * (1 << 30)
    assert found["direct"] == (1.0 if direct else 0.0)
    uring = direct and not missing("io_uring")
    assert found["engine"] == ("io_uring" if uring else "threads")
    assert ("engine: io_uring." in said) is uring
    assert ("O_DIRECT: used for all bytes" in said) is direct
    assert ("The disk's own limit, estimated by 8 threads" in said) is direct
    assert f"{place}: {found['file_system']}" in said and " on " in found["file_system"]
    assert png.read_bytes().startswith(b"\x89PNG")
    assert "read, 16 MiB" in run(capfd, "plot", str(file))
    compared = json.loads(run(capfd, "compare", str(file), str(file), "--json"))
    assert compared["unlike"] == [] and len(compared["contestants"]) == 2 * len(names)


def test_it_says_what_was_not_used(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder in memory, and threads."""
    monkeypatch.setenv("ACCEL_IO_ENGINE", "threads")
    said = run(capfd, "io", "/dev/shm", *QUICK)
    assert "engine: threads, without io_uring: ACCEL_IO_ENGINE=threads is set." in said
    assert "/dev/shm: tmpfs on " in said
    assert "O_DIRECT: not used, all through the cache" in said
    assert "The disk's own limit was not measured" in said
    monkeypatch.setenv("ACCEL_OPS", "reference")
    said = run(capfd, "io", "/dev/shm", *QUICK)
    assert "engine: Python's threads, as there is no library." in said


def test_the_section_is_deepspeeds() -> None:
    """Its names, and values of the types of its defaults."""
    if importlib.util.find_spec("deepspeed") is None:
        pytest.skip("deepspeed is not installed")
    spec: Any = importlib.util.find_spec("deepspeed")
    path = Path(spec.origin).parent / "runtime/swap_tensor/constants.py"
    theirs: dict[str, Any] = {}
    exec(compile(path.read_text(), str(path), "exec"), theirs)
    names = [one for one in theirs if one.startswith("AIO_") and f"{one}_DEFAULT" in theirs]
    wanted = {theirs[one]: type(theirs[f"{one}_DEFAULT"]) for one in names}
    wanted.pop("use_gds", None)
    ours = Setting(MIB, 8, 2).aio()
    assert {name: type(value) for name, value in ours.items()} == wanted


@pytest.mark.parametrize(
    ("place", "options", "says"),
    [
        ("absent", (), "absent: there is no such folder; make it first, or name another."),
        ("file", (), "file: it is not a folder; name the folder"),
        ("file/below", (), "it is not a folder"),
        (".", ("--mib", str(1 << 20)), "MiB free, and the file has 1048576 MiB; make room"),
        (".", ("--mib", "8"), "8 is not in the range"),
        (".", ("--total-gib", "0.1"), "one round of 27 settings transfers at least 0.88 GiB"),
        (".", ("--threads", "1,x"), "'1,x' is not a list of numbers, such as 1,2,4."),
        (".", ("--depth", "0"), "'0' has a number that is not from 1 to"),
    ],
    ids=str,
)
def test_what_cannot_be_measured_is_said_first(
    place: str,
    options: tuple[str, ...],
    says: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "file").touch()
    said = " ".join(run(capfd, "io", str(tmp_path / place), *options, code=2).split())
    assert says in said.replace("│ ", "").replace(" │", "") and "Traceback" not in said


def test_a_limit_of_files_is_said(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with file_size_limit(MIB):
        said = run(capfd, "io", str(tmp_path), *QUICK, code=2)
    assert "a file may not be as large (ulimit -f)" in " ".join(said.split())


def test_disks_that_are_full_read_only_or_anothers(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """In a mount of its own, which needs the right to make one."""

    def code_and_words() -> str:
        return " ".join(run(capfd, "io", str(tmp_path), *QUICK, code=2).split())

    def check() -> None:
        mount_small(tmp_path, "20m,mode=755")
        place = os.fsencode(tmp_path)
        (tmp_path / "most").write_bytes(bytes(10 * MIB))
        assert "has 10 MiB free, and the file has 16 MiB; make room" in code_and_words()
        (tmp_path / "most").unlink()
        libc("mount", b"none", place, None, READ_ONLY_AGAIN, None)
        assert "it is read-only; mount it for writing" in code_and_words()
        libc("mount", b"none", place, None, 0x20, None)
        os.setresuid(65534, 65534, 65534)
        assert "you may not make files there; change its permissions" in code_and_words()

    if not may_mount():
        pytest.skip("this user cannot make a mount")
    run(capfd, "io", "/dev/shm", *QUICK)  # The op is built, and everything imported.
    in_child(check)


def test_a_device_that_fails_is_said_and_everything_closed(tmp_path: Path) -> None:
    count = open_files()
    for errors in (1, 40):  # At once, and in the middle.
        with faults(error=errno.EIO, error_every=errors):
            with pytest.raises(TransferError, match="Input/output error") as caught:
                benchmark.measure(
                    tmp_path,
                    [Setting(MIB, 4, 1)],
                    Budget(16 * MIB, 60, 1 << 40),
                    make_engine=faulty().make_engine,
                    advance=lambda part: None,
                )
            assert caught.value.errno == errno.EIO
    assert open_files() == count and [*tmp_path.iterdir()] == []


def test_turns_fit_into_the_limits() -> None:
    budget = Budget(256 * MIB, 60, 32 << 30)
    assert benchmark.turn_bytes(budget, 1e12, 2) == 256 * MIB
    assert benchmark.turn_bytes(budget, 100 * MIB, 9) == 100 * MIB
    assert benchmark.turn_bytes(budget, 1.0, 9) == 16 * MIB
    assert benchmark.turn_bytes(Budget(256 * MIB, 60, 6 << 30), 1e12, 9) == 102 * MIB


def keys() -> list[tuple[str, str]]:
    return [(way, name) for way in benchmark.DIRECTIONS for name in (LIMIT, "a", "b")]


def test_rounds_are_whole_and_begin_with_the_limit() -> None:
    calls: list[tuple[str, str]] = []

    def turn(key: tuple[str, str]) -> float:
        calls.append(key)
        return float(len(calls))

    parts: list[float] = []
    turns = {key: lambda key=key: turn(key) for key in keys()}
    times = benchmark.take_turns(turns, 1e9, 3, parts.append)
    assert {key: len(listed) for key, listed in times.items()} == dict.fromkeys(keys(), 2)
    rounds = [calls[at : at + 6] for at in range(0, 18, 6)]
    assert all({*one} == {*keys()} and {key[1] for key in one[:2]} == {LIMIT} for one in rounds)
    assert len({tuple(one) for one in rounds}) > 1
    assert parts == sorted(parts) and parts[0] >= 0 and parts[-1] < 1
    only = benchmark.take_turns(turns, 1e9, 1, parts.append)
    assert {len(listed) for listed in only.values()} == {1}


def test_without_time_only_the_limit_is_measured() -> None:
    turns = {key: lambda: 1.0 for key in keys()}
    times = benchmark.take_turns(turns, -1.0, 5, lambda part: None)
    assert times == {("read", LIMIT): [1.0], ("write", LIMIT): [1.0]}


def test_the_best_setting_is_for_both_ways_and_small() -> None:
    def cases(**seconds: tuple[float, float]) -> Any:
        found: dict[str, Any] = {}
        for at, way in enumerate(benchmark.DIRECTIONS):
            rows = {
                one.name: {"seconds": seconds[name][at]}
                for name, one in used.items()
                if name in seconds
            }
            found[way] = {"contestants": rows}
        return found

    used = {"few": Setting(MIB, 8, 1), "deep": Setting(MIB, 32, 1), "many": Setting(MIB, 8, 4)}

    def best(**seconds: tuple[float, float]) -> Setting | None:
        return benchmark.best([*used.values()], cases(**seconds))

    assert best(few=(1, 9), deep=(2, 2), many=(9, 1)) == used["deep"]
    assert best(few=(1.02, 1), deep=(1, 1), many=(0.99, 1)) == used["few"]
    assert best(few=(1.5, 1), deep=(1, 1), many=(0.7, 1)) == used["many"]
    assert best(many=(3, 3)) == used["many"]
    assert best() is None
