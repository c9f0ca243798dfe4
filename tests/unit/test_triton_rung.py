"""A strategy's attribute decides whether ops without a native library run Triton kernels."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

import accel
from accel.base import Accelerator
from accel.builders import cuda
from accel.builders.convention import DECLARED, HOST
from accel.cuda import CUDAAccelerator
from accel.ops.frame.triton import TritonKernel
from accel.ops.optimizers.triton import Portable
from accel.probe import Accepted, Probe
from accel.registry import strategy

ROOT = Path(__file__).parents[2]


class Plain(Accelerator):
    """Devices of somebody's, of which nothing more is known."""

    name = "plain"

    def is_available(self) -> bool:
        """Return ``True``."""
        return True


class Tritons(Plain):
    """Devices for which Triton compiles."""

    name = "tritons"
    uses_triton = True


class OwnCUDA(CUDAAccelerator):
    """CUDA devices on which Triton is not wanted."""

    uses_triton = False


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package ``triton`` that can be found; nothing here imports it."""
    (tmp_path / "triton.py").write_text("raise ImportError('a stand-in')\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield


def portable(strategy: Accelerator, op: str) -> Probe:
    return dict(strategy.create_op_builder(op).rungs())["portable"]


@pytest.mark.parametrize("op", [name for name in DECLARED if not name.startswith(HOST)])
def test_a_third_partys_strategy_gets_the_rung_by_the_attribute(op: str) -> None:
    assert not portable(Plain(), op)
    verdict = portable(Tritons(), op)
    optimizer = DECLARED[op].startswith("accel.ops.optimizers.")
    if not optimizer and not [*ROOT.glob(f"accel/ops/*/triton/{op}.py")]:
        assert str(verdict) == "no portable kernel."
        return
    assert isinstance(verdict, Accepted)
    builder = Tritons().create_op_builder(op)
    assert isinstance(builder.stand_in(), Portable if optimizer else TritonKernel)
    assert builder.compatibility() == Accepted("portable: Triton, compiled on first use")


@pytest.mark.parametrize("op", [name for name in DECLARED if name.startswith(HOST)])
def test_ops_of_the_host_stay_the_hosts(op: str) -> None:
    assert str(portable(Tritons(), op)) == "no portable kernel."


def test_without_triton_the_rung_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("accel.ops.optimizers.triton.find_spec", lambda name: None)
    verdict = portable(Tritons(), "multi_tensor")
    assert "not installed" in str(verdict)
    assert "Install triton" in str(verdict)


def test_a_strategy_decides_over_the_builders_of_its_module() -> None:
    usual = CUDAAccelerator().get_op_builder("fused_adam")
    assert usual is vars(cuda)["FusedAdamBuilder"]
    without = OwnCUDA().get_op_builder("fused_adam")
    assert issubclass(without, usual)
    assert without is OwnCUDA().get_op_builder("fused_adam")
    assert "not used on cuda" in str(without().portable())
    # The host's builder is another backend's.
    host = OwnCUDA().get_op_builder("cpu_adam")
    assert host is CUDAAccelerator().get_op_builder("cpu_adam")


@pytest.mark.parametrize("backend", ["cuda", "xpu", "hpu", "cpu", "npu", "mps"])
def test_builders_and_strategies_agree(backend: str) -> None:
    ours = strategy(backend)
    module = ours.op_builder_dir()
    if module:
        kinds = [
            value
            for value in vars(import_module(module)).values()
            if isinstance(value, type) and vars(value).get("NAME") and value.backend == backend
        ]
        assert kinds
        assert {kind.uses_triton for kind in kinds} == {ours.uses_triton}
    assert ours.uses_triton is (backend == "cuda")


def test_the_question_for_support_follows_the_attribute() -> None:
    assert not Plain().is_triton_supported()
    assert Tritons().is_triton_supported()
    assert isinstance(accel.accelerator_for("cpu").is_triton_supported(), bool)
