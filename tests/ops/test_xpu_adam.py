"""Adam's SYCL kernels on the SYCL CPU device, against float64 and the reference."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from adam_cases import Case, exact
from sycl_device import SyclDevice
from torch import Tensor

from accel.builders.xpu import FusedAdamBuilder
from accel.errors import AccelError
from accel.ops import abi
from accel.ops.adam import FusedAdam
from accel.ops.adam_reference import AdamHyper, adam_reference
from accel.ops.lists import TensorLists

pytestmark = pytest.mark.xpu
FLOATS = (torch.float32, torch.bfloat16, torch.float16)
ADAMW = abi.ADAM_ADAMW | abi.ADAM_BIAS_CORRECTION
HYPER = AdamHyper(
    lr=1e-2, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.1, step=3, flags=ADAMW
)  # fmt: skip
ROLES = ("params", "grads", "exp_avgs", "exp_avg_sqs")


@pytest.fixture(scope="module")
def op(sycl_device: SyclDevice) -> FusedAdam:
    loaded = sycl_device.load(FusedAdamBuilder)
    assert isinstance(loaded, FusedAdam)
    return loaded


def lists(*cases: Case, **more: list[Tensor]) -> TensorLists:
    columns = zip(*(case.tensors() for case in cases), strict=True)
    return TensorLists(dict(zip(ROLES, map(list, columns), strict=True)) | more)


def copied(tensors: TensorLists) -> TensorLists:
    def copy(listed: list[Tensor]) -> list[Tensor]:
        return [tensor.clone() for tensor in listed]

    steps = None if tensors.steps is None else copy(list(tensors.steps))
    return TensorLists({role: copy(list(ts)) for role, ts in tensors.roles.items()}, steps)


def both(op: FusedAdam, device: SyclDevice, given: TensorLists, hyper: AdamHyper) -> TensorLists:
    """Step `given` on the device and return what the reference makes of a copy."""
    expected = copied(given)
    adam_reference(expected, hyper)
    op.kernel.run(given, hyper)
    device.wait()
    return expected


def assert_close(given: TensorLists, expected: TensorLists, ulps: float = 4) -> None:
    for role, listed in expected.roles.items():
        for index, (ours, theirs) in enumerate(zip(given.roles[role], listed, strict=True)):
            rtol = ulps * torch.finfo(ours.dtype).eps
            torch.testing.assert_close(
                ours, theirs, rtol=rtol, atol=1e-7, equal_nan=True,
                msg=lambda text, at=f"{role}[{index}]": f"{at}: {text}",
            )  # fmt: skip
    if expected.steps is not None:
        assert [*map(float, given.steps or ())] == [*map(float, expected.steps)]


@pytest.mark.parametrize("size", [1, 3, 4, 5, 255, 1027, 4095, 4096, 4097, 40_000])
@pytest.mark.parametrize("mode", [0, 1])
@pytest.mark.parametrize("correct", [False, True])
def test_against_float64(
    op: FusedAdam, sycl_device: SyclDevice, size: int, mode: int, correct: bool
) -> None:
    case = Case.random((size,))
    hyper = {"lr": 1e-2, "betas": (0.9, 0.999), "eps": 1e-8}
    p, m, v = exact(case, **hyper, step=3, mode=mode, bias_correction=correct, weight_decay=0.1)
    op.multi_tensor_adam(0, None, case.lists(), 1e-2, 0.9, 0.999, 1e-8, 3, mode, correct, 0.1)
    sycl_device.wait()
    torch.testing.assert_close(case.param.double(), p, rtol=2e-6, atol=2e-7)
    torch.testing.assert_close(case.exp_avg.double(), m, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(case.exp_avg_sq.double(), v, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize(("param", "grad", "state"), [*itertools.product(FLOATS, FLOATS, FLOATS)])
def test_every_mixture_of_types(
    op: FusedAdam,
    sycl_device: SyclDevice,
    param: torch.dtype,
    grad: torch.dtype,
    state: torch.dtype,
) -> None:
    case = Case.random((2501,), param, state)
    case.grad = case.grad.to(grad)
    given = lists(case)
    assert_close(given, both(op, sycl_device, given, HYPER), ulps=1 if param != FLOATS[0] else 4)


OPTIONS: dict[str, Callable[[], tuple[TensorLists, AdamHyper]]] = {
    "amsgrad": lambda: (
        lists(Case.random((5000,)), max_exp_avg_sqs=[torch.rand(5000)]),
        replace(HYPER, flags=ADAMW | abi.ADAM_AMSGRAD),
    ),
    "maximize": lambda: (
        lists(Case.random((5000,))),
        replace(HYPER, flags=abi.ADAM_MAXIMIZE),
    ),
    "masters": lambda: (
        lists(Case.random((5000,), torch.bfloat16), masters=[torch.randn(5000)]),
        HYPER,
    ),
    "rollback": lambda: (
        lists(Case.random((5000,))),
        replace(HYPER, flags=ADAMW | abi.ADAM_ROLLBACK),
    ),
    "beta1 of 0.3": lambda: (lists(Case.random((5000,))), replace(HYPER, beta1=0.3)),
    "grad_scale": lambda: (
        lists(Case.random((5000,))),
        replace(HYPER, grad_scale=torch.tensor(65536.0), found_inf=torch.tensor(0.0)),
    ),
    "lr_tensor": lambda: (
        lists(Case.random((5000,))),
        replace(HYPER, lr_tensor=torch.tensor(0.03)),
    ),
    "found_inf": lambda: (
        lists(Case.random((5000,))),
        replace(HYPER, found_inf=torch.tensor(1.0)),
    ),
    "noop_flag": lambda: (
        lists(Case.random((5000,))),
        replace(HYPER, noop_flag=torch.tensor([1], dtype=torch.int32)),
    ),
    "steps": lambda: (
        TensorLists(
            lists(*(Case.random((99,), seed=n) for n in range(5))).roles,
            [torch.tensor(float(n)) for n in (0, 1, 10, 1000, 1_000_000)],
        ),
        HYPER,
    ),
    "steps, skipped": lambda: (
        TensorLists(lists(Case.random((99,))).roles, [torch.tensor(4.0)]),
        replace(HYPER, found_inf=torch.tensor(1.0)),
    ),
}


@pytest.mark.parametrize("option", OPTIONS)
def test_options(op: FusedAdam, sycl_device: SyclDevice, option: str) -> None:
    given, hyper = OPTIONS[option]()
    untouched = copied(given)
    expected = both(op, sycl_device, given, hyper)
    assert_close(given, expected, ulps=16 if option == "rollback" else 8)
    skipped = hyper.found_inf is not None and bool(hyper.found_inf)
    if skipped or hyper.noop_flag is not None:
        assert torch.equal(given.params[0], untouched.params[0])
    else:
        assert not torch.equal(given.params[0], untouched.params[0])


def test_many_tensors_of_many_sizes(op: FusedAdam, sycl_device: SyclDevice) -> None:
    sizes = [0, 1, 4096, 4097, 20_000, 3, 0, 50_000, 2, *range(30, 47), 9000, 0, 12]
    given = lists(*(Case.random((size,), seed=size) for size in sizes))
    given.steps = [torch.tensor(float(n)) for n in range(len(sizes))]
    assert_close(given, both(op, sycl_device, given, HYPER), ulps=8)


def test_neighbours_and_misaligned_tensors(op: FusedAdam, sycl_device: SyclDevice) -> None:
    for dtype, first in itertools.product(FLOATS, (1, 2, 3, 8)):
        wholes = [tensor.to(dtype) for tensor in Case.random((6000,)).tensors()]
        before = [whole.clone() for whole in wholes]
        inside = [whole[first:5000] for whole in wholes]
        given = lists(Case(*inside))
        assert_close(given, both(op, sycl_device, given, HYPER))
        for whole, old in zip(wholes, before, strict=True):
            assert torch.equal(whole[:first], old[:first])
            assert torch.equal(whole[5000:], old[5000:])


def test_nan_and_infinity(op: FusedAdam, sycl_device: SyclDevice) -> None:
    case = Case.random((64,))
    case.grad[3], case.grad[5], case.grad[7] = float("nan"), float("inf"), float("-inf")
    case.param[9], case.exp_avg_sq[11] = float("inf"), float("nan")
    given = lists(case, max_exp_avg_sqs=[torch.rand(64)])
    given.roles["max_exp_avg_sqs"][0][13] = float("nan")
    hyper = replace(HYPER, flags=ADAMW | abi.ADAM_AMSGRAD)
    assert_close(given, both(op, sycl_device, given, hyper), ulps=8)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_every_16_bit_value_survives(
    op: FusedAdam, sycl_device: SyclDevice, dtype: torch.dtype
) -> None:
    values = torch.arange(-32768, 32768, dtype=torch.int32).to(torch.int16).view(dtype)
    zeros = [torch.zeros(values.numel()) for _ in range(3)]
    given = lists(Case(values.clone(), *zeros))
    op.kernel.run(given, replace(HYPER, lr=0.0, eps=1.0))
    sycl_device.wait()
    number = ~values.isnan()
    assert torch.equal(given.params[0][number].view(torch.int16), values[number].view(torch.int16))
    assert given.params[0][~number].isnan().all()


@pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_rounding_has_the_bits_of_the_reference(
    op: FusedAdam, sycl_device: SyclDevice, dtype: torch.dtype, rounding: str
) -> None:
    # A learning rate of 0 leaves the masters, so that only the rounding is compared.
    scale = 10.0 ** torch.empty(20_001).uniform_(-9, 6)
    masters = [torch.randn(20_001) * scale, torch.randn(77)]
    cases = [Case.random((size,), dtype) for size in (20_001, 77)]
    given = lists(*cases, masters=masters)
    hyper = replace(HYPER, lr=0.0, rounding=rounding, seed=0x1234_5678_9ABC_DEF0)
    expected = both(op, sycl_device, given, hyper)
    for ours, theirs in zip(given.params, expected.params, strict=True):
        assert torch.equal(ours.view(torch.int16), theirs.view(torch.int16))


def test_a_queue_out_of_order_is_refused(op: FusedAdam, sycl_device: SyclDevice) -> None:
    case = Case.random((10,))
    before = case.param.clone()
    ordered, sycl_device.queue = sycl_device.queue, sycl_device.unordered
    try:
        with pytest.raises(AccelError, match="out of order"):
            op.kernel.run(lists(case), HYPER)
        sycl_device.queue = None
        with pytest.raises(AccelError, match="null pointer"):
            op.kernel.run(lists(case), HYPER)
    finally:
        sycl_device.queue = ordered
    assert torch.equal(case.param, before)
