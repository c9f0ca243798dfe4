"""What goes wrong is said: which file, which bytes, which errno; and the handle works on."""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import signal
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from io_cases import (
    NATIVE,
    READ_ONLY_AGAIN,
    builder,
    bytes_of,
    faults,
    faulty,
    file_of,
    file_size_limit,
    in_child,
    kill_a_writer,
    libc,
    may_mount,
    missing,
    mount_small,
    op_of,
    open_files,
)

from accel.errors import AccelError, InvalidSetting, OpUnavailable
from accel.ops.io import choosing, engines
from accel.ops.io.async_io import AsyncIO
from accel.ops.io.failures import TransferError

MIB = 1 << 20
Call = Callable[[Any, torch.Tensor, Any], Any]


def by_read(handle: Any, buffer: torch.Tensor, where: Any) -> Any:
    return handle.sync_pread(buffer, where)


def by_write(handle: Any, buffer: torch.Tensor, where: Any) -> Any:
    return handle.sync_pwrite(buffer, where)


def by_async_write(handle: Any, buffer: torch.Tensor, where: Any) -> Any:
    handle.async_pwrite(buffer, where)
    return handle.wait()


@pytest.mark.parametrize("call", [by_read, by_write, by_async_write])
def test_bad_places(io: AsyncIO, tmp_path: Path, call: Call) -> None:
    """Folders, pipes and what is missing: an `OSError` of the right kind, and no wait."""
    handle, data = io.aio_handle(), torch.ones(25)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").touch()
    for place, kind, number in (
        ("no/file", FileNotFoundError, errno.ENOENT),
        ("file/below", OSError, errno.ENOTDIR),
        ("", IsADirectoryError, errno.EISDIR),
        ("pipe", OSError, errno.ESPIPE),
    ):
        with pytest.raises(kind) as caught:
            call(handle, data, tmp_path / place)
        error: Any = caught.value
        assert (error.errno, error.filename) == (number, str(tmp_path / place))
        assert (error.offset, error.length, error.failures) == (0, 100, (error,))
    with pytest.raises(OSError, match="neither a regular file"):
        call(handle, data, "/dev/null")
    assert handle.sync_pwrite(data, tmp_path / "file") == 1


def test_bad_descriptors(io: AsyncIO, tmp_path: Path) -> None:
    handle, data = io.aio_handle(), torch.ones(25)
    path = tmp_path / "file"
    file_of(path, 100)
    before, (read_end, write_end) = path.read_bytes(), os.pipe()
    opened = [os.open(path, flags) for flags in (os.O_RDONLY, os.O_WRONLY | os.O_APPEND)]
    for fd, number, text in (
        (opened[0], errno.EBADF, "closed, or not open for this"),
        (opened[1], errno.EINVAL, "opened to append"),
        (write_end, errno.ESPIPE, "neither a regular file"),
        (987_654, errno.EBADF, "descriptor 987654"),
    ):
        with pytest.raises(OSError, match=text) as caught:
            handle.async_pwrite(data, fd)
        assert caught.value.errno == number
    for fd in (*opened, read_end, write_end):
        os.close(fd)
    with pytest.raises(OSError, match="closed") as caught:
        handle.async_pwrite(data, opened[0])
    assert path.read_bytes() == before
    assert handle.wait() == 0
    with pytest.raises(ValueError, match="fd is -1"):
        handle.async_pwrite(data, fd=-1)
    with pytest.raises(TypeError, match="a filename or an fd"):
        handle.async_pwrite(data)
    with pytest.raises(TypeError, match="filename is 5"):
        handle.sync_pwrite(data, 5)
    with pytest.raises(TypeError, match="filename is True"):
        handle.async_pwrite(data, True)


