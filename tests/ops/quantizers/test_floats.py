"""``fp_quantizer``: DeepSpeed's format, and the same bits on every rung and SIMD level."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from quantizer_cases import (
    FP_BITS,
    FP_FORMATS,
    TYPES,
    fp_bits,
    fp_coded,
    fp_decoded,
    fp_rungs,
    numbers,
    same,
)
from torch import Tensor

from accel.jit import Recipe, acquire, csrc_dir
from accel.ops.quantizers.fp_quantizer import FPQuantizer

LARGEST = {(8, 3): 480.0, (8, 2): 114688.0, (12, 4): 510.0, (6, 2): 28.0, (4, 1): 6.0}
How = tuple[int, int]


@pytest.fixture(scope="module")
def ops() -> dict[str, Any]:
    return fp_rungs()


def test_every_level_has_the_bits(level: Any) -> None:
    assert fp_bits(level) == FP_BITS


def test_the_reference_has_the_bits(ops: dict[str, Any]) -> None:
    assert fp_bits(ops["reference"]) == FP_BITS


def test_cudas_kernels_have_the_bits(session_cache: object) -> None:
    """As plain C++: a launch is a loop over blocks and threads."""
    recipe = Recipe(
        name="fp_quantizer_on_host",
        backend="cpu",
        sources=(csrc_dir() / "cuda/quantizers/fp_quantizer.cu",),
        include_dirs=(csrc_dir() / "include", csrc_dir() / "cuda"),
        compile_flags=("-xc++", "-DACCEL_HOST_BUILD", "-Werror"),
    )
    assert fp_bits(FPQuantizer(acquire(recipe), backend="cpu")) == FP_BITS


def codes_of(rows: Tensor, bits: int) -> Tensor:
    """Codes, one an element, of rows of bytes without scales: each row is one number."""
    found = []
    for row in rows[:, :-4].tolist():
        whole = int.from_bytes(bytes(row), "little")
        found.append([whole >> at * bits & 2**bits - 1 for at in range(len(row) * 8 // bits)])
    return torch.tensor(found)


def deepspeeds(x: Tensor, bits: int, mantissa: int) -> tuple[Tensor, Tensor]:
    """Codes and scales of rows by the lines of DeepSpeed's kernel, rounded to nearest."""
    largest, most = x.abs().amax(1, keepdim=True).float(), LARGEST[bits, mantissa]
    mantissa = 7 if bits == 12 else mantissa
    exponent, cut = bits - 1 - mantissa, 23 - mantissa
    u = (x.float() * (torch.full_like(largest, most) / largest)).view(torch.int32).long()
    sign, old, part = u >> 31 & 1, u >> 23 & 255, u & (1 << 23) - 1
    part = part + (1 << cut - 1)
    new = old + (part >> 23)
    least = 128 - ((1 << exponent - 1) - 1)
    small = (new < least) & (old != 0)
    new, part = torch.where(small, least, new), torch.where(small, 0, part)
    part = (part & ((1 << mantissa) - 1) << cut) >> cut
    new = new - 127 + (1 << exponent - 1) - 1
    codes = sign << bits - 1 | new << mantissa | part
    return codes & 2**bits - 1, largest / torch.full_like(largest, most)


@pytest.mark.parametrize("how", FP_FORMATS)
def test_deepspeeds_codes(op: Any, how: How) -> None:
    """Alike but where DeepSpeed's are not the nearest: ties, and what lies below normal numbers."""
    bits, mantissa = how
    x = numbers(64 * 256, torch.bfloat16).view(64, 256)
    rows = fp_coded(op, x, 256, how)
    wanted, scale = deepspeeds(x, bits, mantissa)
    assert same(op.get_scales(rows, 64), scale)
    codes = codes_of(rows, bits)
    mantissa = 7 if bits == 12 else mantissa
    normal = (codes & 2 ** (bits - 1) - 1) >> mantissa > 0
    factor = torch.full_like(scale, LARGEST[how]) / x.abs().amax(1, keepdim=True).float()
    y = (x.float() * factor).view(torch.int32)
    tie = (y & (1 << 23 - mantissa) - 1) == 1 << 22 - mantissa
    assert torch.equal(codes[normal & ~tie], wanted[normal & ~tie])
    assert float(normal.float().mean()) > 0.5
    # DeepSpeed makes no exponent of 0, so all that it codes is decoded alike.
    assert bool(((wanted & 2 ** (bits - 1) - 1) >> mantissa > 0)[x != 0].all())


