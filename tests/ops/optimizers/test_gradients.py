"""Gradients read by a native loop: the same steps as without it, whatever becomes of a gradient."""

from __future__ import annotations

import copy
import gc
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from accel import optim
from accel.ops.optimizers.prepared import native_watch

COUNT = 600
pytestmark = pytest.mark.skipif(
    isinstance(native_watch.python_api(), str), reason="this torch cannot be asked natively"
)


def parameters(dtype: torch.dtype = torch.float32) -> list[nn.Parameter]:
    torch.manual_seed(0)
    return [nn.Parameter(torch.randn(index % 7, 3, dtype=dtype)) for index in range(COUNT)]


def give(params: list[nn.Parameter], seed: int) -> None:
    torch.manual_seed(seed)
    for param in params:
        param.grad = torch.randn_like(param)


def settled(params: list[nn.Parameter]) -> optim.FusedAdam:
    """Return an optimizer whose gradients are read natively from now on."""
    optimizer = optim.FusedAdam(params, lr=0.01)
    for seed in range(2):
        give(params, seed)
        optimizer.step()
    assert reader(optimizer) is not None
    return optimizer


def reader(optimizer: optim.FusedAdam):
    return optimizer._prepared[0]._native


def reads(optimizer: optim.FusedAdam) -> list[bool]:
    """Watch whether the native loop took the gradients, step by step."""
    found, told = reader(optimizer), []
    take = found.take

    def watched(params, states):
        told.append(take(params, states))
        return told[-1]

    found.take = watched
    return told


def negated(param: nn.Parameter) -> Tensor:
    return torch._neg_view(torch.full_like(param, 3.0))


def strided(param: nn.Parameter) -> Tensor:
    return torch.randn(3, param.shape[0]).t()


class Wrapper(Tensor):
    """A gradient without memory of its own, whose every question Python answers."""

    @staticmethod
    def __new__(cls, inner: Tensor) -> Tensor:
        return Tensor._make_wrapper_subclass(
            cls, inner.shape, dtype=inner.dtype, dispatch_sizes_strides_policy="sizes"
        )

    def __init__(self, inner: Tensor) -> None:
        self.inner = inner

    @classmethod
    def __torch_dispatch__(cls, function, types, arguments=(), keywords=None):
        asked = arguments[0]
        if function is torch.ops.aten.is_contiguous.default:
            return True
        if function in (torch.ops.aten.sym_numel.default, torch.ops.aten.numel.default):
            return asked.inner.numel()
        if function is torch.ops.aten.sym_size.default:
            return asked.inner.shape
        if function is torch.ops.aten.sym_stride.default:
            return asked.inner.stride()
        raise NotImplementedError(str(function))


def test_a_gradient_that_python_answers_for_is_left_to_python() -> None:
    params = parameters()
    optimizer = settled(params)
    give(params, 7)
    params[COUNT - 1].grad = Wrapper(params[COUNT - 1].grad)
    told = reads(optimizer)
    with pytest.raises(ValueError, match="no memory that a kernel can reach"):
        optimizer.step()
    assert told == [False]


def test_a_parameter_that_moved_is_noticed() -> None:
    params = parameters()
    optimizer = settled(params)
    old = params[6].data
    before = old.clone()
    params[6].data = torch.randn_like(old)
    fresh = params[6].detach().clone()
    give(params, 7)
    optimizer.step()
    assert torch.equal(old, before)
    assert not torch.equal(params[6], fresh)


@pytest.mark.skipif(not hasattr(Tensor, "grad_dtype"), reason="newer than this torch")
def test_a_gradient_of_another_type_is_read_as_such() -> None:
    params = parameters()
    optimizer = settled(params)
    expected = params[6].detach() + 0
    give(params, 7)
    params[6].grad = None
    params[6].grad_dtype = torch.bfloat16
    signs = torch.arange(18).view(6, 3) % 2 * 2.0 - 1.0
    params[6].grad = (signs * 100).bfloat16()
    optimizer.step()
    assert torch.equal((params[6].detach() - expected).sign(), -signs)


