"""10,000 transfers under faults of every kind: each is whole, or its failure is told."""

from __future__ import annotations

import errno
import random
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from io_cases import BYTES, NATIVE, bytes_of, faults, faulty, missing, tensor_of

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


@pytest.mark.soak
@pytest.mark.parametrize("engine", NATIVE)
def test_storm(engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """5,000 for each engine, with a signal a millisecond; a third are reads."""
    if missing(engine):
        pytest.skip(missing(engine))
    monkeypatch.setenv("ACCEL_IO_ENGINE", engine)
    choose = random.Random(engine)
    handle = faulty().aio_handle(8192, 4, False, False, 2)
    room = handle.new_cpu_locked_tensor(EACH * (LARGEST + 4096), BYTES)
    before = signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        counts = [one_round(handle, room, tmp_path, choose) for _ in range(ROUNDS)]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    failed = sum(counts)
    assert 0 < failed < ROUNDS * EACH / 2


def one_round(handle: Any, room: torch.Tensor, folder: Path, choose: random.Random) -> int:
    """Begin transfers to and from files of their own and check each; return how many failed."""
    jobs = []
    for at in range(EACH):
        size, shift = choose.randrange(LARGEST), choose.choice((0, 0, 1, 64))
        offset, read = choose.choice((0, 4096, choose.randrange(9000))), choose.random() < 0.3
        start = at * (LARGEST + 4096) + shift
        buffer = room[start : start + size]
        path = folder / str(at)
        content = choose.randbytes(offset + size)
        path.write_bytes(content if read else bytes(offset))
        if read:
            buffer.zero_()
        else:
            buffer.copy_(tensor_of(content[offset:]))
        jobs.append((read, buffer, path, offset, content))
    told: set[str] = set()
    with faults(**choose.choice(KINDS)):
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