@pytest.mark.parametrize("how", FP_FORMATS)
def test_every_code_comes_back(op: Any, how: How) -> None:
    bits, given = how
    mantissa = 7 if bits == 12 else given
    bias = 2 ** (bits - 2 - mantissa) - 1
    values = []
    for code in range(2**bits):
        whole, part = code >> mantissa & 2 ** (bits - 1 - mantissa) - 1, code & 2**mantissa - 1
        size = part / 2**mantissa * 2.0 ** (1 - bias)
        if whole:
            size = (1 + part / 2**mantissa) * 2.0 ** (whole - bias)
        values.append(-size if code >> bits - 1 else size)
    assert max(values) == LARGEST[how]
    x = torch.tensor(values)
    rows = fp_coded(op, x, len(x), how)
    assert codes_of(rows, bits)[0].tolist() == list(range(2**bits))
    assert fp_decoded(op, rows, len(x), torch.float32, len(x), how).tolist() == values
    # By chance, too: there is nothing to cut off.
    assert torch.equal(fp_coded(op, x, len(x), how, 3), rows)


@pytest.mark.parametrize("how", FP_FORMATS)
def test_the_nearest_and_ties_to_even(op: Any, how: How) -> None:
    bits, _ = how
    half = 2 ** (bits - 1)
    every = fp_coded(op, torch.tensor([0.0] * (half * 2)), half * 2, how)
    assert not bool(every.any()), "zeros have the code 0, and the scale 0"
    grid = sorted({abs(v) for v in _values(how)})
    middles = [(a + b) / 2 for a, b in pairwise(grid)]
    x = torch.tensor([*middles, *([0.0] * (half - len(middles) - 1)), LARGEST[how]])
    codes = codes_of(fp_coded(op, x, half, how), bits)[0, : len(middles)]
    assert codes.tolist() == [at + at % 2 for at in range(len(middles))]


def _values(how: How) -> list[float]:
    bits, given = how
    mantissa = 7 if bits == 12 else given
    bias = 2 ** (bits - 2 - mantissa) - 1
    parts = [part / 2**mantissa for part in range(2**mantissa)]
    exponents = range(1, 2 ** (bits - 1 - mantissa))
    small = [part * 2.0 ** (1 - bias) for part in parts]
    return small + [(1 + part) * 2.0 ** (one - bias) for one in exponents for part in parts]


@pytest.mark.parametrize("how", FP_FORMATS)
def test_chance_is_right_on_average(op: Any, how: How) -> None:
    """Of 64 thousand, the mean is within 5 of its deviations; only the two neighbours occur."""
    x = torch.full((256, 256), 0.0)
    least = min(one for one in _values(how) if one)
    for part, value in ((x[:128], 0.3 * least), (x[128:], -LARGEST[how] * 0.29)):
        part.fill_(value)
        part[:, 0] = LARGEST[how]
    rows = fp_coded(op, x, 256, how, 11)
    back = fp_decoded(op, rows, x.numel(), torch.float32, 256, how).view(256, 256)[:, 1:]
    for part, value in ((back[:128], 0.3 * least), (back[128:], -LARGEST[how] * 0.29)):
        low, high = float(part.min()), float(part.max())
        assert part.unique().numel() == 2 and low < value < high
        deviation = (high - low) / 2 / math.sqrt(part.numel())
        assert abs(float(part.double().mean()) - value) < 5 * deviation


def test_chance_comes_from_torchs_generator(op: Any) -> None:
    x = numbers(1024, torch.float32)

    def made() -> Tensor:
        out = torch.zeros(4, 260, dtype=torch.uint8)
        return op.quantize(out, x, 256, 1, 8, 3).clone()

    torch.manual_seed(3)
    one, other = made(), made()
    torch.manual_seed(3)
    assert torch.equal(made(), one) and not torch.equal(one, other)


def test_parts_that_are_chosen(op: Any) -> None:
    x = numbers(6 * 512, torch.bfloat16).view(6, 2, 256)
    for how in FP_FORMATS:
        rows = fp_coded(op, x, 128, how)
        whole = fp_decoded(op, rows, x.numel(), torch.bfloat16, 128, how).view(x.shape)
        at = torch.tensor([4, 4, 0, 5], dtype=torch.int32)
        val = torch.empty(4, 2, 256, dtype=torch.bfloat16)
        bits, mantissa = how
        op.selective_dequantize(val, rows, at, 128, mantissa, bits - mantissa - 1)
        assert torch.equal(val, whole[at.long()])


