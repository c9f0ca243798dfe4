"""Whatever tensor and place in a file: the file has the tensor's bytes, and the reverse."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from io_cases import NATIVE, builder, bytes_of, file_of, missing, op_of, open_files, tensor_of

from accel.ops.io.async_io import AsyncIO
from accel.ops.io.choosing import make_engine
from accel.ops.io.engines import BUFFERED, WRITE, NativeEngine

MIB = 1 << 20
DTYPES = (
    *(torch.float32, torch.bfloat16, torch.float64, torch.complex64),
    *(torch.int8, torch.int64, torch.bool, torch.float8_e4m3fn),
)
SIZES = st.one_of(
    st.integers(0, 70_000),
    st.sampled_from([0, 1, 511, 512, 4095, 4096, 4097, 8192, 65536, 131072, 200_704]),
)
PLACES = st.one_of(st.integers(0, 20_000), st.sampled_from([0, 512, 4096, 8192]))
MANY = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def aligned(size: int, shift: int) -> torch.Tensor:
    room = torch.zeros(size + 4096 + shift, dtype=torch.uint8)
    start = -room.data_ptr() % 4096 + shift
    return room[start : start + size]


@MANY
@given(SIZES, PLACES, st.sampled_from([0, 0, 1, 64, 512]), st.integers(1, 40_000), st.booleans())
def test_bytes(
    io: AsyncIO, tmp_path: Path, size: int, offset: int, shift: int, block: int, later: bool
) -> None:
    """Any size, offset, alignment and block; what stands around it stays."""
    handle = io.aio_handle(block, 4, False, False, 2)
    path = tmp_path / "file"
    before = file_of(path, 90_000, seed=size)
    written, found = aligned(size, shift), aligned(size, shift)
    written.random_()
    if later:
        assert handle.async_pwrite(written, path, offset) == 0
        assert handle.wait() == 1
        assert handle.async_pread(found, str(path), offset) == 0
        assert handle.wait() == 1
    else:
        assert handle.sync_pwrite(written, path, offset) == 1
        assert handle.sync_pread(found, os.fsencode(path), offset) == 1
    assert torch.equal(found, written)
    expected = before[:offset].ljust(offset if size else 0, b"\0") + bytes_of(written)
    assert path.read_bytes() == expected + before[len(expected) :]
    handle.close()


def layouts(draw: Any, dtype: torch.dtype) -> torch.Tensor:
    shape = draw(st.lists(st.integers(1, 9), min_size=0, max_size=3))
    room = torch.randint(0, 2, (2, *(2 * one for one in shape), 3)).to(dtype)
    view = room[1, ..., 1] if draw(st.booleans()) else room[0, ..., 0].contiguous()
    for axis in range(len(shape)):
        view = view[(slice(None),) * axis + (slice(0, None, draw(st.integers(1, 2))),)]
    if draw(st.booleans()):
        view = view.permute([*reversed(range(view.dim()))])
    return view.conj() if dtype.is_complex and draw(st.booleans()) else view


@MANY
@given(st.data(), st.sampled_from(DTYPES), st.booleans())
def test_layouts(io: AsyncIO, tmp_path: Path, data: Any, dtype: torch.dtype, later: bool) -> None:
    """Strided, transposed and conjugated tensors of any dtype go by the order of their elements."""
    given = layouts(data.draw, dtype)
    handle = io.aio_handle()
    path = tmp_path / "file"
    handle.pwrite(given, path, False, later)
    handle.wait()
    assert path.read_bytes()[: given.nbytes] == bytes_of(given)
    room = torch.zeros([2 * one for one in given.shape], dtype=dtype)
    found = room[tuple(slice(0, None, 2) for _ in given.shape)]
    if dtype.is_complex:
        found = found.conj()
    handle.pread(found, path, False, later)
    handle.wait()
    assert bytes_of(found) == bytes_of(given)
    handle.close()


def test_a_strided_view_of_a_locked_tensor(io: AsyncIO, tmp_path: Path) -> None:
    content = file_of(tmp_path / "file", 4096)
    handle = io.aio_handle()
    room = handle.new_cpu_locked_tensor(8192, torch.empty(0, dtype=torch.uint8))
    assert handle.sync_pread(room[::2], tmp_path / "file") == 1
    assert bytes_of(room[::2]) == content
    assert not room[1::2].any()


def test_results_are_deepspeeds(io: AsyncIO, tmp_path: Path) -> None:
    handle = io.aio_handle(4096, 7, True, True, 3)
    facts = (handle.get_block_size(), handle.get_queue_depth(), handle.get_intra_op_parallelism())
    assert facts == (4096, 7, 3)
    assert handle.get_single_submit() is True
    assert handle.get_overlap_events() is True
    assert handle.get_alignment() == 3 * 512
    assert handle.wait() == 0
    path, data = str(tmp_path / "file"), torch.arange(1000)
    assert handle.write(data, path, True) == 0
    assert handle.read(torch.empty_like(data), path, True) == 0
    assert handle.pwrite(data, path, True, True) == 0
    assert handle.async_pwrite(data, path, 8000) == 0
    assert handle.sync_pread(torch.empty_like(data), path) == 3
    assert io.aio_write(data, path, 4096, 4, False, False, True) == 0
    assert io.aio_read(torch.empty_like(data), path, 4096, 4, False, False, True) == 0
    assert handle.async_pwrite(buffer=data, filename=path, file_offset=0) == 0
    assert handle.wait() == 1
    assert handle.sync_pwrite(torch.empty(0), tmp_path / "empty") == 1
    assert (tmp_path / "empty").stat().st_size == 0


@pytest.mark.parametrize("flags", [0, os.O_DIRECT, os.O_NONBLOCK])
@pytest.mark.parametrize("size", [100, 3 * 4096, 3 * 4096 + 100])
def test_descriptors(io: AsyncIO, tmp_path: Path, flags: int, size: int) -> None:
    """A descriptor may be closed before the write, and keeps its flags."""
    handle = io.aio_handle()
    path, data = tmp_path / "file", aligned(size, 0).random_()
    fd = os.open(path, os.O_CREAT | os.O_WRONLY | flags)
    before = os.get_blocking(fd)
    assert handle.async_pwrite(buffer=data, fd=fd, file_offset=4096) == 0
    assert os.get_blocking(fd) == before
    os.close(fd)
    assert handle.wait() == 1
    assert path.read_bytes() == bytes(4096) + bytes_of(data)
    fd = os.open(path, os.O_RDWR)
    assert handle.async_pwrite(data, fd) == 0
    assert handle.wait() == 1
    assert path.read_bytes()[:size] == bytes_of(data)
    os.close(fd)


def test_many_at_once(io: AsyncIO, tmp_path: Path) -> None:
    """More transfers than requests in flight, from several threads, and no descriptor is left."""
    count = open_files()
    handle = io.aio_handle(4096, 2, False, False, 2)
    data = [aligned(50_000 + 37 * at, at % 3).random_() for at in range(40)]

    def write(start: int) -> None:
        for at in range(start, 40, 4):
            handle.async_pwrite(data[at], tmp_path / str(at))

    users = [threading.Thread(target=write, args=(start,)) for start in range(4)]
    for user in users:
        user.start()
    for user in users:
        user.join()
    assert handle.wait() == 40
    found = [torch.empty_like(one) for one in data]
    for at, one in enumerate(found):
        handle.async_pread(one, tmp_path / str(at))
    assert handle.wait() == 40
    assert all(map(torch.equal, found, data))
    handle.close()
    assert open_files() == count


def test_a_tensor_lives_until_its_transfer_has_ended(io: AsyncIO, tmp_path: Path) -> None:
    handle = io.aio_handle(4096, 1)
    contents = [file_of(tmp_path / str(at), 300_000, at) for at in range(8)]
    for at, content in enumerate(contents):
        handle.async_pwrite(tensor_of(content), tmp_path / f"copy{at}")
        torch.zeros(300_000, dtype=torch.uint8)
    assert handle.wait() == 8
    for at, content in enumerate(contents):
        assert (tmp_path / f"copy{at}").read_bytes() == content


def test_autograd_sees_what_is_read(io: AsyncIO, tmp_path: Path) -> None:
    """A saved tensor that a file overwrote gives an error, not a wrong gradient."""
    file_of(tmp_path / "file", 400)
    saved, weight = torch.ones(100), torch.ones(100, requires_grad=True)
    loss = (saved * weight).sum()
    io.aio_handle().sync_pread(saved, tmp_path / "file")
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
    with torch.inference_mode():
        io.aio_handle().sync_pread(torch.ones(100), tmp_path / "file")


@pytest.mark.parametrize("engine", NATIVE)
def test_what_can_bypasses_the_page_cache(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole pages of aligned memory do; the rest goes through the cache, and agrees with it."""
    if missing(engine):
        pytest.skip(missing(engine))
    op = op_of(engine, monkeypatch)
    made = make_engine(op._library, 16384, 4, 1)
    path = os.fsencode(tmp_path / "file")
    memory = aligned(100_000, 0).random_()
    for shift, offset, length, direct in (
        (0, 0, 98_304, 98_304),
        (0, 0, 100_000, 98_304),
        (0, 8192, 4095, 0),
        (100, 100, 99_000, 94_208),
        (1, 0, 90_000, None),
        (0, 2, 90_000, None),
    ):
        for flags in (WRITE, 0, WRITE | BUFFERED):
            result = made.run(path, -1, memory.data_ptr() + shift, offset, length, flags)
            assert (result.error, result.done) == (0, length)
            if flags & BUFFERED or not _has_direct(path):
                assert result.direct == 0
            elif direct is not None:
                assert result.direct == direct
    made.close()


