"""``blockwise_quantizer``: the nearest codes, and the same bits on every rung and SIMD level."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from quantizer_cases import BLOCKWISE_BITS, TYPES, blockwise_bits, numbers, rungs, same, special
from torch import Tensor

from accel.jit import Recipe, acquire, csrc_dir
from accel.ops.quantizers.blockwise_quantizer import BlockwiseQuantizer
from accel.ops.quantizers.codes import QUANT_TYPES, dynamic_map, four_bit


@pytest.fixture(scope="module")
def ops() -> dict[str, Any]:
    return rungs()


@pytest.fixture
def host(session_cache: object) -> BlockwiseQuantizer:
    """The CUDA kernels as plain C++: a launch is a loop over blocks and threads."""
    recipe = Recipe(
        name="blockwise_quantizer_on_host",
        backend="cpu",
        sources=(csrc_dir() / "cuda/quantizers/blockwise_quantizer.cu",),
        include_dirs=(csrc_dir() / "include", csrc_dir() / "cuda"),
        compile_flags=("-xc++", "-DACCEL_HOST_BUILD", "-Werror"),
    )
    return BlockwiseQuantizer(acquire(recipe), backend="cpu")


def test_every_level_has_the_bits(level: Any) -> None:
    assert blockwise_bits(level) == BLOCKWISE_BITS


def test_the_reference_has_the_bits(ops: dict[str, Any]) -> None:
    assert blockwise_bits(ops["reference"]) == BLOCKWISE_BITS


def test_cudas_kernels_have_the_bits(host: BlockwiseQuantizer) -> None:
    assert host.implementation == "jit"
    assert blockwise_bits(host) == BLOCKWISE_BITS


def test_cudas_kernels_take_any_address(host: BlockwiseQuantizer, ops: dict[str, Any]) -> None:
    for dtype in TYPES:
        x = numbers(1001, dtype)[1:]
        for blocksize in (64, 99):
            codes, absmax = host.quantize_blockwise(x, None, blocksize)
            assert same(codes, ops["native"].quantize_blockwise(x, None, blocksize)[0])
            shifted = torch.cat([codes[:1], codes])[1:]
            back = host.dequantize_blockwise(shifted, absmax, None, blocksize, dtype)
            assert same(
                back, ops["native"].dequantize_blockwise(codes, absmax, None, blocksize, dtype)
            )


def values_of(kind: str) -> Tensor:
    values = dynamic_map() if kind == "dynamic" else four_bit(kind).values
    return torch.tensor(values, dtype=torch.float64)


def excess(x: Tensor, found: Tensor, absmax: Tensor, values: Tensor, blocksize: int) -> float:
    """How much larger an error is than that of the nearest value, in units of absmax."""
    per = absmax.double().repeat_interleave(blocksize)[: x.numel()]
    y = x.double().flatten() / per
    least = (y[:, None] - values[None, :]).abs().min(dim=1).values
    return float(((found.double().flatten() / per - y).abs() - least).max())


@pytest.mark.parametrize("blocksize", [32, 64, 1024, 2048])
@pytest.mark.parametrize("dtype", TYPES)
def test_codes_are_the_nearest(op: Any, dtype: torch.dtype, blocksize: int) -> None:
    x = numbers(5000, dtype)
    codes, absmax = op.quantize_blockwise(x, None, blocksize)
    assert torch.equal(absmax[0], x[:blocksize].abs().max().float())
    found = op.dequantize_blockwise(codes, absmax, None, blocksize)
    assert excess(x, found, absmax, values_of("dynamic"), blocksize) < 2.0**-23
    for kind in QUANT_TYPES:
        packed, state = op.quantize_4bit(x, blocksize, kind)
        found = op.dequantize_4bit(packed, state, torch.float32)
        assert excess(x, found, state.absmax, values_of(kind), blocksize) < 2.0**-23


def test_values_and_their_middles(op: Any) -> None:
    """A value keeps its code, and so do numbers up to the middle between it and the next one."""
    values = values_of("dynamic").float()
    middles = (values[:-1] + values[1:]) / 2
    above = torch.nextafter(middles, torch.full_like(middles, 9.0))
    places = torch.arange(256, dtype=torch.uint8)
    for x, expected in ((values, places), (middles, places[:-1]), (above, places[1:])):
        codes, absmax = op.quantize_blockwise(torch.cat([x, torch.ones(1)]), blocksize=257)
        assert absmax.item() == 1.0 and torch.equal(codes[:-1], expected)
    for kind in QUANT_TYPES:
        four = four_bit(kind)
        x = torch.tensor([*four.values], dtype=torch.float32).repeat(2)
        packed, _ = op.quantize_4bit(x, 32, kind)
        codes = torch.cat([packed >> 4, packed & 15], dim=1).flatten()
        assert [four.values[code] for code in codes.tolist()] == x.tolist()


def test_elements_come_back_in_any_type_without_another_between(op: Any) -> None:
    x = torch.tensor([3e38, -2e-30, 1.0], dtype=torch.float32)
    codes, absmax = op.quantize_blockwise(x, blocksize=1)
    for dtype in TYPES:
        back = op.dequantize_blockwise(codes, absmax, blocksize=1, dtype=dtype)
        wanted = values_of("dynamic")[codes.long()].float() * absmax
        assert torch.equal(back, wanted.to(dtype))
    large = torch.full((64,), 3e38, dtype=torch.bfloat16)
    assert torch.equal(op.dequantize_4bit(*op.quantize_4bit(large)), large)


def test_what_is_not_finite_stays_in_its_block(op: Any) -> None:
    for dtype in TYPES:
        x = torch.ones(5 * 32, dtype=dtype)
        x[3], x[40], x[41], x[70], x[71] = math.nan, math.inf, -math.inf, math.inf, math.nan
        x[96:128] = 0
        for call in (eight, four):
            back = call(op, x)
            assert back[:32].isnan().all() and back[64:96].isnan().all()
            assert back[40] == math.inf and back[41] == -math.inf
            assert back[32:64].isnan().sum() == 30
            assert torch.equal(back[96:], x[96:])


def eight(op: Any, x: Tensor) -> Tensor:
    codes, absmax = op.quantize_blockwise(x, blocksize=32)
    back: Tensor = op.dequantize_blockwise(codes, absmax, blocksize=32, dtype=x.dtype)
    return back


def four(op: Any, x: Tensor) -> Tensor:
    back: Tensor = op.dequantize_4bit(*op.quantize_4bit(x, 32))
    return back


def test_compressed_statistics(op: Any) -> None:
    x = numbers(64 * 700, torch.float32).view(700, 64) * torch.linspace(1, 3, 700)[:, None]
    packed, state = op.quantize_4bit(x, compress_statistics=True)
    assert state.nested and state.absmax.dtype == torch.uint8 and state.state2.absmax.numel() == 3
    plain = op.dequantize_4bit(*op.quantize_4bit(x))
    back = op.dequantize_4bit(packed, state)
    assert back.shape == x.shape
    assert float((back - plain).abs().max()) < 0.03
    x[5, 3] = math.nan
    back = op.dequantize_4bit(*op.quantize_4bit(x, compress_statistics=True))
    assert back[:256].isnan().all() and back[256:].isfinite().all()


@pytest.mark.parametrize("shape", [(0,), (3, 0), (), (1,), (7, 5), (2, 3, 4)])
def test_shapes(op: Any, shape: tuple[int, ...]) -> None:
    x = numbers(max(1, math.prod(shape)), torch.float32)[: math.prod(shape)].view(shape)
    codes, absmax = op.quantize_blockwise(x, blocksize=4)
    assert codes.shape == x.shape and absmax.shape == (-(-x.numel() // 4),)
    assert op.dequantize_blockwise(codes, absmax, blocksize=4).shape == x.shape
    for compress in (False, True):
        packed, state = op.quantize_4bit(x, compress_statistics=compress)
        assert packed.shape == ((x.numel() + 1) // 2, 1) and state.shape == x.shape
        back = op.dequantize_4bit(packed, state)
        assert back.shape == x.shape and back.isfinite().all()


def test_layouts(op: Any) -> None:
    x = numbers(24, torch.float32).view(4, 6)
    for strided in (x.t(), x[:, ::2], x.expand(2, 4, 6)):
        left, right = (
            op.quantize_blockwise(one, blocksize=4) for one in (strided, strided.clone())
        )
        assert same(left[0], right[0]) and left[0].is_contiguous()
        assert same(op.quantize_4bit(strided)[0], op.quantize_4bit(strided.contiguous())[0])
    negated = torch.conj(torch.complex(x, x)).imag
    assert negated.is_neg()
    assert same(op.quantize_blockwise(negated)[0], op.quantize_blockwise(negated.clone())[0])


def test_codes_of_ones_own(op: Any) -> None:
    x = numbers(999, torch.float32)
    steps = torch.arange(256, dtype=torch.float32) / 128 - 1
    codes, absmax = op.quantize_blockwise(x, steps, 50)
    assert excess(x, op.dequantize_blockwise(codes, absmax, steps, 50), absmax,
                  steps.double(), 50) < 2.0**-23  # fmt: skip
    mixed = steps[torch.arange(256) * 77 % 256]
    codes, absmax = op.quantize_blockwise(x, mixed, 50)
    back = op.dequantize_blockwise(codes, absmax, mixed, 50)
    assert torch.equal(
        back, op.dequantize_blockwise(*op.quantize_blockwise(x, steps, 50), steps, 50)
    )
    # Many alike, near zero and beyond one: no table of cells has them.
    crowded = torch.cat([torch.zeros(100), steps[:100] * 1e-9, torch.full((56,), 2.0)])
    codes, absmax = op.quantize_blockwise(x, crowded, 50)
    assert excess(x, op.dequantize_blockwise(codes, absmax, crowded, 50), absmax,
                  crowded.double(), 50) < 2.0**-23  # fmt: skip


def test_threads_change_no_bit(ops: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    x = special(300_001, torch.bfloat16)
    found = []
    for threads in (1, 2, 7):
        monkeypatch.setenv("ACCEL_NUM_THREADS", str(threads))
        codes, absmax = ops["native"].quantize_blockwise(x, blocksize=96)
        packed, state = ops["native"].quantize_4bit(x)
        back = ops["native"].dequantize_4bit(packed, state)
        found.append((codes, absmax, packed, state.absmax, back))
    assert all(
        same(one, other) for each in found for one, other in zip(each, found[0], strict=True)
    )


def test_it_compiles(ops: dict[str, Any]) -> None:
    op, x = ops["native"], numbers(130, torch.float32)

    @torch.compile(backend="eager", fullgraph=True)
    def both(x: Tensor) -> tuple[Tensor, Tensor]:
        codes, absmax = op.quantize_blockwise(x)
        packed, magnitudes = torch.ops.accel.four_bit_encode(x, 64, 0)
        decoded = torch.ops.accel.four_bit_decode(packed, magnitudes, 64, 0, 130, torch.float32)
        return op.dequantize_blockwise(codes, absmax), decoded

    eager = (
        op.dequantize_blockwise(*op.quantize_blockwise(x)),
        op.dequantize_4bit(*op.quantize_4bit(x)),
    )
    assert all(map(same, both(x), eager))
    torch.library.opcheck(torch.ops.accel.four_bit_encode.default, (x, 64, 1))
    coded = op.quantize_blockwise(x)
    torch.library.opcheck(
        torch.ops.accel.blockwise_decode.default, (*coded, None, 256, torch.bfloat16)
    )


floats = st.floats(width=32, allow_nan=True, allow_infinity=True)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(floats, max_size=150), st.sampled_from(TYPES), st.integers(1, 200),
    st.sampled_from(QUANT_TYPES),
)  # fmt: skip
def test_any_numbers_give_the_same_on_both_rungs(
    ops: dict[str, Any], drawn: list[float], dtype: torch.dtype, blocksize: int, kind: str
) -> None:
    x = torch.tensor(drawn, dtype=torch.float32).to(dtype)
    left, right = (one.quantize_blockwise(x, None, blocksize) for one in ops.values())
    assert same(left[0], right[0]) and same(left[1], right[1])
    backs = [one.dequantize_blockwise(*left, None, blocksize, dtype) for one in ops.values()]
    assert same(*backs)
    packed = [one.quantize_4bit(x, 32, kind) for one in ops.values()]
    assert same(packed[0][0], packed[1][0]) and same(packed[0][1].absmax, packed[1][1].absmax)
    assert same(*(one.dequantize_4bit(*packed[0]) for one in ops.values()))
    # What is finite is at most half the widest gap away, in its block's own size.
    blocks = [x[at : at + blocksize] for at in range(0, x.numel(), blocksize)]
    for block, back in zip(blocks, backs[0].split(blocksize) if blocks else [], strict=True):
        if bool(block.isfinite().all()):
            most = block.abs().max().double()
            info = torch.finfo(dtype)
            near = most * (0.0071 + info.eps) + info.tiny * info.eps
            assert bool(((back.double() - block.double()).abs() <= near).all())
