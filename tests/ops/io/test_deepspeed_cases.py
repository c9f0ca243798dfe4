"""DeepSpeed's cases of ``test_aio.py`` that ask for CUDA's pinned memory, on pinned host memory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from io_cases import BYTES, builder, bytes_of, tensor_of

BLOCK, DEPTH, PARALLEL = 1024, 2, 2
SIZE = 4 * BLOCK
PARTS = [[1, 1, 1], [1, 1, 2], [1, 2, 1], [2, 1, 1]]
each_setting = pytest.mark.parametrize(
    ("single", "overlap"), [(True, True), (True, False), (False, True), (False, False)]
)
each_start = pytest.mark.parametrize("begin_only", [False, True])
each_buffer = pytest.mark.parametrize("unpinned", [True, False])


def handle_of(single: bool, overlap: bool) -> Any:
    made = builder().load().aio_handle(BLOCK, DEPTH, single, overlap, PARALLEL)
    assert (made.get_single_submit(), made.get_overlap_events()) == (single, overlap)
    return made


def memory(size: int, unpinned: bool = False) -> torch.Tensor:
    if unpinned:
        return torch.empty(size, dtype=torch.uint8)
    made: torch.Tensor = (
        builder("PinMemoryBuilder").load().pin_handle().new_cpu_locked_tensor(size, BYTES)
    )
    return made


@each_setting
@each_start
@each_buffer
def test_read(
    tmp_path: Path, single: bool, overlap: bool, begin_only: bool, unpinned: bool
) -> None:
    handle, buffer, content = handle_of(single, overlap), memory(SIZE, unpinned), os.urandom(SIZE)
    (tmp_path / "file").write_bytes(content)
    begin = handle.async_pread if begin_only else handle.sync_pread
    assert begin(buffer, str(tmp_path / "file"), 0) == (0 if begin_only else 1)
    assert handle.wait() == (1 if begin_only else 0)
    assert bytes_of(buffer) == content


@each_setting
@each_start
@each_buffer
def test_write(
    tmp_path: Path, single: bool, overlap: bool, begin_only: bool, unpinned: bool
) -> None:
    handle, buffer, content = handle_of(single, overlap), memory(SIZE, unpinned), os.urandom(SIZE)
    buffer.copy_(tensor_of(content))
    begin = handle.async_pwrite if begin_only else handle.sync_pwrite
    assert begin(buffer, str(tmp_path / "file"), 0) == (0 if begin_only else 1)
    assert handle.wait() == (1 if begin_only else 0)
    assert (tmp_path / "file").read_bytes() == content


@pytest.mark.parametrize("parts", PARTS)
@pytest.mark.parametrize("by_descriptor", [False, True])
def test_offset_write(tmp_path: Path, parts: list[int], by_descriptor: bool) -> None:
    handle, buffer, path = handle_of(True, True), memory(sum(parts) * BLOCK), str(tmp_path / "file")
    buffer.random_()
    start = 0
    for part in parts:
        piece = torch.narrow(buffer, 0, start, part * BLOCK)
        if by_descriptor:
            fd = os.open(path, flags=os.O_DIRECT | os.O_CREAT | os.O_WRONLY)
            assert handle.async_pwrite(buffer=piece, fd=fd, file_offset=start) == 0
            assert handle.wait() == 1
            os.close(fd)
        else:
            assert handle.async_pwrite(buffer=piece, filename=path, file_offset=start) == 0
            assert handle.wait() == 1
        start += part * BLOCK
        assert Path(path).read_bytes() == bytes_of(buffer[:start])


@pytest.mark.parametrize("parts", PARTS)
def test_offset_read(tmp_path: Path, parts: list[int]) -> None:
    content = os.urandom(sum(parts) * BLOCK)
    (tmp_path / "file").write_bytes(content)
    handle, buffer, start = handle_of(True, True), memory(len(content)), 0
    for part in parts:
        piece = torch.narrow(buffer, 0, 0, part * BLOCK)
        assert handle.sync_pread(piece, str(tmp_path / "file"), start) == 1
        assert bytes_of(piece) == content[start : start + part * BLOCK]
        start += part * BLOCK