def _has_direct(path: bytes) -> bool:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
    except OSError:
        return False
    os.close(fd)
    return os.statvfs(path).f_bsize > 0 and not os.fsdecode(path).startswith("/dev/shm")


def test_every_backend_has_it_from_one_library() -> None:
    backends = ("cpu", "cuda", "xpu", "hpu")
    for name in ("AsyncIOBuilder", "PinMemoryBuilder"):
        made = [builder(name, backend) for backend in backends]
        assert {one.recipe().fit for one in made} == {made[0].recipe().fit}
        loaded = [one.load() for one in made]
        assert {one.digest for one in loaded} == {loaded[0].digest}
        assert [one.backend for one in loaded] == [*backends]


def test_a_handle_with_threads_and_queues_beyond_any_limit(io: AsyncIO, tmp_path: Path) -> None:
    """8 handles of 8 threads of 1024 requests: libaio's limit of events is none here."""
    data = aligned(MIB, 0).random_()
    handles = [io.aio_handle(4096, 1024, False, False, 8) for _ in range(8)]
    for at, handle in enumerate(handles):
        assert handle.async_pwrite(data, tmp_path / str(at)) == 0
    assert [handle.wait() for handle in handles] == [1] * 8
    for at in range(8):
        assert (tmp_path / str(at)).read_bytes() == bytes_of(data)
    for handle in handles:
        handle.close()


