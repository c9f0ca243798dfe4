"""`clip_grad_norm_` beside torch's: results, errors, and whatever no kernel is made for."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from list_cases import exact_norm, rungs, same_bits, within_a_step
from torch import Tensor
from torch.nn.utils import clip_grad_norm_ as torchs

from accel.optim import clip_grad_norm_, clipping

SHAPES = [(7, 5), (0,), (1031,), (), (20_000,)]


@pytest.fixture(autouse=True)
def native_op(session_cache: object) -> Any:
    """The op that the function loads, so that a fallback is told apart."""
    op = rungs()["native"]
    assert op._clip._reader is not None
    return op


def params(*dtypes: torch.dtype, seed: int = 0, by: float = 1.0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    made = []
    for at, shape in enumerate(SHAPES):
        dtype = dtypes[at % len(dtypes)]
        param = torch.zeros(shape, dtype=dtype, requires_grad=True)
        param.grad = (torch.randn(shape, generator=generator) * by).to(dtype)
        made.append(param)
    return made


def grads(listed: list[Tensor]) -> list[Tensor]:
    return [one.grad for one in listed if one.grad is not None]


@pytest.fixture
def without_torchs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Torch's own function is out of reach: a kernel must do."""

    def refuse(*_: Any) -> None:
        raise AssertionError("torch's function ran")

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", refuse)
    yield


@pytest.mark.usefixtures("without_torchs")
@pytest.mark.parametrize("max_norm", [0.0, 1e-3, 1.0, 1e9, math.inf, -1.0])
@pytest.mark.parametrize("norm_type", [2.0, 2, "2"])
def test_results_are_torchs(max_norm: float, norm_type: Any) -> None:
    ours, theirs = params(torch.float32), params(torch.float32)
    found = clip_grad_norm_(ours, max_norm, norm_type)
    wanted = torchs(theirs, max_norm)
    assert found.shape == wanted.shape and found.dtype == wanted.dtype
    assert not found.requires_grad and found.device == wanted.device
    torch.testing.assert_close(found, wanted, rtol=2e-6, atol=0)
    for one, other in zip(grads(ours), grads(theirs), strict=True):
        torch.testing.assert_close(one, other, rtol=3e-6, atol=0)
    if max_norm >= 1e9:
        assert same_bits(grads(ours), grads(params(torch.float32)))


@pytest.mark.usefixtures("without_torchs")
@pytest.mark.parametrize(
    "dtypes",
    [
        (torch.bfloat16,),
        (torch.float16,),
        (torch.float32, torch.bfloat16),
        (torch.bfloat16, torch.float16),
    ],
    ids=str,
)
def test_types_are_torchs_and_norms_closer(dtypes: tuple[torch.dtype, ...]) -> None:
    ours, theirs = params(*dtypes), params(*dtypes)
    exact = exact_norm(grads(ours))
    found, wanted = clip_grad_norm_(ours, 1.0), torchs(theirs, 1.0)
    assert found.dtype == wanted.dtype
    assert (found.double() - exact).abs() <= (wanted.double() - exact).abs() + 1e-7 * exact
    assert exact_norm(grads(ours)) == pytest.approx(1.0, rel=1e-2)


@pytest.mark.usefixtures("without_torchs")
def test_parameters_of_every_kind() -> None:
    one, *rest = params(torch.float32)
    rest[0].grad = None
    for given in (one, [one], (one, *rest), (p for p in [one, *rest]), {one: 1, rest[1]: 2}):
        assert clip_grad_norm_(given, 1e-2).item() > 0
        assert exact_norm(grads([one])) <= 1.00001e-2


def test_nothing_to_clip() -> None:
    bare = torch.zeros(3, requires_grad=True)
    for given in ([], [bare], bare):
        assert clip_grad_norm_(given, 1.0).item() == 0.0
    with pytest.warns(UserWarning, match="empty generator"):
        assert clip_grad_norm_((p for p in ()), 1.0).item() == 0.0
    empty = torch.zeros(0, requires_grad=True)
    empty.grad = torch.zeros(0)
    assert clip_grad_norm_([empty], 1.0).item() == 0.0


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_norm_that_is_not_finite(value: float) -> None:
    ours, theirs = params(torch.float32), params(torch.float32)
    for listed in (ours, theirs):
        listed[2].grad[5] = value
    kept = [one.clone() for one in grads(ours)]
    messages = []
    for function, listed in ((clip_grad_norm_, ours), (torchs, theirs)):
        with pytest.raises(RuntimeError, match="is non-finite, so it cannot be clipped") as error:
            function(listed, 1.0, error_if_nonfinite=True)
        messages.append(str(error.value))
    assert messages[0] == messages[1]
    assert same_bits(grads(ours), kept)
    found, wanted = clip_grad_norm_(ours, 1.0), torchs(theirs, 1.0)
    assert same_bits([found, *grads(ours)], [wanted, *grads(theirs)])


def same_as_torchs(make: Any, *args: Any, **named: Any) -> None:
    results = []
    for function in (clip_grad_norm_, torchs):
        listed = make()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                total = function(listed, *args, **named)
            left = [total, *[one.to_dense() if one.is_sparse else one for one in grads(listed)]]
            results.append([one.as_subclass(Tensor) for one in left])
        except Exception as error:
            results.append((type(error), str(error).partition("\n")[0]))
    if isinstance(results[0], tuple):
        assert results[0] == results[1]
    else:
        assert same_bits(*results)


def shared() -> list[Tensor]:
    one, two = params(torch.float32)[2], params(torch.float32)[2]
    two.grad = one.grad
    return [one, two]


