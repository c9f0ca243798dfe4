"""Ops of a third party's strategy whose torch device type is not the strategy's name."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest
import torch

import accel
from accel import registry
from accel.builders import cpu
from accel.builders.base import OpBuilder
from accel.errors import UnknownBackend
from accel.jit import Recipe
from accel.ops.base import Op
from accel.ops.lists.multi_tensor import MultiTensor
from accel.ops.quantizers.blockwise_quantizer import BlockwiseQuantizer

NATIVE = ("FusedAdamBuilder", "MultiTensorBuilder", "BlockwiseQuantizerBuilder")


class Second(accel.Accelerator):
    name = "second"
    device_type = "cpu"
    op_builders = "builders_of_second"

    def is_available(self) -> bool:
        return True


class Shared(OpBuilder):
    """A kind: the library is the host's own, so the tests compile nothing more."""

    backend = "second"

    def recipe(self) -> Recipe:
        return super().recipe().replace(backend="cpu")


@pytest.fixture
def second(session_cache: object, monkeypatch: pytest.MonkeyPatch) -> Second:
    """The strategy, whose builders are the host's under the strategy's name."""
    module = ModuleType(Second.op_builders)
    for name in NATIVE:
        own = vars(cpu)[name]
        setattr(module, name, type(name, (Shared, own), {"__module__": Second.op_builders}))
    monkeypatch.setitem(sys.modules, Second.op_builders, module)
    return Second()


def loaded(strategy: Second, name: str) -> Any:
    op = strategy.create_op_builder(name).load()
    assert (op.implementation, op.backend) == ("jit", "cpu")
    return op


def never(*_: Any) -> Any:
    raise AssertionError("the reference ran instead of the kernel")


def refuse_references(op: Op, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the reference of each of an op's functions fail."""
    for kind in op.ops:  # type: ignore[attr-defined]
        monkeypatch.setattr(kind, "reference", never)


def test_an_optimizers_kernel_steps(second: Second) -> None:
    parameter = torch.nn.Parameter(torch.ones(8))
    parameter.grad = torch.ones(8)
    loaded(second, "FusedAdamBuilder")
    with accel.use_accelerator(second):
        optimizer = accel.optim.FusedAdam([parameter], lr=0.5)
        optimizer.step()
    torch.testing.assert_close(parameter.detach(), torch.full((8,), 0.5), rtol=0.02, atol=0.0)


def test_the_kernels_of_declared_ops_run(second: Second, monkeypatch: pytest.MonkeyPatch) -> None:
    lists: MultiTensor = loaded(second, "MultiTensorBuilder")
    codes: BlockwiseQuantizer = loaded(second, "BlockwiseQuantizerBuilder")
    x, flag = torch.ones(256), torch.zeros(1, dtype=torch.int32)
    for op in (lists, codes):
        refuse_references(op, monkeypatch)
    assert lists.multi_tensor_l2norm(65536, flag, [[x]], False)[0].item() == 16.0
    assert codes.quantize_blockwise(x)[0].shape == x.shape


def test_the_strategies_of_one_backend_share_no_op(second: Second) -> None:
    class Third(Second):
        device_type = "meta"

    ops = [one.create_op_builder("FusedLionBuilder").load() for one in (second, Third())]
    assert [(one.implementation, one.backend) for one in ops] == [
        ("reference", "cpu"),
        ("reference", "meta"),
    ]


def test_a_backends_name_is_not_a_device_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_registered", {})
    accel.register_accelerator("second", f"{__name__}:Second")
    with pytest.raises(UnknownBackend, match=r"torch calls the devices of backend 'second' 'cpu'"):
        accel.accelerator_for("second:0")


def test_the_hosts_op_stays_the_hosts() -> None:
    class Far(accel.Accelerator):
        name = "far"
        device_type = "cuda"

        def is_available(self) -> bool:
            return True

    assert Far().get_op_builder("CPUAdamBuilder") is vars(cpu)["CPUAdamBuilder"]