def test_bad_arguments(io: AsyncIO, tmp_path: Path) -> None:
    path = tmp_path / "file"
    for named, kind in (
        ({"queue_depth": 0}, ValueError),
        ({"block_size": 0}, ValueError),
        ({"intra_op_parallelism": 0}, ValueError),
        ({"intra_op_parallelism": 100_000}, ValueError),
        ({"block_size": 1.5}, TypeError),
        ({"queue_depth": True}, TypeError),
    ):
        with pytest.raises(kind, match=next(iter(named))):
            io.aio_handle(**named)  # type: ignore[arg-type]
    handle = io.aio_handle()
    sparse = torch.eye(3).to_sparse()
    for buffer, kind, text in (
        (torch.ones(3, device="meta"), ValueError, "buffer is on meta"),
        (torch.ones(3, requires_grad=True), ValueError, "buffer requires a gradient"),
        (torch.nn.Parameter(torch.ones(3)), ValueError, "buffer requires a gradient"),
        (sparse, TypeError, "buffer has layout"),
        ([1, 2], TypeError, "buffer is a list"),
    ):
        for call in (by_read, by_write, by_async_write):
            with pytest.raises(kind, match=text):
                call(handle, buffer, path)  # type: ignore[arg-type]
    file_of(path, 400)
    with pytest.raises(ValueError, match="buffer has elements that share memory"):
        handle.sync_pread(torch.ones(1).expand(100), path)
    resized = torch.ones(100)
    resized.untyped_storage().resize_(0)
    with pytest.raises(ValueError, match="buffer needs 400 bytes"):
        handle.sync_pread(resized, path)
    for offset, kind in (
        (-1, ValueError),
        (2**63, ValueError),
        (2**63 - 1, ValueError),
        (0.5, TypeError),
    ):
        with pytest.raises(kind, match="file_offset is"):
            handle.sync_pwrite(torch.ones(3), path, offset)  # type: ignore[arg-type]
    for bad in ("", "a\0b"):
        with pytest.raises(ValueError, match="filename is"):
            handle.sync_pwrite(torch.ones(3), bad)
    assert path.stat().st_size == 400


def test_a_file_that_is_too_short(io: AsyncIO, tmp_path: Path) -> None:
    """Nothing is read, and nothing is printed; DeepSpeed's aborts."""
    file_of(tmp_path / "file", 5000)
    handle, buffer = io.aio_handle(), torch.full((5001,), 7, dtype=torch.uint8)
    for offset in (0, 1, 5000, 6000):
        with pytest.raises(TransferError, match="the file ends before that") as caught:
            handle.sync_pread(buffer, tmp_path / "file", offset)
        assert caught.value.errno == errno.ENODATA
    assert (buffer == 7).all()
    assert handle.sync_pread(buffer[:5000], tmp_path / "file") == 1


def test_all_failures_are_told_and_the_rest_counts(io: AsyncIO, tmp_path: Path) -> None:
    with file_size_limit(100_000):
        handle = io.aio_handle(4096, 4)
        for at in range(5):
            handle.async_pwrite(torch.ones(20_000 + at), tmp_path / str(at))
        with pytest.raises(TransferError, match="2 more failed") as caught:
            for at in range(5, 8):
                handle.async_pwrite(torch.ones(60_000), tmp_path / str(at))
            handle.wait()
    error = caught.value
    assert error.errno == errno.EFBIG
    assert {Path(str(one.filename)).name for one in error.failures} == {"5", "6", "7"}
    assert error.completed == 5
    assert all(one.offset + one.length <= 240_000 for one in error.failures)
    assert handle.wait() == 0
    assert handle.sync_pwrite(torch.ones(60_000), tmp_path / "5") == 1


def test_a_full_disk_and_one_to_read_alone(io: AsyncIO, tmp_path: Path) -> None:
    """4 MiB to a disk of 1 MiB; in a mount of its own, which needs the right to make one."""

    def run() -> None:
        mount_small(tmp_path, "1m")
        handle, path = io.aio_handle(65536, 4), tmp_path / "file"
        handle.async_pwrite(torch.ones(1 << 20), path)
        with pytest.raises(TransferError, match="the disk is full") as caught:
            handle.wait()
        assert caught.value.errno == errno.ENOSPC
        assert 0 <= caught.value.offset < 4 * MIB
        path.unlink()
        assert handle.sync_pwrite(torch.ones(1000), path) == 1
        libc("mount", b"none", os.fsencode(tmp_path), None, READ_ONLY_AGAIN, None)
        for name in ("file", "another"):
            with pytest.raises(TransferError, match="Read-only file system") as caught:
                handle.sync_pwrite(torch.ones(1000), tmp_path / name)
            assert caught.value.errno == errno.EROFS
        assert handle.sync_pread(torch.ones(1000), path) == 1

    if not may_mount():
        pytest.skip("this user cannot make a mount")
    in_child(run)


