"""30,000 transfers under faults of every kind: each is whole, or its failure is told."""

from __future__ import annotations

import errno
import os
import random
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from io_cases import (
    BYTES,
    NATIVE,
    bytes_of,
    faults,
    faulty,
    file_size_limit,
    in_child,
    kill_a_writer,
    may_mount,
    missing,
    mount_small,
    op_of,
    tensor_of,
)

from accel.ops.io.failures import TransferError

ROUNDS, EACH = 250, 20
LARGEST = 60_000
KINDS: tuple[dict[str, int], ...] = (
    {},
    {"short": 2, "again": 4},
    {"error": errno.EIO, "error_every": 15},
    {"error": errno.ENOSPC, "error_every": 40, "short": 3},
    {"error": errno.EAGAIN, "error_every": 5},
    {"error": errno.EINVAL, "error_every": 9, "short": 5, "again": 5},
)
# Faults that no transfer fails by.
QUIET = KINDS[:2]


@pytest.mark.soak
@pytest.mark.parametrize("engine", NATIVE)
def test_storm(engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """5,000 for each engine, with a signal a millisecond; a third are reads."""
    use(engine, monkeypatch)
    failed = storm(engine, tmp_path, tmp_path, KINDS, nullcontext)
    assert 0 < failed < ROUNDS * EACH / 2


@pytest.mark.soak
@pytest.mark.parametrize("engine", NATIVE)
def test_storm_on_a_full_disk(engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Further 5,000; the written half does not fit, in a mount of its own."""
    use(engine, monkeypatch)
    if not may_mount():
        pytest.skip("this user cannot make a mount")
    disk = tmp_path / "disk"
    disk.mkdir()
    faulty()

    def run() -> None:
        mount_small(disk, "300k")
        failed = storm(engine, tmp_path, disk, QUIET, nullcontext)
        assert ROUNDS < failed < ROUNDS * EACH * 0.9

    in_child(run)


@pytest.mark.soak
@pytest.mark.parametrize("engine", NATIVE)
def test_storm_under_a_limit_of_files(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Further 5,000; files may have 40,000 bytes."""
    use(engine, monkeypatch)
    failed = storm(engine, tmp_path, tmp_path, QUIET, lambda: file_size_limit(40_000))
    assert ROUNDS < failed < ROUNDS * EACH / 2


@pytest.mark.soak
@pytest.mark.parametrize("engine", NATIVE)
def test_many_killed_writers(engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(engine, monkeypatch)
    choose, io = random.Random(engine), op_of(engine, monkeypatch)
    for _ in range(50):
        kill_a_writer(io, tmp_path / "file", choose.random() / 20)


def use(engine: str, patch: pytest.MonkeyPatch) -> None:
    if missing(engine):
        pytest.skip(missing(engine))
    patch.setenv("ACCEL_IO_ENGINE", engine)


def storm(
    engine: str,
    folder: Path,
    disk: Path,
    kinds: tuple[dict[str, int], ...],
    limit: Callable[[], AbstractContextManager[None]],
) -> int:
    """Run all rounds with a signal a millisecond; return how many transfers failed."""
    choose = random.Random(engine)
    handle = faulty().aio_handle(8192, 4, False, False, 2)
    room = handle.new_cpu_locked_tensor(EACH * (LARGEST + 4096), BYTES)
    before = signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        return sum(
            one_round(handle, room, folder, disk, choose, choose.choice(kinds), limit)
            for _ in range(ROUNDS)
        )
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def one_round(
    handle: Any,
    room: torch.Tensor,
    folder: Path,
    disk: Path,
    choose: random.Random,
    kind: dict[str, int],
    limit: Callable[[], AbstractContextManager[None]],
) -> int:
    """Begin reads from a folder and writes to a disk, a file each, and check each.

    Returns how many failed.
    """
    jobs = []
    for at in range(EACH):
        size, shift = choose.randrange(LARGEST), choose.choice((0, 0, 1, 64))
        offset, read = choose.choice((0, 4096, choose.randrange(9000))), choose.random() < 0.3
        start = at * (LARGEST + 4096) + shift
        buffer = room[start : start + size]
        path = (folder if read else disk) / str(at)
        content = choose.randbytes(offset + size)
        path.write_bytes(content if read else b"")
        if read:
            buffer.zero_()
        else:
            os.truncate(path, offset)
            buffer.copy_(tensor_of(content[offset:]))
        jobs.append((read, buffer, path, offset, content))
    told: set[str] = set()
    with faults(**kind), limit():
        for read, buffer, path, offset, _ in jobs:
            (handle.async_pread if read else handle.async_pwrite)(buffer, path, offset)
        try:
            assert handle.wait() == EACH
        except TransferError as error:
            told = {str(one.filename) for one in error.failures}
            assert len(told) + error.completed == EACH
    for read, buffer, path, offset, content in jobs:
        if str(path) not in told:
            assert bytes_of(buffer) == content[offset:]
            assert read or path.read_bytes()[offset:] == content[offset:]
    return len(told)
