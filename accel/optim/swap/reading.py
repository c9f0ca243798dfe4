"""`read_swap`: the states that an optimizer has left in files."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from accel.errors import SwapFailed
from accel.optim.swap.extent import tensor_at
from accel.optim.swap.folder import locked, trusted
from accel.optim.swap.record import Found, Layout, find

_ADVICE = "Resume from a checkpoint."


def read_swap(folder: str | os.PathLike[str]) -> dict[int, dict[str, Tensor]]:
    """Return the states of the last complete step that a process has left in a `swap_dir`.

    The parameters are not in the files: a run that was killed resumes from a checkpoint.

    Args:
        folder: the folder; no optimizer may be using it.

    Returns:
        The states of each parameter by key, by the parameter's number in a state dict, as the
        entry ``"state"`` of one. Tensors are read from the files as they are used; to write to
        them does not change the files, which may be removed in the meantime.

    Raises:
        TypeError: `folder` is no path.
        SwapFailed: it has no complete step, because its process was killed in the middle of one, or
            files are missing or damaged; it is in use, or others may write it.
    """
    path = trusted(folder)
    lock = locked(path)
    try:
        found = _complete(path)
        return dict(_states(path, found))
    except (OSError, ValueError) as error:
        raise SwapFailed(
            f"{path} has damaged files of an optimizer's states: {error}. {_ADVICE}"
        ) from None
    finally:
        lock.remove()


def _complete(path: Path) -> Found:
    found = find(path)
    if found is None:
        raise SwapFailed(f"{path} holds no states of an optimizer. {_ADVICE}")
    if why := found.fault():
        raise SwapFailed(f"{path} holds no complete step: {why}. {_ADVICE}")
    return found


def _states(path: Path, found: Found) -> Iterator[tuple[int, dict[str, Tensor]]]:
    counters = iter(found.counters)
    for layout in found.layouts:
        memory = _mapped(path / layout.name, layout)
        for place in layout.places:
            step = torch.tensor(next(counters), dtype=torch.float32, device="cpu")
            state = {"step": step}
            for key, name, offset in layout.fields:
                dtype: torch.dtype = getattr(torch, name)
                begin = offset + place.start * dtype.itemsize
                state[key] = tensor_at(memory, begin, dtype, place.shape, place.stride)
            if place.number >= 0:
                yield place.number, state


def _mapped(path: Path, layout: Layout) -> mmap.mmap:
    """Return a private mapping of a file; raises `ValueError` if its size is wrong."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        size = os.fstat(fd).st_size
        if size != layout.size:
            raise ValueError(f"{path} has {size} bytes instead of {layout.size}")
        return mmap.mmap(fd, size, access=mmap.ACCESS_COPY)
    finally:
        os.close(fd)