def overlapping() -> list[Tensor]:
    room = torch.arange(12.0)
    params = [torch.zeros(6, requires_grad=True) for _ in range(2)]
    params[0].grad, params[1].grad = room[5:11], room[:6]
    return params


def strided() -> list[Tensor]:
    one = torch.zeros(4, 6, requires_grad=True)
    one.grad = torch.arange(24.0).view(6, 4).T
    return [one]


def expanded() -> list[Tensor]:
    one = torch.zeros(4, requires_grad=True)
    one.grad = torch.ones(1).expand(4)
    return [one]


def sparse() -> list[Tensor]:
    one = torch.zeros(4, requires_grad=True)
    one.grad = torch.tensor([1.0, 0.0, 3.0, 0.0]).to_sparse()
    return [one]


def negated() -> list[Tensor]:
    one = torch.zeros(4, requires_grad=True)
    one.grad = torch._neg_view(torch.arange(4.0))
    return [one]


def of_inference() -> list[Tensor]:
    one = torch.zeros(4, requires_grad=True)
    with torch.inference_mode():
        made = torch.arange(4.0)
    one.grad = made
    return [one]


def freed() -> list[Tensor]:
    one = torch.zeros(4, requires_grad=True)
    one.grad = torch.zeros(8)[4:]
    one.grad.untyped_storage().resize_(20)
    return [one]


def meta() -> list[Tensor]:
    one = torch.zeros(4, requires_grad=True, device="meta")
    one.grad = torch.zeros(4, device="meta")
    return [one]


def wide() -> list[Tensor]:
    return params(torch.float64)


def subclass() -> list[Tensor]:
    class Mine(Tensor):
        pass

    one = torch.zeros(4, requires_grad=True)
    one.grad = torch.arange(4.0).as_subclass(Mine)
    return [one]


@pytest.mark.parametrize(
    "make",
    [shared, overlapping, strided, expanded, sparse, negated, of_inference, wide, subclass],
    ids=lambda one: one.__name__,
)
def test_what_no_kernel_is_made_for_is_torchs(make: Any) -> None:
    same_as_torchs(make, 1.0)
    same_as_torchs(make, 1.0, error_if_nonfinite=True)


@pytest.mark.parametrize("norm_type", [1.0, math.inf, 0.5, 3])
def test_other_norms_are_torchs(norm_type: float) -> None:
    same_as_torchs(lambda: params(torch.float32), 1.0, norm_type)


def test_bad_arguments_are_torchs() -> None:
    for args in (("one",), (1.0, "two"), (None,)):
        same_as_torchs(lambda: params(torch.float32), *args)


def test_meta_gradients() -> None:
    assert clip_grad_norm_(meta(), 1.0).device.type == "meta"


def test_without_a_kernel_it_is_torchs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCEL_OPS", "reference")
    same_as_torchs(lambda: params(torch.float32), 1.0)


def test_it_compiles() -> None:
    torch._dynamo.reset()
    ours, theirs = params(torch.float32), params(torch.float32)

    def step(listed: list[Tensor]) -> Tensor:
        return clip_grad_norm_(listed, 1.0)

    found = torch.compile(step, backend="eager")(ours)
    torch.testing.assert_close(found, torchs(theirs, 1.0))


def test_gradients_that_autograd_follows() -> None:
    weight = torch.ones(3, requires_grad=True)
    (weight.grad,) = torch.autograd.grad((weight**3).sum(), weight, create_graph=True)
    assert weight.grad.requires_grad
    assert clip_grad_norm_([weight], 1.0).item() == pytest.approx(3 * math.sqrt(3))
    weight.grad = None


def test_pythons_look_is_no_less_careful(native_op: Any) -> None:
    """What devices other than the CPU are asked, of whose tensors no library reads."""
    made = (shared, overlapping, strided, expanded, sparse, negated, of_inference, wide, subclass)
    for make in (*made, freed):
        ones = [torch.ones(3), *grads(make())]
        assert not clipping.are_ours(ones) and not clipping.are_ours(ones[::-1])
    ours, theirs = params(torch.float32), params(torch.float32)
    assert clipping.are_ours(grads(ours))
    assert not clipping.are_ours([*grads(ours), torch.ones(3, device="meta")])
    with torch.no_grad():
        found = native_op.clip_checked(grads(ours), 0.5)
    assert same_bits([found, *grads(ours)], [clip_grad_norm_(theirs, 0.5), *grads(theirs)])


def test_without_the_librarys_look_it_is_torchs(
    native_op: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native_op._clip, "_reader", None)
    same_as_torchs(lambda: params(torch.float32), 1.0)


@pytest.mark.usefixtures("without_torchs")
def test_parameters_without_gradients_do_not_count() -> None:
    ours, theirs = params(torch.float32), params(torch.float32)
    for listed in (ours, theirs):
        listed[2].grad = None
    exact = exact_norm(grads(ours))
    assert within_a_step(clip_grad_norm_(ours, 0.5), exact)
    torchs(theirs, 0.5)
    for one, other in zip(grads(ours), grads(theirs), strict=True):
        torch.testing.assert_close(one, other, rtol=3e-6, atol=0)


def test_a_norm_that_float16_cannot_show_is_an_error_where_asked() -> None:
    param = torch.nn.Parameter(torch.zeros(1000, dtype=torch.float16))
    param.grad = torch.full((1000,), 60000.0, dtype=torch.float16)
    before = param.grad.clone()
    with pytest.raises(RuntimeError, match="non-finite"):
        clip_grad_norm_([param], 1.0, error_if_nonfinite=True)
    assert torch.equal(param.grad, before)
    assert clip_grad_norm_([param], 1.0).isinf()
