"""The call surfaces of Lion, Adagrad, LAMB and 8-bit Adam, used and misused."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from accel.builders import cpu
from accel.errors import Unsupported
from accel.ops.optimizers.adam8bit import Adam8bit
from accel.ops.optimizers.codes8bit import blocks


def tensors(count: int, size: int = 300) -> list[torch.Tensor]:
    make = torch.Generator().manual_seed(1)
    return [torch.rand(size, generator=make) for _ in range(count)]


@pytest.fixture(scope="module")
def ops(session_cache: object) -> dict[str, Any]:
    names = ("FusedLion", "CPULion", "FusedAdagrad", "CPUAdagrad", "FusedLamb", "Adam8bit")
    return {name: getattr(cpu, f"{name}Builder")().jit_load() for name in names}


@pytest.mark.parametrize(
    ("name", "kind", "numbers", "count"),
    [
        ("CPULion", "lion", (1, 1e-2, 0.9, 0.99, 0.1), 3),
        ("CPUAdagrad", "adagrad", (1, 1e-2, 1e-10, 0.1), 3),
    ],
)
def test_life_of_an_id(
    ops: dict[str, Any], name: str, kind: str, numbers: tuple, count: int
) -> None:
    op = ops[name]
    update, destroy = getattr(op, f"{kind}_update"), getattr(op, f"destroy_{kind}")
    with pytest.raises(ValueError, match=f"optimizer_id 3 is unknown: .* create_{kind}"):
        update(3, *numbers, *tensors(count))
    assert getattr(op, f"create_{kind}")(3, *numbers[1:], True) == 0
    given = tensors(count)
    assert update(3, *numbers, *given) == 0
    assert not torch.equal(given[0], tensors(count)[0])
    with pytest.raises(ValueError, match=r"^grads has shape"):
        update(3, *numbers, given[0], given[1][:5], *given[2:])
    with pytest.raises(ValueError, match="lr is -1"):
        update(3, 1, -1, *numbers[2:], *given)
    assert destroy(3) == 0
    with pytest.raises(ValueError, match="optimizer_id 3 is unknown"):
        destroy(3)


def test_functions_are_named(ops: dict[str, Any]) -> None:
    for op in ops.values():
        assert op.functions and all(callable(getattr(op, function)) for function in op.functions)
        assert op.implementation == "jit"


def test_lion_over_lists(ops: dict[str, Any]) -> None:
    g, p, m = tensors(3)
    start = p.clone()
    ops["FusedLion"].multi_tensor_lion(65536, None, [[g], [p], [m]], 0.5, 0.9, 0.99, 1, 0.0)
    assert torch.equal(p, start - 0.5)
    ops["FusedLion"].multi_tensor_lion(
        1, torch.tensor([1]), [[g], [p], [m]], 0.5, 0.9, 0.99, 2, 0.0
    )
    assert torch.equal(p, start - 0.5)
    with pytest.raises(ValueError, match="tensor_lists must be 3 lists"):
        ops["FusedLion"].multi_tensor_lion(1, None, [[g], [p]], 0.5, 0.9, 0.99, 2, 0.0)
    with pytest.raises(ValueError, match="beta2"):
        ops["FusedLion"].multi_tensor_lion(1, None, [[g], [p], [m]], 0.5, 0.9, 1.0, 2, 0.0)


def test_adagrad_over_lists(ops: dict[str, Any]) -> None:
    op = ops["FusedAdagrad"]
    g, p, h = tensors(3)
    ours, theirs = ([x.clone() for x in (g, p, h)] for _ in range(2))
    op.multi_tensor_adagrad(65536, None, [[x] for x in ours], 0.5, 1e-10, 0, 0.1)
    ops["CPUAdagrad"].create_adagrad(9, 0.5, 1e-10, 0.1, False)
    ops["CPUAdagrad"].adagrad_update(9, 1, 0.5, 1e-10, 0.1, theirs[1], theirs[0], theirs[2])
    ops["CPUAdagrad"].destroy_adagrad(9)
    assert all(map(torch.equal, ours, theirs)) and not torch.equal(ours[1], p)
    op.multi_tensor_adagrad(1, torch.tensor([1]), [[x] for x in ours], 0.5, 1e-10, 0, 0.1)
    assert torch.equal(ours[1], theirs[1])
    with pytest.raises(Unsupported, match="mode=1"):
        op.multi_tensor_adagrad(1, None, [[g], [p], [h]], 0.5, 1e-10, 1, 0.1)
    with pytest.raises(ValueError, match="mode is 2"):
        op.multi_tensor_adagrad(1, None, [[g], [p], [h]], 0.5, 1e-10, 2, 0.1)
    with pytest.raises(ValueError, match=r"sums\[0\] has shape"):
        op.multi_tensor_adagrad(1, None, [[g], [p], [h[:5]]], 0.5, 1e-10, 0, 0.1)


def test_untouched_rows_stay_with_lion(ops: dict[str, Any]) -> None:
    """Where gradient and moment are zero, so is the update."""
    p, zero = torch.ones(64), torch.zeros(64)
    ops["FusedLion"].multi_tensor_lion(1, None, [[zero], [p], [zero.clone()]], 0.5, 0.9, 0.99, 1, 0)
    assert torch.equal(p, torch.ones(64))


def test_lamb_one_tensor(ops: dict[str, Any]) -> None:
    numbers = (1e-2, 0.9, 0.99, 10.0, 0.01, 1e-6)
    p, m, v, g = tensors(4)
    half = p.bfloat16()
    none = torch.empty(0)
    alone = [tensor.clone() for tensor in (p, m, v, g)]
    op = ops["FusedLamb"]
    coeff = op.lamb(p, half, m, v, g * 4, *numbers, 4.0, 3, 1, True, 0.1)
    again = op.lamb(alone[0], none, *alone[1:], *numbers, 1.0, 3, 1, True, 0.1)
    torch.testing.assert_close(p, alone[0])
    assert torch.equal(half, p.bfloat16())
    assert coeff.shape == (1,) and coeff == again and 0.01 <= coeff <= 10.0
    bounded = op.lamb(p, none, m, v, g, 1e-2, 0.9, 0.99, 0.02, 0.01, 1e-6, 1.0, 4, 0, True, 0.1)
    assert bounded == pytest.approx(0.02)
    for change, match in ((("grad_scale", 0.0), "grad_scale"), (("mode", 2), "mode"),
                          (("max_coeff", 0.001), "max_coeff"), (("eps", -1.0), "eps")):  # fmt: skip
        named = {"lr": 1e-2, "beta1": 0.9, "beta2": 0.99, "max_coeff": 10.0, "min_coeff": 0.01,
                 "eps": 1e-6, "grad_scale": 1.0, "step": 1, "mode": 1, "bias_correction": True,
                 "decay": 0.1, change[0]: change[1]}  # fmt: skip
        with pytest.raises(ValueError, match=match):
            op.lamb(p, none, m, v, g, **named)


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("shape", [(1,), (256,), (257,), (40, 30), (0,)])
def test_codes_keep_their_bound(signed: bool, shape: tuple[int, ...]) -> None:
    op = Adam8bit()
    values = torch.randn(shape, generator=torch.Generator().manual_seed(3)) * 1e-3
    values = values if signed else values.square()
    codes, scales = op.quantize_blockwise(values, signed)
    assert codes.dtype == torch.uint8 and codes.shape == values.shape
    assert scales.numel() == blocks(values.numel())
    found = op.dequantize_blockwise(codes, scales, signed)
    scale = scales.max().item() if values.numel() else 0.0
    bound = scale * 2.0 ** (-19 if signed else -31)
    assert ((found - values).abs() <= values.abs() / 16 + bound).all()
    again = op.dequantize_blockwise(*op.quantize_blockwise(found, signed), signed)
    # A block's largest number may fall to just below half of its scale.
    assert ((again - found).abs() <= (scale * 2.0**-16 if signed else 0.0)).all()


def test_codes_of_what_has_none() -> None:
    op = Adam8bit()
    with pytest.raises(ValueError, match="values has negative numbers"):
        op.quantize_blockwise(torch.tensor([-1.0]), False)
    with pytest.raises(TypeError, match="values has dtype"):
        op.quantize_blockwise(torch.ones(3, dtype=torch.int64), True)
    codes, scales = op.quantize_blockwise(torch.rand(600), False)
    with pytest.raises(ValueError, match=r"scales\[0\] has 2 elements.*expected 3"):
        op.dequantize_blockwise(codes, scales[:2], False)
    with pytest.raises(TypeError, match=r"codes\[0\] is not a dense tensor of uint8"):
        op.dequantize_blockwise(codes.int(), scales, False)
    with_nan = torch.ones(600)
    with_nan[300] = float("nan")
    for signed, one in ((True, 1.0 - 2.0**-15), (False, 1.0)):
        codes, scales = op.quantize_blockwise(with_nan, signed)
        found = op.dequantize_blockwise(codes, scales, signed)
        assert found[256:512].isnan().all() and (found[:256] == one).all()
        assert not codes[256:512].any()


@pytest.mark.parametrize("signed", [True, False])
def test_extreme_blocks_have_codes(signed: bool) -> None:
    """Scales from 2^-95 to 2^127, 0 where all is 0."""
    largest = (0.0, 1e-45, 2.0**-96, 2.0**-95, 3e-28, 2.0**127)
    values = torch.zeros(256 * len(largest))
    values[7::256] = torch.tensor(largest)
    codes, scales = Adam8bit().quantize_blockwise(values, signed)
    expected = [0.0, 2.0**-95, 2.0**-95, 2.0**-95, 2.0**-91, 2.0**127]
    torch.testing.assert_close(scales, torch.tensor(expected), rtol=0, atol=0)
    found = Adam8bit().dequantize_blockwise(codes, scales, signed).view(-1, 256)
    rest = found[1:6, 8:] / scales[1:6, None]
    assert (found[0] == 0.0).all() and (rest == (0.0 if signed else 2.0**-31)).all()
    torch.testing.assert_close(found[2:6, 7], torch.tensor(largest[2:6]), rtol=1 / 16, atol=0)


def test_stochastic_codes_have_an_exact_mean(ops: dict[str, Any]) -> None:
    """A moment that a step leaves as it is, coded again and again, does not drift."""
    count, start = 1 << 16, 0.3
    codes = ops["Adam8bit"].quantize_blockwise(torch.full((count,), start), False)
    zeros, unit = torch.zeros(count), torch.zeros(count, dtype=torch.uint8)
    scale = torch.zeros(blocks(count))
    # beta2 = 0.97 against a gradient of the same square: the moment's fixed point is 0.3.
    g = torch.full((count,), start**0.5)
    lists = [[g], [zeros], [unit], [scale], [codes[0]], [codes[1]]]
    for step in range(250):
        ops["Adam8bit"].multi_tensor_adam8bit(1, None, lists, 0.0, 0.0, 0.97, 1.0, step + 1, 1,
                                              False, 0.0, step)  # fmt: skip
    mean = ops["Adam8bit"].dequantize_blockwise(codes[0], codes[1], False).mean().item()
    assert mean == pytest.approx(start, rel=2e-3)


@pytest.mark.parametrize("signed", [True, False])
def test_stochastic_codes_keep_a_slow_decay(ops: dict[str, Any], signed: bool) -> None:
    """A step that moves a moment by 1/10 000 moves its mean, near the smallest code, too."""
    start = torch.tensor([1.0, -0.3 if signed else 0.3, 2.0**-17, 0.0]).repeat(1 << 12)
    m, v = (
        ops["Adam8bit"].quantize_blockwise(x, s) for x, s in ((start, True), (start.abs(), False))
    )
    zeros, steps, beta = torch.zeros(len(start)), 500, 0.9999
    lists = [[zeros], [zeros.clone()], [m[0]], [m[1]], [v[0]], [v[1]]]
    coded = m if signed else v
    before = ops["Adam8bit"].dequantize_blockwise(*coded, signed).view(-1, 4).mean(dim=0)
    for step in range(steps):
        ops["Adam8bit"].multi_tensor_adam8bit(1, None, lists, 0.0, beta, beta, 1.0, step + 1, 1,
                                              False, 0.0, 3)  # fmt: skip
    after = ops["Adam8bit"].dequantize_blockwise(*coded, signed).view(-1, 4).mean(dim=0)
    torch.testing.assert_close(after[:3], before[:3] * beta**steps, rtol=1e-2, atol=0)
    # Nothing comes from nothing; a square that a block has no number for becomes its smallest.
    assert after[3] == (0.0 if signed else 2.0**-31)


def test_foreign_codes_below_no_scale_are_the_scale(ops: dict[str, Any]) -> None:
    """The kernel's moments are those of the reference where codes and scales do not fit."""
    scales = torch.tensor([0.0, math.nan, 2.0**-95, 2.0**126, 0.25])
    found = []
    for op in (ops["Adam8bit"], Adam8bit()):
        m, v = (torch.arange(1200).remainder(200).to(torch.uint8) for _ in range(2))
        m_scales, v_scales = scales.clone(), scales.clone()
        p, g = torch.ones(1200), torch.tensor([1e-25, -1e-25]).repeat(600)
        g[:256] = 0.0
        g[300] = torch.tensor(0x7FF12345, dtype=torch.int32).view(torch.float32)
        lists = [[g], [p], [m], [m_scales], [v], [v_scales]]
        op.multi_tensor_adam8bit(1, None, lists, 0.1, 0.9, 0.99, 1e-8, 1, 1, True, 0.0, 7)
        found.append([p, m, m_scales, v, v_scales])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)
    assert found[0][2].isnan().tolist() == [False, True, False, False, False]