def test_scales_are_a_view_or_a_copy(op: Any) -> None:
    x = numbers(1024, torch.float16)
    rows = fp_coded(op, x, 256, (8, 3))
    wanted = x.view(4, 256).abs().amax(1, keepdim=True).float() / 480
    found = op.get_scales(rows, 4)
    assert torch.equal(found, wanted)
    found.zero_()
    assert not bool(rows[:, -4:].any())
    odd = fp_coded(op, x, 4, (6, 2))  # rows of 7 bytes
    assert op.get_scales(odd, 256).shape == (256, 1)
    # One row is contiguous wherever it begins.
    single = fp_coded(op, x[:4], 4, (6, 2))
    assert torch.equal(op.get_scales(single, 1), x[:4].abs().amax().float().view(1, 1) / 28)
    apart = fp_coded(op, x, 256, (8, 3))[:, -4:].contiguous()
    assert torch.equal(op.get_scales(apart, 4), wanted)


def test_what_is_not_finite_stays_in_its_group(op: Any) -> None:
    for dtype in TYPES:
        for value in (math.nan, math.inf, -math.inf):
            for how in FP_FORMATS:
                x = torch.ones(4, 16, dtype=dtype)
                x[1, 3] = value
                rows = fp_coded(op, x, 16, how)
                back = fp_decoded(op, rows, 64, dtype, 16, how).view(4, 16)
                assert back[1].isnan().all() and bool((back[[0, 2, 3]] == 1).all())
                assert not bool(rows[1, :-4].any())


def test_the_smallest_and_the_largest(op: Any) -> None:
    """No group's factor overflows: the largest comes back, and its half."""
    for size in (3e38, 1e-30, 1e-36, 1e-38, 1e-40):
        x = torch.tensor([size, -size / 2, 0.0, size / 4])
        back = fp_decoded(op, fp_coded(op, x, 4, (8, 3)), 4, torch.float32, 4, (8, 3))
        assert torch.allclose(back, x, rtol=0.01, atol=0), (size, back, x)


