"""The CUDA source: built for the host it has the CPU's bits, and nvcc compiles it."""

from __future__ import annotations

import math
import shutil
from typing import Any

import pytest
import torch
from list_cases import TYPES, exact_norm, flag, mixed, rungs, same_bits, within_a_step
from torch import Tensor

from accel.builders.lookup import find_builder
from accel.jit import Recipe, acquire, csrc_dir
from accel.ops.lists import declared
from accel.ops.lists.multi_tensor import MultiTensor

MANY = [7, 0, 8192, 8193, 1] * 900


@pytest.fixture(scope="module")
def native() -> MultiTensor:
    return rungs()["native"]


@pytest.fixture
def host(session_cache: object, monkeypatch: pytest.MonkeyPatch) -> MultiTensor:
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


@pytest.mark.parametrize("numels", [None, MANY], ids=["few", "many"])
def test_norms(host: MultiTensor, numels: Any) -> None:
    tensors = mixed(2) if numels is None else mixed(2, numels)
    noop = flag()
    total, each = host.multi_tensor_l2norm(1, noop, [tensors], True)
    assert within_a_step(total, exact_norm(tensors)) and noop.item() == 0
    for at in {*range(11), len(tensors) - 1}:
        if at < len(tensors):
            assert within_a_step(each[at], exact_norm([tensors[at]]))
    by = torch.tensor([-0.5], dtype=torch.float32)
    assert torch.equal(host.multi_tensor_unscale_l2norm(1, noop, [tensors], by)[0], total / 2)
    noop.fill_(1)
    total, each = host.multi_tensor_l2norm_mp(1, noop, [tensors], True)
    assert not total.any() and not each.any()
    assert host.multi_tensor_l2norm(1, flag(), [[]])[0].tolist() == [0.0]


@pytest.mark.parametrize("start", [0, 1], ids=["aligned", "unaligned"])
@pytest.mark.parametrize("numels", [None, MANY[:1500]], ids=["few", "many"])
def test_what_is_written_has_the_cpus_bits(
    host: MultiTensor, native: MultiTensor, start: int, numels: Any
) -> None:
    given = mixed(2) if numels is None else mixed(2, numels)
    if start:
        given = [torch.cat([one, one])[1 : 1 + one.numel()] for one in given]
    ys = [one.flip(0).to(TYPES[at % 2]) for at, one in enumerate(given)]
    written = []
    for op in (host, native):
        outputs = [torch.zeros_like(one, dtype=TYPES[(at + 1) % 3]) for at, one in enumerate(given)]
        op.multi_tensor_scale(1, flag(), [given, outputs], 0.3)
        scaled = [one.clone() for one in outputs]
        op.multi_tensor_axpby(1, flag(), [outputs, ys, outputs], 0.3, -1.7)
        summed = [one.clone() for one in outputs]
        totals = [op.multi_tensor_clip(outputs, 1e9), op.multi_tensor_clip(outputs, 0.5)]
        written.append((totals, [*scaled, *summed], outputs))
    assert same_bits(written[0][1], written[1][1])
    for one, other in zip(written[0][0], written[1][0], strict=True):
        assert within_a_step(one, other.double())
    for one, other in zip(written[0][2], written[1][2], strict=True):
        torch.testing.assert_close(one, other, rtol=2 * torch.finfo(one.dtype).eps, atol=1e-7)


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_flags(host: MultiTensor, value: float) -> None:
    tensors = mixed()
    others = [torch.ones_like(one) for one in tensors]
    tensors[8][-1] = value
    for call, expected in (
        (lambda noop: host.multi_tensor_l2norm(1, noop, [tensors]), 1),
        (lambda noop: host.multi_tensor_l2norm_mp(1, noop, [tensors], True), 1),
        (lambda noop: host.multi_tensor_scale(1, noop, [tensors, others], 0.0), 1),
        (lambda noop: host.multi_tensor_axpby(1, noop, [tensors, others, others], 1.0, 0.0, 0), 1),
        (lambda noop: host.multi_tensor_axpby(1, noop, [tensors, mixed(), others], 1.0, 0.0, 1), 0),
    ):
        noop = flag()
        call(noop)
        assert noop.item() == expected
    kept = [one.clone() for one in tensors]
    assert not host.multi_tensor_clip(tensors, 1.0, True).isfinite()
    assert same_bits(tensors, kept)
    host.multi_tensor_clip(tensors, 1.0)
    assert tensors[8].isnan().any() and not same_bits(tensors, kept)


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="needs nvcc")
def test_nvcc_compiles_it(session_cache: object) -> None:
    builder = find_builder("multi_tensor", "accel.builders.cuda", "cuda")()
    assert acquire(builder.recipe().replace(targets=("9.0",))).path.is_file()