def test_without_permission(io: AsyncIO, tmp_path: Path) -> None:
    (tmp_path / "file").touch(0o400)
    handle = io.aio_handle()

    def run() -> None:
        if os.geteuid() == 0:
            os.setresuid(65534, 65534, 65534)
        handle = io.aio_handle()
        for path in (tmp_path / "file", tmp_path / "another"):
            with pytest.raises(PermissionError):
                handle.sync_pwrite(torch.ones(3), path)

    in_child(run)
    handle.close()


def test_sizes_above_2_gib(io: AsyncIO, tmp_path: Path) -> None:
    """A hole at its end is read beyond what one system call can."""
    path, size = tmp_path / "sparse", (2 << 30) + 4097
    with path.open("wb") as file:
        file.truncate(size)
        file.seek(size - 3)
        file.write(b"end")
    handle = io.aio_handle(1 << 40, 4)
    last = torch.zeros(4100, dtype=torch.uint8)
    assert handle.sync_pread(last, path, size - 4100) == 1
    assert bytes_of(last[-3:]) == b"end"
    assert handle.sync_pwrite(last, path, 1 << 33) == 1
    assert path.stat().st_size == (1 << 33) + 4100


def test_handles_of_a_parent_are_refused(io: AsyncIO, tmp_path: Path) -> None:
    """A child gets an error at once, never the parent's completions, and can make its own."""
    handle = io.aio_handle(4096, 2)
    data = torch.arange(100_000)
    handle.async_pwrite(data, tmp_path / "file")

    def run() -> None:
        for call in (handle.wait, lambda: handle.sync_pwrite(data, tmp_path / "other")):
            with pytest.raises(AccelError, match="was made in process"):
                call()
        own = io.aio_handle(4096, 2)
        own.async_pwrite(data, tmp_path / "child")
        assert own.wait() == 1
        handle.close()

    in_child(run)
    assert handle.wait() == 1
    assert (tmp_path / "file").read_bytes() == (tmp_path / "child").read_bytes() == bytes_of(data)


def test_a_dropped_handle_finishes(io: AsyncIO, tmp_path: Path) -> None:
    data = torch.arange(300_000)
    count = open_files()
    handle = io.aio_handle(4096, 1)
    handle.async_pwrite(data, tmp_path / "file")
    del handle
    assert (tmp_path / "file").read_bytes() == bytes_of(data)
    assert open_files() == count
    handle = io.aio_handle()
    with file_size_limit(1000):
        handle.async_pwrite(data, tmp_path / "short")
        with pytest.warns(RuntimeWarning, match=r"before wait\(\), and transfers failed: .*short"):
            handle.close()
    with pytest.raises(AccelError, match="is closed"):
        handle.wait()
    handle.close()


def test_waiting_releases_the_interpreter(tmp_path: Path) -> None:
    """Another thread runs during a wait that cannot end."""
    engine = choosing.make_engine(faulty()._library, 4096, 1, 1)
    memory = torch.zeros(4096, dtype=torch.uint8)
    seen: list[int] = []
    done = threading.Event()

    def count() -> None:
        while not done.is_set():
            seen.append(1)
            time.sleep(0.001)

    other = threading.Thread(target=count)
    with faults(again=1):  # Every request is interrupted.
        engine.submit(os.fsencode(tmp_path / "file"), -1, memory.data_ptr(), 0, 4096, engines.WRITE)
        other.start()
        while len(seen) < 20:
            before = len(seen)
            assert engine.wait(0, 100) == 1
            assert len(seen) > before
        done.set()
    other.join()
    while engine.wait(0, 1000):
        pass
    assert [one.error for one in engine.collect(0)] == [0]
    engine.close()