X, OUT = numbers(64, torch.float16), torch.zeros(4, 20, dtype=torch.uint8)
INDEX = torch.zeros(1, dtype=torch.int32)
Call = Callable[[Any], Any]
BAD: dict[str, tuple[Call, type[Exception], str]] = {
    "doubles": (lambda op: op.quantize(OUT, X.double(), 16, 0, 8, 3), TypeError, "val has dtype"),
    "a list": (lambda op: op.quantize(OUT, [1.0], 16, 0, 8, 3), TypeError, "val is a list"),
    "signed": (lambda op: op.quantize(OUT.char(), X, 16, 0, 8, 3), TypeError, "out has dtype"),
    "groups": (lambda op: op.quantize(OUT, X, 15, 0, 8, 3), ValueError, "group_size is 15"),
    "no groups": (lambda op: op.quantize(OUT, X, 0, 0, 8, 3), ValueError, "group_size is 0"),
    "part of a byte": (lambda op: op.quantize(OUT, X, 1, 0, 4, 1), ValueError, "group_size is 1"),
    "bits": (lambda op: op.quantize(OUT, X, 16, 0, 7, 3), ValueError, "q_bits is 7"),
    "mantissa": (lambda op: op.quantize(OUT, X, 16, 0, 6, 3), ValueError, "q_bits is 6 with 3"),
    "chance": (lambda op: op.quantize(OUT, X, 16, None, 8, 3), TypeError, "stochastic is None"),
    "room": (lambda op: op.quantize(OUT[:3], X, 16, 0, 8, 3), ValueError, "out has 60 bytes"),
    "itself": (lambda op: op.dequantize(OUT, OUT, 16, 3, 4), TypeError, "val has dtype"),
    "exponent": (lambda op: op.dequantize(X, OUT, 16, 3, 5), ValueError, "q_bits is 9 with 3"),
    "no exponent": (lambda op: op.dequantize(X, OUT, 16, 3, None), TypeError, "q_exponent_bits"),
    "rows": (lambda op: op.dequantize(X, OUT[:2], 16, 3, 4), ValueError, "val_q has 40 bytes"),
    "long": (
        lambda op: op.selective_dequantize(X, OUT, INDEX.long(), 16, 3, 4), TypeError, "indexes has"
    ),
    "index": (
        lambda op: op.selective_dequantize(X, OUT, INDEX + 1, 16, 3, 4), ValueError, "indexes has 1"
    ),
    "below": (
        lambda op: op.selective_dequantize(X, OUT, INDEX - 1, 16, 3, 4), ValueError, "has -1"
    ),
    "no rows": (
        lambda op: op.selective_dequantize(X, OUT[:0], INDEX, 16, 3, 4), ValueError, "indexes has 0"
    ),
    "parts": (
        lambda op: op.selective_dequantize(X, OUT, INDEX.repeat(3), 16, 3, 4),
        ValueError,
        "indexes has 3 elements",
    ),
    "half a row": (
        lambda op: op.selective_dequantize(X, OUT.view(-1)[1:], INDEX, 16, 3, 4),
        ValueError,
        "val_q has 79 bytes",
    ),
    "scales": (lambda op: op.get_scales(OUT, 5), ValueError, "out has shape"),
    "scales of floats": (lambda op: op.get_scales(X, 5), TypeError, "out has dtype"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_calls_are_refused_by_name(op: Any, name: str) -> None:
    call, error, words = BAD[name]
    before = X.clone(), OUT.clone()
    with pytest.raises(error, match=words):
        call(op)
    assert torch.equal(before[0], X) and torch.equal(before[1], OUT)


floats = st.floats(width=32, allow_nan=True, allow_infinity=True)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(floats, min_size=1, max_size=40), st.sampled_from(TYPES), st.integers(1, 6),
    st.sampled_from(FP_FORMATS), st.none() | st.integers(-(2**63), 2**63 - 1),
)  # fmt: skip
def test_any_numbers_give_the_same_on_both_rungs(
    ops: dict[str, Any], drawn: list[float], dtype: torch.dtype, groups: int, how: How,
    seed: int | None,
) -> None:  # fmt: skip
    x = torch.tensor(drawn * 4 * groups, dtype=torch.float32).to(dtype)
    size = x.numel() // groups
    left, right = (fp_coded(one, x, size, how, seed) for one in ops.values())
    assert torch.equal(left, right)
    for kind in TYPES:
        found = [fp_decoded(one, left, x.numel(), kind, size, how) for one in ops.values()]
        assert same(*found)
    rows = x.double().view(groups, -1)
    if seed is None and bool(rows.isfinite().all()):
        # Half a step of the largest codes, at most.
        bound = rows.abs().amax(1, keepdim=True) / 2 ** (7 if how[0] == 12 else how[1]) / 2
        back = fp_decoded(ops["native"], left, x.numel(), torch.float32, size, how)
        error = (back.double().view(groups, -1) - rows).abs()
        assert not bool((error > bound * 1.01 + 1e-40).any())


def test_empty_and_strided(op: Any) -> None:
    for how in FP_FORMATS:
        bits, mantissa = how
        rows = fp_coded(op, X[:0], 16, how)
        assert rows.shape == (0, 2 * bits + 4)
        assert fp_decoded(op, rows, 0, torch.float32, 16, how).shape == (0,)
        none = torch.empty(0, dtype=torch.int32)
        op.selective_dequantize(X[:0], rows, none, 16, mantissa, bits - mantissa - 1)
        x = X.view(8, 8).t()
        wanted = fp_coded(op, x.contiguous(), 16, how)
        assert torch.equal(fp_coded(op, x, 16, how), wanted)
        out = torch.zeros(2 * bits + 4, 4, dtype=torch.uint8).t()
        op.quantize(out, x, 16, 0, bits, mantissa)
        assert torch.equal(out, wanted)
        val = torch.zeros(8, 8, dtype=torch.float16).t()
        op.dequantize(val, out, 16, mantissa, bits - mantissa - 1)
        assert same(val.reshape(-1), fp_decoded(op, wanted, 64, torch.float16, 16, how))


def test_a_weight_that_needs_gradients_is_coded(op: Any) -> None:
    """DeepSpeed's callers do so where autograd is off."""
    weight = torch.nn.Parameter(torch.ones(64))
    with torch.no_grad():
        rows = fp_coded(op, weight, 16, (8, 3))
    assert torch.equal(rows, fp_coded(op, weight.detach(), 16, (8, 3)))