@pytest.mark.parametrize("odd", [negated, strided, None], ids=["negated", "strided", "none"])
def test_an_odd_gradient_is_left_to_python(odd: Callable | None) -> None:
    params = parameters()
    expected = copy.deepcopy(params)
    optimizer = settled(params)
    plain = torch.optim.AdamW(expected, lr=0.01, weight_decay=0.0, fused=False, foreach=False)
    for seed in range(2):
        give(expected, seed)
        plain.step()
    told = reads(optimizer)
    for one in (params, expected):
        give(one, 7)
        torch.manual_seed(8)
        one[6].grad = None if odd is None else odd(one[6])
    optimizer.step()
    plain.step()
    assert told == [False]
    torch.testing.assert_close(params, expected)


def test_a_gradient_that_requires_grad_is_refused() -> None:
    params = parameters()
    optimizer = settled(params)
    give(params, 7)
    params[6].grad = torch.randn_like(params[6]).requires_grad_()
    before = copy.deepcopy([*params])
    with pytest.raises(ValueError, match=r"grads\[6\] requires grad"):
        optimizer.step()
    torch.testing.assert_close([*params], before, rtol=0, atol=0)


def test_a_gradient_that_lies_in_a_parameter_is_refused() -> None:
    params = parameters()
    optimizer = settled(params)
    give(params, 7)
    params[6].grad = params[13].detach()
    with pytest.raises(ValueError, match="shares memory"):
        optimizer.step()


def test_a_gradient_that_comes_and_goes() -> None:
    params = parameters()
    optimizer = settled(params)
    params[6].grad = None
    optimizer.step()
    before = params[6].detach().clone()
    told = None
    for seed in range(3, 6):
        give(params, seed)
        params[6].grad = None
        optimizer.step()
        told = told or reads(optimizer)
    assert told == [True, True]
    assert torch.equal(params[6], before)
    give(params, 6)
    optimizer.step()
    assert told == [True, True, False]
    assert not torch.equal(params[6], before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_steps_are_those_of_python(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    params = parameters(dtype)
    other = copy.deepcopy(params)
    optimizer = settled(params)
    with monkeypatch.context() as patch:
        patch.setattr(native_watch, "python_api", lambda: "not here")
        by_python = optim.FusedAdam(other, lr=0.01)
        for seed in range(2):
            give(other, seed)
            by_python.step()
    assert reader(by_python) is None
    told = reads(optimizer)
    for seed in range(2, 6):
        give(params, seed)
        give(other, seed)
        optimizer.step()
        by_python.step()
    assert told == [True] * 4
    torch.testing.assert_close(params, other, rtol=0, atol=0)


def test_gradients_are_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    params = parameters()
    optimizer = settled(params)
    give(params, 7)
    grads = [param.grad for param in params]
    before = [grad._use_count() for grad in grads]
    optimizer.step()
    assert [grad._use_count() for grad in grads] == before
    monkeypatch.setattr(type(optimizer), "run", lambda *_: (_ for _ in ()).throw(KeyError("no")))
    with pytest.raises(KeyError):
        optimizer.step()
    del optimizer
    gc.collect()
    assert [grad._use_count() for grad in grads] == before


def test_gradients_stay_alive_while_they_are_read() -> None:
    """Between being taken and being read they are dropped by everybody else."""
    params = [nn.Parameter(torch.zeros(20_000)) for _ in range(300)]

    class Dropping(optim.FusedAdam):
        def run(self, prepared, hyper) -> None:
            for param in params:
                param.grad = None
            # Whatever was let go is used by others now.
            self.others = [torch.full((20_000,), torch.nan) for _ in range(300)]
            super().run(prepared, hyper)

    optimizer = Dropping(params, lr=0.01)
    for seed in range(2):
        give(params, seed)
        optimizer.step()
    told = reads(optimizer)
    for seed in range(3):
        give(params, seed)
        optimizer.step()
    assert told == [True] * 3
    assert all(bool(torch.isfinite(param).all()) for param in params)
