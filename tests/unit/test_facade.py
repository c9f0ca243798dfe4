"""op_builder: names reflected without torch, forwarded to the accelerator in use."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import accel
import op_builder
from accel.builders import lookup
from accel.builders.base import OpBuilder
from accel.builders.kinds import KINDS
from accel.cpu import CPUAccelerator
from accel.errors import OpUnavailable, UnknownOp

ROOT = Path(__file__).parents[2]
# Stands for an interpreter without torch: nothing of it can be found or imported.
NO_TORCH = """
import sys
from importlib.abc import MetaPathFinder
class Gone(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")
        return None
import importlib.util
real = importlib.util.find_spec
def found(name, package=None):
    return None if name == "torch" else real(name, package)
importlib.util.find_spec = found
sys.meta_path.insert(0, Gone())
"""


@pytest.fixture(autouse=True)
def on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup, "_registered", {})
    accel.set_accelerator("cpu")


def without_torch(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", NO_TORCH + code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_names_are_a_sorted_tuple_without_kinds() -> None:
    names = op_builder.__op_builders__
    assert isinstance(names, tuple)
    assert list(names) == sorted(names)
    assert {"FusedAdamBuilder", "CPUAdamBuilder"} <= {*names}
    assert not {*names} & {kind.__name__ for kind in KINDS}
    assert {*names} <= {*dir(op_builder)}


def test_names_can_be_read_without_torch() -> None:
    names = without_torch("import op_builder; print(op_builder.__op_builders__)")
    assert names.strip() == str(op_builder.__op_builders__)


def test_without_torch_a_name_is_a_closure_that_decides_when_called() -> None:
    said = without_torch(
        "import op_builder\n"
        "made = op_builder.FusedAdamBuilder\n"
        "print(type(made).__name__, made.__name__, made().NAME)\n"
        "try: op_builder.FusedAdmaBuilder\n"
        "except AttributeError as error: print(error)\n"
    )
    assert said.splitlines()[0] == "function FusedAdamBuilder fused_adam"
    assert "Did you mean 'FusedAdamBuilder'?" in said


def test_a_name_is_the_class_of_the_accelerator_in_use() -> None:
    from accel.builders import cpu, cuda

    assert op_builder.FusedAdamBuilder is cpu.FusedAdamBuilder
    with accel.use_accelerator(accel.accelerator_for("cuda")):
        assert op_builder.FusedAdamBuilder is cuda.FusedAdamBuilder
    assert op_builder.OpBuilder is OpBuilder


def test_every_strategy_answers_for_every_name() -> None:
    for backend in ("cpu", "cuda", "xpu", "hpu"):
        strategy = accel.accelerator_for(backend)
        for name in op_builder.__op_builders__:
            made = strategy.create_op_builder(name)
            assert isinstance(made, strategy.get_op_builder(name))
            assert isinstance(made.is_compatible(), bool)
            assert [rung for rung, _ in made.rungs() if rung != "vendor"] == [
                "prebuilt",
                "jit",
                "portable",
                "reference",
            ]


def test_an_unknown_op_suggests_and_is_an_attribute_error() -> None:
    with pytest.raises(UnknownOp, match=r"Did you mean 'FusedAdamBuilder'\?") as caught:
        CPUAccelerator().get_op_builder("FusedAdmaBuilder")
    assert isinstance(caught.value, AttributeError)
    assert not hasattr(op_builder, "NoSuchBuilder")
    assert not hasattr(op_builder, "nonsense")


def test_an_installed_deepspeed_is_left_alone() -> None:
    assert not hasattr(op_builder, "__deepspeed__")
    with pytest.raises(ImportError):
        from op_builder import __deepspeed__  # noqa: F401


def test_a_registered_op_counts_everywhere() -> None:
    accel.register_op("my_op", "my_pkg.ops:MyOp")
    accel.register_op("my_op", "my_pkg.ops:MyOp")
    assert "MyOpBuilder" in op_builder.__op_builders__
    builder = op_builder.MyOpBuilder()
    assert builder.NAME == "my_op"
    assert builder.is_compatible()
    assert op_builder.MyOpBuilder is type(builder)
    with pytest.raises(ValueError, match="replace=True"):
        accel.register_op("my_op", "my_pkg.ops:Other")
    with pytest.raises(ValueError, match="module:Class"):
        accel.register_op("my_op", "my_pkg.ops")


def test_native_policy_refuses_a_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    accel.register_op("my_op", "accel.ops.optimizers.adam:FusedAdam")
    monkeypatch.setenv("ACCEL_OPS", "native")
    assert not op_builder.MyOpBuilder().is_compatible()
    with pytest.raises(OpUnavailable, match="no native implementation for 'cpu'"):
        op_builder.MyOpBuilder().load()


def test_the_closure_names_what_it_does_not_know() -> None:
    with pytest.raises(UnknownOp, match="Known: "):
        op_builder.builder_closure("NoSuchBuilder")()


def test_default_capabilities_are_text_and_empty_off_cuda() -> None:
    assert op_builder.get_default_compute_capabilities() == ""


def test_kinds_are_still_found_where_they_were() -> None:
    from accel.builders import base, kinds

    with pytest.warns(DeprecationWarning, match=r"import it from accel\.builders\.kinds"):
        assert base.CPUOpBuilder is kinds.CPUOpBuilder
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = base.Nothing


@pytest.mark.parametrize("target", [None, 5, dict])
def test_a_target_that_is_no_text_is_named(target: object) -> None:
    with pytest.raises(TypeError, match=r"^register_op: .* is not text of the form 'module:Class'"):
        accel.register_op("my_op", target)
    with pytest.raises(TypeError, match=r"^register_accelerator: .* is not text"):
        accel.register_accelerator("my_npu", target)
