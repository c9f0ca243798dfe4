"""Bad input is refused by name, and nothing is written."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread

import pytest
import torch
from adam_cases import Case

from accel.errors import Unsupported
from accel.ops.optimizers.adam import CPUAdam, FusedAdam

NUMBERS = {"lr": 1e-2, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "step": 1, "mode": 1,
           "bias_correction": True, "weight_decay": 0.1}  # fmt: skip
INF, NAN = float("inf"), float("nan")


@pytest.fixture(params=["native", "reference"])
def adam(request: pytest.FixtureRequest, fused_adam: FusedAdam) -> FusedAdam:
    return fused_adam if request.param == "native" else FusedAdam()


def call(op: FusedAdam, case: Case, **changed: object) -> None:
    op.multi_tensor_adam(65536, None, case.lists(), **{**NUMBERS, **changed})


def assert_refused(op: FusedAdam, case: Case, error: type[Exception], match: str,
                   **changed: object) -> None:  # fmt: skip
    before = [tensor.to_dense().clone() for tensor in case.tensors()]
    with pytest.raises(error, match=match):
        call(op, case, **changed)
    for tensor, old in zip(case.tensors(), before, strict=True):
        assert torch.equal(tensor.to_dense(), old)


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("lr", -1e-3, ValueError),
        ("lr", NAN, ValueError),
        ("lr", "1e-3", TypeError),
        ("lr", None, TypeError),
        ("beta1", 1.0, ValueError),
        ("beta1", -0.1, ValueError),
        ("beta2", 1.5, ValueError),
        ("beta2", NAN, ValueError),
        ("epsilon", -1e-8, ValueError),
        ("epsilon", INF, ValueError),
        ("weight_decay", -0.1, ValueError),
        ("step", 0, ValueError),
        ("step", 1.5, TypeError),
        ("mode", 2, ValueError),
    ],
)
def test_numbers(adam: FusedAdam, name: str, value: object, error: type[Exception]) -> None:
    assert_refused(adam, Case.random((10,)), error, name, **{name: value})


def replaced(field: str, change: Callable[[torch.Tensor], object]) -> Case:
    case = Case.random((6, 4))
    setattr(case, field, change(getattr(case, field)))
    return case


@pytest.mark.parametrize(
    ("case", "error", "match"),
    [
        (replaced("grad", lambda t: t[:3]), ValueError, r"grads\[0\] has shape \(3, 4\)"),
        (replaced("exp_avg", lambda t: t.reshape(4, 6)), ValueError, r"exp_avgs\[0\]"),
        (replaced("param", torch.Tensor.int), TypeError, r"params\[0\] has dtype torch.int32"),
        (replaced("grad", lambda t: t.to(torch.complex64)), TypeError, r"grads\[0\] has dtype"),
        (replaced("grad", torch.Tensor.to_sparse), TypeError, r"grads\[0\] has layout"),
        (replaced("exp_avg_sq", lambda t: t.bfloat16()), TypeError, r"exp_avg_sqs\[0\]"),
        (replaced("grad", torch.Tensor.double), TypeError, r"grads\[0\] is torch.float64"),
        (replaced("grad", lambda t: t.requires_grad_()), ValueError, r"grads\[0\] requires grad"),
        (replaced("param", lambda t: t[:1].expand(6, 4)), ValueError, r"params\[0\] has elements"),
    ],
)
def test_tensors(adam: FusedAdam, case: Case, error: type[Exception], match: str) -> None:
    assert_refused(adam, case, error, match)


def test_another_device(adam: FusedAdam) -> None:
    case = Case.random((4,))
    case.grad = case.grad.to("meta")
    with pytest.raises(ValueError, match=r"grads\[0\] is on meta"):
        call(adam, case)


def test_a_device_that_the_op_is_not_for(fused_adam: FusedAdam) -> None:
    case = Case(*(torch.empty(4, device="meta") for _ in range(4)))
    with pytest.raises(ValueError, match=r"params\[0\] is on meta.*loaded for 'cpu'"):
        call(fused_adam, case)


@pytest.mark.parametrize("field", ["grad", "exp_avg", "exp_avg_sq"])
def test_tensors_that_share_memory(adam: FusedAdam, field: str) -> None:
    memory = torch.rand(20)
    case = Case.random((10,))
    case.param = memory[:10]
    setattr(case, field, memory[9:19])
    assert_refused(adam, case, ValueError, "shares memory with")


def test_gradients_may_share_memory(adam: FusedAdam) -> None:
    first, second = Case.random((10,)), Case.random((10,), seed=1)
    lists = [[first.grad, first.grad], *([a, b] for a, b in zip(
        first.lists()[1:], second.lists()[1:], strict=True))]  # fmt: skip
    lists[1:] = [[a[0], b[0]] for a, b in lists[1:]]
    adam.multi_tensor_adam(65536, None, lists, **NUMBERS)


def test_lists_of_other_lengths(adam: FusedAdam) -> None:
    case = Case.random((10,))
    lists = case.lists()
    lists[2] = []
    with pytest.raises(ValueError, match="exp_avgs has 0 tensors, but params has 1"):
        adam.multi_tensor_adam(65536, None, lists, **NUMBERS)
    with pytest.raises(ValueError, match="tensor_lists must be 4 lists"):
        adam.multi_tensor_adam(65536, None, lists[:3], **NUMBERS)


def test_what_is_no_tensor(adam: FusedAdam) -> None:
    case = Case.random((10,))
    lists = case.lists()
    lists[0] = [None]
    with pytest.raises(TypeError, match=r"grads\[0\] is a NoneType"):
        adam.multi_tensor_adam(65536, None, lists, **NUMBERS)


@pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor:UserWarning")
def test_memory_that_no_kernel_can_reach(fused_adam: FusedAdam) -> None:
    from torch._subclasses import FakeTensorMode

    with FakeTensorMode():
        fake = Case(*(torch.empty(4) for _ in range(4)))
    with pytest.raises(ValueError, match=r"params\[0\] has elements but no memory"):
        call(fused_adam, fake)


@pytest.mark.parametrize("flag", [torch.zeros(2, dtype=torch.int32), torch.zeros(1), 0])
def test_noop_flag(adam: FusedAdam, flag: object) -> None:
    with pytest.raises((TypeError, ValueError), match="noop_flag"):
        adam.multi_tensor_adam(65536, flag, Case.random((4,)).lists(), **NUMBERS)


def update(op: CPUAdam, number: object, case: Case, **changed: object) -> None:
    numbers = {**NUMBERS, **changed}
    del numbers["mode"]
    op.adam_update(number, **numbers, params=case.param, grads=case.grad, exp_avg=case.exp_avg,
                   exp_avg_sq=case.exp_avg_sq)  # fmt: skip


def test_unknown_and_destroyed_ids(cpu_adam: CPUAdam) -> None:
    case = Case.random((10,))
    with pytest.raises(ValueError, match="optimizer_id 41 is unknown"):
        update(cpu_adam, 41, case)
    cpu_adam.create_adam(41, 1e-3, 0.9, 0.999, 1e-8, 0.0, True, False)
    update(cpu_adam, 41, case)
    cpu_adam.destroy_adam(41)
    with pytest.raises(ValueError, match="optimizer_id 41 is unknown"):
        update(cpu_adam, 41, case)
    with pytest.raises(ValueError, match="optimizer_id 41 is unknown"):
        cpu_adam.destroy_adam(41)
    with pytest.raises(TypeError, match="optimizer_id"):
        update(cpu_adam, "41", case)


def test_single_tensors_are_named_without_an_index(cpu_adam: CPUAdam) -> None:
    cpu_adam.create_adam(42, 1e-3, 0.9, 0.999, 1e-8, 0.0, True, False)
    with pytest.raises(ValueError, match=r"^grads has shape"):
        update(cpu_adam, 42, replaced("grad", lambda t: t[:3]))
    with pytest.raises(ValueError, match="beta1 is 0"):
        cpu_adam.adam_rollback(42, 1, 1e-3, 0.0, 0.9, 1e-8, 0.0, True,
                               *(Case.random((3,)).tensors()))  # fmt: skip
    cpu_adam.destroy_adam(42)


def test_zenflow_is_named(cpu_adam: CPUAdam) -> None:
    with pytest.raises(Unsupported, match="zenflow_adam_create"):
        cpu_adam.zenflow_adam_create(1, [])
    with pytest.raises(AttributeError, match="no attribute 'adam_updat'"):
        cpu_adam.adam_updat  # noqa: B018


def test_ids_from_many_threads(cpu_adam: CPUAdam) -> None:
    failures: list[BaseException] = []

    def live(number: int) -> None:
        try:
            for _ in range(50):
                cpu_adam.create_adam(number, 1e-3, 0.9, 0.999, 1e-8, 0.0, True, False)
                update(cpu_adam, number, Case.random((100,)))
                cpu_adam.destroy_adam(number)
        except BaseException as error:
            failures.append(error)

    threads = [Thread(target=live, args=(100 + number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
