"""Limits of the machine: passes over the same bytes with next to no arithmetic."""

from __future__ import annotations

import ctypes
import time
from array import array
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from accel.jit import Recipe, acquire
from accel.ops.threads import cpu_threads

Step = Callable[[], object]
PASS, COPY = "memory pass", "memory copy"
LIMITS = (PASS, COPY)


@cache
def library(name: str) -> ctypes.CDLL:
    """Return the compiled ``streams`` or ``lists``.

    Raises:
        AccelError: there is no C++ compiler.
    """
    source = Path(__file__).with_name(f"{name}.cpp")
    recipe = Recipe(name=f"{name}_bench", backend="cpu", sources=(source,), openmp=True)
    return acquire(recipe).handle


def addresses(tensors: Sequence[Any]) -> array[int]:
    """Return the tensors' addresses as 64-bit numbers."""
    return array("q", map(Tensor.data_ptr, tensors))


def adam_pass(lists: list[list[Tensor]]) -> Step:
    """Return a pass on the CPU over the bytes that Adam reads and writes.

    Args:
        lists: parameters, which have gradients, two moments, and master copies if there are any.
    """
    function = library("streams").bench_pass
    function.argtypes = [ctypes.c_void_p] * 6 + [ctypes.c_int64, ctypes.c_int32]
    params, *states = lists
    parameters, *moments = (addresses(listed) for listed in lists)
    masters = moments.pop() if len(states) == 3 else None
    numels = array("q", [param.numel() for param in params])

    def step() -> None:
        grads = addresses([param.grad for param in params])
        arrays = [parameters, grads, masters, *moments, numels]
        function(*(a and a.buffer_info()[0] for a in arrays), len(params), cpu_threads())

    return step


def clip_pass(params: list[Tensor]) -> Step:
    """Return what clipping does to gradients in memory: read them, then read and write them."""
    function = library("lists").bench_clip_pass
    function.restype = ctypes.c_float
    function.argtypes = [
        *(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_float, ctypes.c_int32),
    ]
    numels = array("q", [param.numel() for param in params])

    def turn() -> None:
        at = addresses([param.grad for param in params])
        both = [one.buffer_info()[0] for one in (at, numels)]
        function(*both, len(numels), 0.5, cpu_threads())

    return turn


def copy_pass(moved: int, device: torch.device) -> Step:
    """Return a copy within a device's memory that reads and writes `moved` bytes together."""
    source = torch.zeros(max(1, moved // 2), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return lambda: target.copy_(source)


def effective_cores() -> float:
    """Return how many times one thread's arithmetic all threads get done together."""
    function = library("streams").bench_arithmetic
    function.restype, function.argtypes = ctypes.c_float, [ctypes.c_int32]
    seconds = []
    for threads in (1, cpu_threads()):
        began = time.perf_counter()
        function(threads)
        seconds.append(time.perf_counter() - began)
    return cpu_threads() * seconds[0] / seconds[1]
