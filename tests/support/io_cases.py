"""What the tests of asynchronous I/O share: every engine, files, and a library with faults."""

from __future__ import annotations

import ctypes
import os
import random
import resource
import signal
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from accel.builders.kinds import HostOpBuilder
from accel.builders.lookup import find_builder
from accel.ops.io.async_io import AsyncIO
from accel.ops.io.choosing import io_uring_refusal

ENGINES = ("io_uring", "threads", "python")
NATIVE = ENGINES[:2]
NEW_MOUNTS, READ_ONLY_AGAIN = 0x20000, 0x21
BYTES = torch.empty(0, dtype=torch.uint8)


def builder(name: str = "AsyncIOBuilder", backend: str = "cpu") -> Any:
    return find_builder(name, f"accel.builders.{backend}", backend)()


def op_of(engine: str, patch: Any) -> AsyncIO:
    """Return the op with an engine forced, as long as `patch` is in force."""
    if engine == "python":
        patch.setenv("ACCEL_OPS", "reference")
    else:
        patch.setenv("ACCEL_IO_ENGINE", engine)
    op: AsyncIO = builder().load()
    assert op.implementation == ("reference" if engine == "python" else "jit")
    return op


def missing(engine: str) -> str:
    """Return why this machine lacks an engine, ``""`` if it has it."""
    return io_uring_refusal() if engine == "io_uring" else ""


class FaultyBuilder(HostOpBuilder):
    NAME = "faulty_io"
    op = "accel.ops.io.async_io:AsyncIO"
    native_sources = ("cpu/io/async_io.cpp",)

    def cxx_args(self) -> list[str]:
        return [*super().cxx_args(), "-DACCEL_IO_FAULTS"]


@cache
def faulty() -> AsyncIO:
    """Return the op by a library whose requests can be made to fail; see `faults`."""
    op: AsyncIO = FaultyBuilder().jit_load()
    return op


@contextmanager
def faults(
    *, error: int = 0, error_every: int = 0, short: int = 0, again: int = 0
) -> Iterator[None]:
    """Let 1 of so many requests fail with an errno, be short, or be interrupted; 0: none."""
    library: Any = faulty()._library
    set_faults = library["accel_io_faults"]
    set_faults.argtypes, set_faults.restype = (ctypes.c_int64,) * 4, None
    set_faults(error, error_every, short, again)
    try:
        yield
    finally:
        set_faults(0, 0, 0, 0)


def file_of(path: Path, size: int, seed: int = 0) -> bytes:
    """Make a file of random bytes and return them."""
    content = random.Random(seed).randbytes(size)
    path.write_bytes(content)
    return content


def bytes_of(tensor: Tensor) -> bytes:
    """Return the elements in their order, as a file has them."""
    plain = tensor.detach().resolve_conj().resolve_neg().contiguous().reshape(-1)
    return plain.view(torch.uint8).numpy().tobytes() if plain.numel() else b""


def tensor_of(content: bytes) -> Tensor:
    return torch.frombuffer(bytearray(content), dtype=torch.uint8) if content else BYTES.clone()


def start_child(run: Callable[[], object]) -> int:
    """Run a function in a fork of this process, without OpenMP's threads; return its number."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        child = os.fork()
    if child:
        return child
    code = 1
    try:
        torch.set_num_threads(1)
        run()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def in_child(run: Callable[[], object]) -> None:
    """Run a function in a fork of this process; fail if it raises."""
    assert os.waitpid(start_child(run), 0)[1] == 0


def libc(name: str, *args: Any) -> None:
    """Call a function of the C library; raises `OSError`."""
    function = getattr(ctypes.CDLL(None, use_errno=True), name)
    if function(*args):
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond a size."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def may_mount() -> bool:
    """Return whether a fork of this process may make a mount of its own."""
    try:
        in_child(lambda: libc("unshare", NEW_MOUNTS))
    except AssertionError:
        return False
    return True


def mount_small(place: Path, size: str) -> None:
    """Put an empty disk into a folder, for this process alone; to be called in a fork."""
    libc("unshare", NEW_MOUNTS)
    libc("mount", b"none", b"/", None, 0x44000, None)
    libc("mount", b"none", os.fsencode(place), b"tmpfs", 0, f"size={size}".encode())


def kill_a_writer(io: AsyncIO, path: Path, delay: float) -> None:
    """Kill a process that writes a file again and again; each page has the bytes of one write."""
    size = 1_000_000
    path.write_bytes(bytes([251]) * size)
    read_end, write_end = os.pipe()

    def run() -> None:
        handle = io.aio_handle(4096, 8)
        data = handle.new_cpu_locked_tensor(size, BYTES)
        os.write(write_end, b"x")
        for value in range(1_000_000):
            data.fill_(value % 250 + 1)
            handle.async_pwrite(data, path)
            handle.wait()

    child = start_child(run)
    assert os.read(read_end, 1) == b"x"
    time.sleep(delay)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    for end in (read_end, write_end):
        os.close(end)
    content = path.read_bytes()
    assert len(content) == size
    pages = [content[at : at + 4096] for at in range(0, size, 4096)]
    assert all(page == page[:1] * len(page) and page[0] for page in pages)


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208