@pytest.mark.parametrize("direct", [False, True])
def test_ctrl_c(tmp_path: Path, direct: bool) -> None:
    """It ends a wait, whose transfers a further one waits for, and cancels a synchronous call."""

    def interrupt_soon() -> None:
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()

    def run() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        handle = faulty().aio_handle(4096, 2)
        room = handle.new_cpu_locked_tensor(100_001, torch.ones(1))
        data = room[:-1] if direct else room[1:]
        with faults(again=1):  # No request ends.
            handle.async_pwrite(data, tmp_path / "file")
            with pytest.raises(KeyboardInterrupt):
                interrupt_soon()
                handle.wait()
        assert handle.wait() == 1
        assert (tmp_path / "file").read_bytes() == bytes_of(data)
        with faults(again=1):
            engine = handle._jobs.engine
            cancel = engine.cancel
            engine.cancel = lambda ticket: (cancel(ticket), faults().__enter__())
            with pytest.raises(KeyboardInterrupt):
                interrupt_soon()
                handle.sync_pwrite(data, tmp_path / "other")
        assert handle.wait() == 0
        assert (tmp_path / "other").stat().st_size < data.nbytes
        assert handle.sync_pwrite(data, tmp_path / "other") == 1

    in_child(run)


@pytest.mark.parametrize("engine", NATIVE)
def test_without_any_thread(engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller does the work if the system gives no thread."""
    op = op_of(engine, monkeypatch)
    data, path = torch.arange(100_000), tmp_path / "file"

    def run() -> None:
        fd = os.open(path, os.O_CREAT | os.O_WRONLY)
        if os.geteuid() == 0:
            os.setresuid(65534, 65534, 65534)
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
        with pytest.raises(RuntimeError, match="can't start new thread"):
            threading.Thread(target=print).start()
        handle = op.aio_handle(4096, 2, False, False, 3)
        assert [handle.async_pwrite(data, fd, 800_000 * at) for at in range(2)] == [0, 0]
        assert handle.wait() == 2

    in_child(run)
    assert path.read_bytes() == 2 * bytes_of(data)


def test_signals_do_not_disturb(io: AsyncIO, tmp_path: Path) -> None:
    ticks: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda *_: ticks.append(1))
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        handle, data = io.aio_handle(4096, 2), torch.arange(40_000)
        for at in range(10):
            handle.async_pwrite(data, tmp_path / "file", 8 * at)
            assert handle.wait() == 1
            found = torch.empty_like(data)
            assert handle.sync_pread(found, tmp_path / "file", 8 * at) == 1
            assert torch.equal(found, data)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert ticks


@pytest.mark.parametrize("delay", [0.01, 0.05])
def test_a_killed_writer(io: AsyncIO, tmp_path: Path, delay: float) -> None:
    """Each page has the bytes of one write, older ones or newer; none has anything else."""
    kill_a_writer(io, tmp_path / "file", delay)


@pytest.mark.parametrize("engine", NATIVE)
def test_short_and_interrupted_requests_go_on(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if missing(engine):
        pytest.skip(missing(engine))
    monkeypatch.setenv("ACCEL_IO_ENGINE", engine)
    handle = faulty().aio_handle(16384, 4, False, False, 2)
    data = handle.new_cpu_locked_tensor(300_001, torch.empty(0, dtype=torch.uint8)).random_()
    found = torch.empty_like(data)
    with faults(short=2, again=3):
        for at in range(20):
            handle.async_pwrite(data, tmp_path / f"file{at}")
        assert handle.wait() == 20
        assert handle.sync_pread(found, tmp_path / "file7") == 1
    assert torch.equal(found, data)
    assert all((tmp_path / f"file{at}").read_bytes() == bytes_of(data) for at in range(20))


@pytest.mark.parametrize("engine", NATIVE)
def test_a_broken_device(engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if missing(engine):
        pytest.skip(missing(engine))
    monkeypatch.setenv("ACCEL_IO_ENGINE", engine)
    handle = faulty().aio_handle(16384, 4)
    data = torch.arange(50_000)
    with faults(error=errno.EIO, error_every=1):
        handle.async_pwrite(data, tmp_path / "file")
        with pytest.raises(TransferError, match="Input/output error") as caught:
            handle.wait()
        assert (caught.value.errno, caught.value.offset % 4096) == (errno.EIO, 0)
        with pytest.raises(TransferError, match="Input/output error"):
            handle.sync_pwrite(torch.ones(10), tmp_path / "file")
    assert handle.sync_pwrite(data, tmp_path / "file") == 1
    assert (tmp_path / "file").read_bytes() == bytes_of(data)


def test_a_difference_is_told(io: AsyncIO, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`validate` compares with what is read in another way."""
    data = torch.arange(1000)
    handle = io.aio_handle()
    handle.async_pwrite(data, tmp_path / "file")
    handle.wait()
    engine = handle._jobs.engine
    monkeypatch.setattr(engine, "run", lambda *_: engines.Result())
    with pytest.raises(TransferError, match="differ"):
        handle.write(data + 1, tmp_path / "file", True)
    assert handle.write(data, tmp_path / "file", True) == 0


def test_the_engine_and_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    refusal = choosing.io_uring_refusal()
    monkeypatch.setenv("ACCEL_IO_ENGINE", "threads")
    assert "ACCEL_IO_ENGINE=threads" in builder().notes()[0]
    monkeypatch.setattr(choosing, "io_uring_refusal", lambda: "a seccomp filter forbids it")
    monkeypatch.delenv("ACCEL_IO_ENGINE")
    assert builder().notes() == (
        "Engine: a pool of threads; io_uring cannot be used: a seccomp filter forbids it.",
    )
    handle = builder().load().aio_handle()
    assert handle.engine() == "threads"
    monkeypatch.setenv("ACCEL_IO_ENGINE", "io_uring")
    with pytest.raises(OpUnavailable, match="seccomp"):
        builder().load().aio_handle()
    monkeypatch.setenv("ACCEL_IO_ENGINE", "posix")
    with pytest.raises(InvalidSetting, match="ACCEL_IO_ENGINE='posix'"):
        builder().load().aio_handle()
    if not refusal:
        monkeypatch.setattr(choosing, "io_uring_refusal", lambda: "")
        monkeypatch.delenv("ACCEL_IO_ENGINE")
        assert builder().notes()[0].startswith("Engine: io_uring")


def forbid_io_uring() -> None:
    """Install a seccomp filter as containers have one: io_uring_setup fails with EPERM."""
    load, jump, give_back, fail = 0x20, 0x15, 0x06, 0x50000
    program = ((load, 0, 0, 0), (jump, 0, 1, 425), (give_back, 0, 0, fail | errno.EPERM),
               (give_back, 0, 0, 0x7FFF0000))  # fmt: skip
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *one) for one in program))
    given = ctypes.create_string_buffer(struct.pack("HP", len(program), ctypes.addressof(code)))
    libc("prctl", 38, 1, 0, 0, 0)
    libc("prctl", 22, 2, ctypes.c_void_p(ctypes.addressof(given)), 0, 0)


