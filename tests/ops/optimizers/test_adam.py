"""Adam's kernels and reference against float64, at every SIMD level."""

from __future__ import annotations

import itertools

import pytest
import torch
from adam_cases import Case, exact

from accel.ops.optimizers.adam import CPUAdam, FusedAdam

SIZES = (1, 15, 16, 17, 64, 1023, 1024, 1025, 40_000)
HYPER = {"lr": 1e-2, "betas": (0.9, 0.999), "eps": 1e-8}


def step(op: FusedAdam, lists: list, *, at: int = 3, mode: int = 1, correct: bool = True,
         decay: float = 0.1, lr: float = 1e-2, betas: tuple = (0.9, 0.999), eps: float = 1e-8,
         noop: torch.Tensor | None = None) -> None:  # fmt: skip
    op.multi_tensor_adam(65536, noop, lists, lr, *betas, eps, at, mode, correct, decay)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("mode", [0, 1])
@pytest.mark.parametrize("correct", [False, True])
def test_against_float64(simd_adam: FusedAdam, size: int, mode: int, correct: bool) -> None:
    case = Case.random((size,))
    p, m, v = exact(case, **HYPER, step=3, mode=mode, bias_correction=correct, weight_decay=0.1)
    step(simd_adam, case.lists(), mode=mode, correct=correct)
    torch.testing.assert_close(case.param.double(), p, rtol=2e-6, atol=2e-7)
    torch.testing.assert_close(case.exp_avg.double(), m, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(case.exp_avg_sq.double(), v, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("param", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("grad", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("state", [torch.float32, torch.bfloat16, torch.float16])
def test_levels_and_reference_agree(
    simd_adam: FusedAdam, param: torch.dtype, grad: torch.dtype, state: torch.dtype
) -> None:
    ours, theirs = (Case.random((2500,), param, state) for _ in range(2))
    ours.grad = theirs.grad = ours.grad.to(grad)
    step(simd_adam, ours.lists())
    step(FusedAdam(), theirs.lists())
    assert torch.equal(ours.exp_avg, theirs.exp_avg)
    assert torch.equal(ours.exp_avg_sq, theirs.exp_avg_sq)
    assert torch.equal(ours.param, theirs.param)


def test_mode_decides_the_decay(fused_adam: FusedAdam) -> None:
    results = []
    for mode in (0, 1):
        case = Case.random((100,))
        step(fused_adam, case.lists(), mode=mode)
        results.append(case.param)
    assert not torch.equal(*results)


@pytest.mark.parametrize("op", ["native", "reference"])
def test_noop_flag_leaves_everything(op: str, fused_adam: FusedAdam) -> None:
    chosen = fused_adam if op == "native" else FusedAdam()
    case = Case.random((100,))
    before = case.clone()
    step(chosen, case.lists(), noop=torch.tensor([1], dtype=torch.int32))
    assert all(map(torch.equal, case.tensors(), before.tensors()))
    step(chosen, case.lists(), noop=torch.tensor([0], dtype=torch.int32))
    assert not torch.equal(case.param, before.param)


def layouts() -> dict[str, torch.Tensor]:
    base = torch.zeros(2, 6, 5, 4)
    return {
        "transposed": torch.zeros(30, 70).t(),
        "channels_last": base.to(memory_format=torch.channels_last),
        "strided": torch.zeros(300)[::3],
        "block": torch.zeros(40, 40)[3:20, 5:30],
        "permuted": base.permute(3, 1, 0, 2),
        "misaligned": torch.zeros(101)[1:],
        "scalar": torch.zeros(()),
        "one of each": torch.zeros(1, 9, 1),
        "empty": torch.zeros(0, 4),
    }


@pytest.mark.parametrize("layout", layouts())
def test_any_layout_is_right(layout: str, fused_adam: FusedAdam) -> None:
    shape = tuple(layouts()[layout].shape)
    plain = Case.random(shape)
    strided = Case(*(layouts()[layout].copy_(tensor) for tensor in plain.tensors()))
    step(fused_adam, strided.lists())
    step(fused_adam, plain.lists())
    assert torch.equal(strided.param, plain.param)
    assert torch.equal(strided.exp_avg, plain.exp_avg)
    assert torch.equal(strided.exp_avg_sq, plain.exp_avg_sq)


def test_layouts_that_differ_within_one_tensor(fused_adam: FusedAdam) -> None:
    plain, mixed = Case.random((30, 70)), Case.random((30, 70))
    mixed.param = mixed.param.t().contiguous().t()
    step(fused_adam, mixed.lists())
    step(fused_adam, plain.lists())
    assert torch.equal(mixed.param, plain.param)
    assert torch.equal(mixed.exp_avg, plain.exp_avg)


def test_negated_view_of_a_gradient(fused_adam: FusedAdam) -> None:
    plain, lazy = Case.random((50,)), Case.random((50,))
    lazy.grad = torch._neg_view(-lazy.grad)
    step(fused_adam, lazy.lists())
    step(fused_adam, plain.lists())
    assert torch.equal(lazy.exp_avg, plain.exp_avg)


def test_many_tensors_and_mixed_dtypes_in_one_call(fused_adam: FusedAdam) -> None:
    dtypes = itertools.cycle([torch.float32, torch.bfloat16, torch.float16, torch.float64])
    cases = []
    for size, dtype in zip([0, 1, 7, 4096, 20_000, 3, 0, 50_000, 2], dtypes, strict=False):
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        cases.append(Case.random((size,), dtype, wide, seed=size))
    alone = [case.clone() for case in cases]
    rows = [(case.grad, case.param, case.exp_avg, case.exp_avg_sq) for case in cases]
    step(fused_adam, [list(column) for column in zip(*rows, strict=True)])
    for together, single in zip(cases, alone, strict=True):
        step(fused_adam, single.lists())
        assert all(map(torch.equal, together.tensors(), single.tensors()))


def test_empty_lists_are_fine(fused_adam: FusedAdam) -> None:
    step(fused_adam, [[], [], [], []])


def test_float64_is_computed_in_float64(fused_adam: FusedAdam) -> None:
    case = Case.random((100,), torch.float64, torch.float64)
    p, _, _ = exact(case, **HYPER, step=3, mode=1, bias_correction=True, weight_decay=0.1)
    step(fused_adam, case.lists())
    torch.testing.assert_close(case.param, p, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("beta1", [0.0, 0.3, 0.5, 0.9])
def test_any_first_beta(simd_adam: FusedAdam, beta1: float) -> None:
    case = Case.random((777,))
    hyper = {**HYPER, "betas": (beta1, 0.99)}
    p, m, _ = exact(case, **hyper, step=1, mode=1, bias_correction=True, weight_decay=0.0)
    step(simd_adam, case.lists(), at=1, decay=0.0, betas=(beta1, 0.99))
    torch.testing.assert_close(case.param.double(), p, rtol=2e-6, atol=2e-7)
    torch.testing.assert_close(case.exp_avg.double(), m, rtol=1e-6, atol=1e-7)


def test_nan_and_infinity_go_where_torch_sends_them(simd_adam: FusedAdam) -> None:
    case = Case.random((64,))
    case.grad[3], case.grad[5], case.grad[7] = float("nan"), float("inf"), float("-inf")
    case.param[9], case.exp_avg_sq[11] = float("inf"), float("nan")
    theirs = case.clone()
    param = theirs.param.requires_grad_()
    param.grad = theirs.grad
    torch_adam = torch.optim.AdamW([param], lr=1e-2, weight_decay=0.0)
    torch_adam.state[param] = {"step": torch.tensor(2.0), "exp_avg": theirs.exp_avg,
                               "exp_avg_sq": theirs.exp_avg_sq}  # fmt: skip
    torch_adam.step()
    step(simd_adam, case.lists(), decay=0.0)
    for ours, expected in zip(case.tensors(), theirs.tensors(), strict=True):
        torch.testing.assert_close(ours, expected.detach(), rtol=2e-6, atol=2e-7, equal_nan=True)


@pytest.mark.parametrize("adamw", [False, True])
def test_rollback_undoes_an_update(cpu_adam: CPUAdam, adamw: bool) -> None:
    cpu_adam.create_adam(7, 1e-2, 0.9, 0.99, 1e-8, 0.1, adamw, False)
    case = Case.random((500,))
    before = case.clone()
    numbers = (7, 3, 1e-2, 0.9, 0.99, 1e-8, 0.1, True)
    tensors = (case.param, case.grad, case.exp_avg, case.exp_avg_sq)
    assert cpu_adam.adam_update(*numbers, *tensors) == 0
    assert not torch.equal(case.param, before.param)
    assert cpu_adam.adam_rollback(*numbers, *tensors) == 0
    for now, then in zip(case.tensors(), before.tensors(), strict=True):
        torch.testing.assert_close(now, then, rtol=1e-4, atol=1e-5)
    cpu_adam.destroy_adam(7)


def test_autograd_sees_the_change(fused_adam: FusedAdam) -> None:
    weight = torch.randn(10, requires_grad=True)
    loss = (weight * weight).sum()
    step(fused_adam, [[torch.ones(10)], [weight], [torch.zeros(10)], [torch.zeros(10)]])
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