def test_a_librarys_functions_are_bound_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Binding them took most of the time of making a handle."""
    op = op_of("threads", monkeypatch)
    first, second = (make_engine(op._library, 4096, 1, 1) for _ in range(2))
    assert isinstance(first, NativeEngine) and isinstance(second, NativeEngine)
    assert first._calls is second._calls
    first.close()
    assert second.wait(0, 0) == 0
    second.close()


def test_memcpy(io: AsyncIO) -> None:
    """Every element is copied and no more: any dtype and strides; other dtypes as bits."""
    for dtype in DTYPES:
        source = torch.randint(0, 2, (64, 64)).to(dtype)
        room = torch.zeros(3, 64, 64, dtype=dtype)
        assert io.deepspeed_memcpy(room[1], source) == 0
        assert bytes_of(room[1]) == bytes_of(source)
        assert not room[0].to(torch.complex64).any()
        assert not room[2].to(torch.complex64).any()
        assert io.deepspeed_memcpy(room[2].t(), source) == 0
        assert bytes_of(room[2].t()) == bytes_of(source)
    bits = torch.zeros(8, dtype=torch.uint8)
    assert io.deepspeed_memcpy(bits, torch.tensor([1.5, -2.0])) == 0
    assert bits.view(torch.float32).tolist() == [1.5, -2.0]
    for dest, src, name in (
        (torch.zeros(3), torch.zeros(4), "dest has 12 bytes"),
        (torch.zeros(3, requires_grad=True), torch.zeros(3), "dest requires a gradient"),
        (torch.zeros(3, device="meta"), torch.zeros(3), "dest is on meta"),
        (torch.zeros(1).expand(3), torch.zeros(3), "dest has elements"),
        (bits[1:], bits[:7], "src shares memory with dest"),
    ):
        with pytest.raises(ValueError, match=name):
            io.deepspeed_memcpy(dest, src)
    with pytest.raises(TypeError, match="src is a list"):
        io.deepspeed_memcpy(bits, [1])
