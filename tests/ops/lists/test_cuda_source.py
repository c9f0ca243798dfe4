"""The CUDA source: built for the host it has the CPU's bits, and nvcc compiles it."""

from __future__ import annotations

import math
import shutil

import pytest
import torch
from list_checks import ListChecks
from torch import Tensor

from accel.builders.lookup import find_builder
from accel.jit import Recipe, acquire, csrc_dir
from accel.ops.lists import declared
from accel.ops.lists.multi_tensor import MultiTensor

MANY = (7, 0, 8192, 8193, 1) * 900


@pytest.fixture
def op(session_cache: object, monkeypatch: pytest.MonkeyPatch) -> MultiTensor:
    """The CUDA kernels as plain C++: a launch is a loop over blocks and threads."""
    folders = (csrc_dir() / "include", csrc_dir() / "cuda")
    recipe = Recipe(
        name="multi_tensor_on_host",
        backend="cpu",
        sources=(csrc_dir() / "cuda/lists/multi_tensor.cu",),
        include_dirs=folders,
        compile_flags=("-xc++", "-DACCEL_HOST_BUILD", "-Werror"),
    )

    def room(tensors: list[Tensor], device: torch.device) -> Tensor:
        chunks = sum(-(-one.numel() // declared.CHUNK) for one in tensors)
        return torch.full((chunks + len(tensors),), math.nan, dtype=torch.float64)

    monkeypatch.setattr(declared, "room_for_sums", room)
    return MultiTensor(acquire(recipe), backend="cpu")


class TestOnHost(ListChecks):
    """The checks of every device."""

    many = MANY


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="needs nvcc")
def test_nvcc_compiles_it(session_cache: object) -> None:
    builder = find_builder("multi_tensor", "accel.builders.cuda", "cuda")()
    assert acquire(builder.recipe().replace(targets=("9.0",))).path.is_file()