def test_in_a_sandbox_without_io_uring(tmp_path: Path) -> None:
    op = builder().load()

    def run() -> None:
        forbid_io_uring()
        choosing.io_uring_refusal.cache_clear()
        handle = op.aio_handle()
        handle.async_pwrite(torch.ones(1000), tmp_path / "file")
        assert handle.wait() == 1
        assert handle.engine() == "threads"
        assert "failed with EPERM: a seccomp filter forbids it" in op.notes("cpu")[0]

    in_child(run)
    assert (tmp_path / "file").stat().st_size == 4000


def test_a_thread_without_a_ring_does_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit is met after the choice."""

    def run() -> None:
        monkeypatch.setattr(choosing, "io_uring_refusal", lambda: "")
        forbid_io_uring()
        handle = builder().load().aio_handle(4096, 4)
        data = handle.new_cpu_locked_tensor(100_000, torch.empty(0, dtype=torch.uint8)).fill_(3)
        handle.async_pwrite(data, tmp_path / "file")
        assert handle.wait() == 1
        assert handle.engine() == "threads"
        assert (tmp_path / "file").read_bytes() == bytes_of(data)

    in_child(run)


def test_nothing_is_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        handle = op_of("threads", patch).aio_handle(4096, 1, False, False, 3)
        assert handle.write(torch.ones(1024), tmp_path / "file", False) == 0
        assert handle.sync_pwrite(torch.ones(1024), tmp_path / "file") == 1
        with pytest.raises(FileNotFoundError):
            handle.sync_pread(torch.ones(1024), "/no/file")
    assert tuple(capfd.readouterr()) == ("", "")
