"""``quantizer``: DeepSpeed's format, and the same bits on every rung and SIMD level."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from quantizer_cases import (
    QUANTIZER_BITS,
    TYPES,
    numbers,
    quantizer_bits,
    quantizer_rungs,
    same,
)
from torch import Tensor

from accel.jit import Recipe, acquire, csrc_dir
from accel.ops.quantizers.quantizer import Quantizer


@pytest.fixture(scope="module")
def ops() -> dict[str, Any]:
    return quantizer_rungs()


def test_every_level_has_the_bits(level: Any) -> None:
    assert quantizer_bits(level) == QUANTIZER_BITS


def test_the_reference_has_the_bits(ops: dict[str, Any]) -> None:
    assert quantizer_bits(ops["reference"]) == QUANTIZER_BITS


def test_cudas_kernels_have_the_bits(session_cache: object) -> None:
    """As plain C++: a launch is a loop over blocks and threads."""
    recipe = Recipe(
        name="quantizer_on_host",
        backend="cpu",
        sources=(csrc_dir() / "cuda/quantizers/quantizer.cu",),
        include_dirs=(csrc_dir() / "include", csrc_dir() / "cuda"),
        compile_flags=("-xc++", "-DACCEL_HOST_BUILD", "-Werror"),
    )
    assert quantizer_bits(Quantizer(acquire(recipe), backend="cpu")) == QUANTIZER_BITS


def deepspeeds(x: Tensor, groups: int, bits: int, asymmetric: bool) -> tuple[Tensor, Tensor]:
    """Codes, one an element, and parameters, by the formulas of DeepSpeed's kernels, in float32."""
    rows, whole = x.float().view(groups, -1), torch.full((groups, 1), 2.0**bits)
    least, most = rows.amin(1, keepdim=True), rows.amax(1, keepdim=True)
    largest = rows.abs().amax(1, keepdim=True)
    scale = whole / (most - least) if asymmetric else whole / (2 * largest)
    scale = torch.where(scale.isinf(), 1.0, scale)
    offset = (most + least) / 2 if asymmetric else torch.zeros_like(most)
    y = ((rows - offset) * scale).round()
    codes = y.clamp(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1).to(torch.int8)
    params = [torch.ones_like(scale) / scale, *([offset] if asymmetric else [])]
    return codes, torch.cat(params, 1)


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("asymmetric", [False, True])
def test_deepspeeds_formulas(op: Any, bits: int, asymmetric: bool) -> None:
    x = numbers(96 * 32, torch.float16).view(96, 32) * 3
    x[7:9] = 0
    x[9] = 0.25
    codes, params = op.quantize(x, 96, bits, op.QuantizationType(int(asymmetric)))
    expected, wanted = deepspeeds(x, 96, bits, asymmetric)
    assert codes.dtype == torch.int8 and codes.shape == (96, 32 * bits // 8)
    assert same(params, wanted)
    if bits == 4:
        low = (codes << 4) >> 4
        codes = torch.stack([low, codes >> 4], dim=2).view(96, 32)
    assert torch.equal(codes, expected)
    call = op.quantize(x, 96, bits, asymmetric)
    back = op.dequantize_fp32(*call, 96, bits, asymmetric)
    offset = wanted[:, 1:] if asymmetric else 0.0
    assert same(back, expected.float() * wanted[:, :1] + offset)
    assert same(op.dequantize(*call, 96, bits, asymmetric), back.half())
    # The largest is one code below where it would be.
    assert float(((back - x.float()).abs() / wanted[:, :1]).max()) <= 1.001


def test_the_order_of_partitions(op: Any) -> None:
    """Two nodes of four devices, as the comment in DeepSpeed's kernel has it."""
    x = torch.arange(1, 9, dtype=torch.float16).repeat_interleave(8)
    _, params = op.swizzle_quant(x, 8, 8, op.Symmetric, 1, 2, 4)
    assert (params.flatten() * 128).round().tolist() == [1, 5, 2, 6, 3, 7, 4, 8]
    _, params = op.swizzle_quant(x, 8, 8, op.Symmetric, 2, 2, 2)
    assert (params.flatten() * 128).round().tolist() == [1, 5, 3, 7, 2, 6, 4, 8]
    plain, swizzled = op.quantize(x, 4, 4, 0), op.swizzle_quant(x, 4, 4, 0, 1, 1, 1)
    assert torch.equal(plain[0].flatten(), swizzled[0]) and torch.equal(plain[1], swizzled[1])


@pytest.mark.parametrize("bits", [8, 4])
def test_reduction(op: Any, bits: int) -> None:
    tensors = [numbers(512, torch.float16, seed) for seed in range(4)]
    made = [op.quantize(one, 8, bits, 0) for one in tensors]
    codes, params = torch.cat([one[0] for one in made]), torch.cat([one[1] for one in made])
    total = torch.zeros(512, dtype=torch.float16)
    for one in made:
        total += op.dequantize(*one, 8, bits, 0)
    reduced, scales = op.quantized_reduction(codes, params, 32, 4, bits, op.Symmetric, 4)
    expected = op.quantize(total, 4, bits, 0)
    assert torch.equal(reduced, expected[0]) and same(scales, expected[1])


@pytest.mark.parametrize("bits", [8, 4])
def test_experimental_codes(op: Any, bits: int) -> None:
    codes = torch.arange(256, dtype=torch.uint8)
    groups = 4
    scale, least = (torch.tensor(one).half() for one in ([0.5, 3.0, 7.0, 0.1], [0.0, 1.0, -2, 5]))
    name = f"dequantize_int{bits}_to_half_experimental"
    found = getattr(op, name)(codes, scale, least, groups, 256 * 8 // bits // groups)
    wide = codes if bits == 8 else torch.stack([codes // 16, codes % 16], dim=1)
    rows = wide.view(groups, -1).half()
    assert same(found, (rows / scale[:, None]) + least[:, None])


def test_what_is_not_finite_stays_in_its_group(op: Any) -> None:
    for dtype in TYPES:
        for value in (math.nan, math.inf, -math.inf):
            for kind in op.QuantizationType:
                x = torch.ones(4, 16, dtype=dtype)
                x[1, 3] = value
                back = op.dequantize_fp32(*op.quantize(x, 4, 8, kind), 4, 8, kind)
                assert back[1].isnan().all() and not back[[0, 2, 3]].isnan().any()


Call = Callable[[Any], Any]
X = numbers(64, torch.float16)
CODES, ONE = torch.zeros(64, dtype=torch.int8), torch.ones(4, 1, dtype=torch.float32)
BAD: dict[str, tuple[Call, type[Exception], str]] = {
    "doubles": (lambda op: op.quantize(X.double(), 4, 8, 0), TypeError, "vals has dtype"),
    "a list": (lambda op: op.quantize([1.0], 1, 8, 0), TypeError, "vals is a list"),
    "groups": (lambda op: op.quantize(X, 5, 8, 0), ValueError, "groups is 5"),
    "no groups": (lambda op: op.quantize(X, 0, 8, 0), ValueError, "groups is 0"),
    "half bytes": (lambda op: op.quantize(X[:60], 20, 4, 0), ValueError, "groups is 20"),
    "bits": (lambda op: op.quantize(X, 4, 6, 0), ValueError, "num_bits is 6"),
    "kind": (lambda op: op.quantize(X, 4, 8, 2), ValueError, "quant_type is 2"),
    "no kind": (lambda op: op.quantize(X, 4, 8, None), ValueError, "quant_type is None"),
    "unsigned": (lambda op: op.dequantize(CODES.byte(), ONE, 4, 8, 0), TypeError, "quantized has"),
    "params": (lambda op: op.dequantize(CODES, ONE, 4, 8, 1), ValueError, "params has 4"),
    "nodes": (lambda op: op.swizzle_quant(X, 4, 8, 0, 1, 0, 4), ValueError, "nodes is 0"),
    "pieces": (lambda op: op.swizzle_quant(X, 4, 8, 0, 3, 1, 1), ValueError, "pipeline_size 3"),
    "devices": (
        lambda op: op.quantized_reduction(CODES, ONE, 4, 1, 8, 0, 3), ValueError, "devices_per_node"
    ),
    "in groups": (
        lambda op: op.quantized_reduction(CODES, ONE, 3, 1, 8, 0, 2), ValueError, "in_groups is 3"
    ),
    "out groups": (
        lambda op: op.quantized_reduction(CODES, ONE, 4, 5, 8, 0, 2), ValueError, "out_groups is 5"
    ),
    "scales": (
        lambda op: op.quantized_reduction(CODES, ONE[:2], 4, 1, 8, 0, 2), ValueError, "input_scales"
    ),
    "bytes": (
        lambda op: op.dequantize_int8_to_half_experimental(CODES, ONE.half(), ONE.half(), 4, 9),
        ValueError,
        "data_in has 64 bytes",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_calls_are_refused_by_name(op: Any, name: str) -> None:
    call, error, words = BAD[name]
    with pytest.raises(error, match=words):
        call(op)


floats = st.floats(width=32, allow_nan=True, allow_infinity=True)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(floats, min_size=1, max_size=40), st.sampled_from(TYPES), st.integers(1, 6),
    st.booleans(), st.sampled_from([4, 8]),
)  # fmt: skip
def test_any_numbers_give_the_same_on_both_rungs(
    ops: dict[str, Any], drawn: list[float], dtype: torch.dtype, groups: int, kind: bool, bits: int
) -> None:
    x = torch.tensor(drawn * 2 * groups, dtype=torch.float32).to(dtype)
    left, right = (one.quantize(x, groups, bits, kind) for one in ops.values())
    assert same(left[0], right[0]) and same(left[1], right[1])
    assert same(*(one.dequantize_fp32(*left, groups, bits, kind) for one in ops.values()))


def test_empty_and_strided(op: Any) -> None:
    for kind in op.QuantizationType:
        codes, params = op.quantize(X[:0], 2, 4, kind)
        assert codes.shape == (0,) and params.shape == (2, 1 + kind)
        x = X.view(8, 8).t()
        found, wanted = op.quantize(x, 4, 4, kind), op.quantize(x.contiguous(), 4, 4, kind)
        assert all(map(same, found, wanted))
