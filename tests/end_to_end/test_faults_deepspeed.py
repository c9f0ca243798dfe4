"""DeepSpeed mode if DeepSpeed uses functions that accel lacks, or cannot be reached."""

from __future__ import annotations

import copy
import enum
import json
import os
import pickle
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch

from accel.builders.convention import DECLARED, name_of
from accel.builders.cpu import CPUAdagradBuilder, CPUAdamBuilder, CPULionBuilder
from accel.builders.lookup import find_builder
from accel.integrations.deepspeed import ForwardingOp, Owners, builder_names, is_ours, register
from accel.ops.base import Op
from accel.ops.frame.declaration import DeclaredOp

ROOT = Path(__file__).parents[2]
needs_deepspeed = pytest.mark.skipif(
    find_spec("deepspeed") is None, reason="deepspeed is not installed"
)
ADAM = (1e-3, 0.9, 0.999, 1e-8, 0.0, True, False)
CREATED = {
    "adam": (CPUAdamBuilder, ADAM),
    "adagrad": (CPUAdagradBuilder, (1e-2, 1e-8, 0.0, False)),
    "lion": (CPULionBuilder, (1e-3, 0.9, 0.99, 0.0, False)),
}


class Theirs:
    """What DeepSpeed's library does with its optimizers: a number that it lacks is fatal there."""

    __file__ = "theirs.so"

    def __init__(self, what: str) -> None:
        self.made: dict[int, tuple[Any, ...]] = {}
        self.steps: list[int] = []
        setattr(self, f"create_{what}", self._create)
        setattr(self, f"destroy_{what}", lambda number: self.made.pop(number) and 0)
        setattr(self, f"{what}_update", lambda number, *_: self.steps.append(number))

    def _create(self, number: int, *args: Any) -> int:
        self.made[number] = args
        return 0

    def extra_create(self, number: int) -> int:
        assert number in self.made, "a null pointer is followed"
        return 77


@pytest.mark.parametrize("what", CREATED)
def test_an_optimizer_has_one_owner(what: str) -> None:
    kind, args = CREATED[what]
    ours, theirs = kind().load(), Theirs(what)
    owners = Owners(lambda: theirs)
    one, other = ForwardingOp(ours, owners), ForwardingOp(ours, owners)
    numbers = (910, 911, 912)
    for number in numbers:
        getattr(one, f"create_{what}")(number, *args)
    getattr(one, f"destroy_{what}")(911)
    assert not theirs.made and other.implementation == ours.implementation
    assert other.extra_create(910) == 77
    assert theirs.made == {910: args, 912: args}
    tensors = [torch.ones(4) for _ in range(4)]
    with pytest.raises(ValueError, match="910"):
        _update(ours, what, 910, tensors)
    getattr(one, f"{what}_update")(910, 1)
    getattr(one, f"create_{what}")(913, *args)
    assert theirs.steps == [910] and 913 in theirs.made
    for number in (910, 912, 913):
        getattr(other, f"destroy_{what}")(number)
    assert not theirs.made
    assert (one.implementation, one.path, one.digest) == ("deepspeed", "theirs.so", None)


def _update(op: Any, what: str, number: int, tensors: list[torch.Tensor]) -> None:
    middle = {
        "adam": (1, 1e-3, 0.9, 0.999, 1e-8, 0.0, True),
        "adagrad": (1, 1e-2, 1e-8, 0.0),
        "lion": (1, 1e-3, 0.9, 0.99, 0.0),
    }[what]
    count = {"adam": 4, "adagrad": 3, "lion": 3}[what]
    getattr(op, f"{what}_update")(number, *middle, *tensors[:count])


def test_a_missing_function_moves_nothing() -> None:
    ours, theirs = CPUAdamBuilder().load(), Theirs("adam")
    op = ForwardingOp(ours, Owners(lambda: theirs))
    op.create_adam(920, *ADAM)
    assert not hasattr(op, "no_such_function")
    assert not theirs.made and op.implementation == ours.implementation
    op.destroy_adam(920)


def test_copies_and_pickles_compile_nothing_of_theirs() -> None:
    def never() -> Any:
        raise AssertionError("DeepSpeed's own op was asked for")

    op = ForwardingOp(SimpleNamespace(functions=()), Owners(never))
    assert not hasattr(op, "__deepcopy__") and not hasattr(op, "_repr_html_")
    copy.copy(op)
    with pytest.raises((AttributeError, TypeError, pickle.PicklingError)):
        pickle.dumps(op)


class Twice(DeclaredOp):
    schema = "twice_for_deepspeed(Tensor x) -> Tensor"
    native = False

    def outputs(self, x: torch.Tensor) -> torch.Tensor:
        return torch.empty_like(x)

    def reference(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2


class Twice_(DeclaredOp):
    schema = "twice_for_deepspeed_(Tensor(a!) x) -> ()"
    native = False

    def reference(self, x: torch.Tensor) -> None:
        x.mul_(2)


class Kind(enum.IntEnum):
    Symmetric = 0
    Asymmetric = 1


class Everything(Op):
    """An op with all that a module of DeepSpeed's has."""

    name = "everything"
    functions = ("quantize",)
    registers: ClassVar = {
        "deepspeed_test::twice": Twice,
        "deepspeed_test::twice_": Twice_,
    }
    Kind = Kind
    Symmetric, Asymmetric = Kind.Symmetric, Kind.Asymmetric

    class Handle:
        """A class that DeepSpeed makes objects of."""

    def quantize(self) -> str:
        return "ours"


def test_classes_enums_and_registrations_are_carried_over() -> None:
    loaded: list[str] = []

    def theirs() -> Any:
        assert not hasattr(torch.ops.deepspeed_test, "twice"), "both register one name"
        loaded.append("theirs")
        return SimpleNamespace(more=lambda: "theirs", quantize=lambda: "theirs", Symmetric=7)

    owners = Owners(theirs)
    owners.register(Everything())
    owners.register(Everything())
    op: Any = ForwardingOp(Everything(), owners)
    assert op.quantize() == "ours" and isinstance(op.Handle(), Everything.Handle)
    assert op.Symmetric is Kind.Symmetric and op.Kind(1) is op.Asymmetric
    twice: Any = torch.ops.deepspeed_test.twice
    x = torch.arange(3.0, requires_grad=True)
    assert torch.equal(twice(x.detach()), 2 * x.detach())
    assert twice(torch.ones(3, device="meta")).device.type == "meta"
    y = torch.ones(3)
    torch.ops.deepspeed_test.twice_(y)
    assert torch.equal(y, torch.full((3,), 2.0))
    assert not loaded
    assert op.more() == "theirs" and op.quantize() == "theirs" and op.Symmetric == 7
    assert not hasattr(torch.ops.deepspeed_test, "twice")


def test_a_name_that_is_registered_already_stays() -> None:
    library = torch.library.Library("deepspeed_test", "FRAGMENT")
    library.define("twice(Tensor x) -> Tensor")
    library.impl("twice", lambda x: x * 3, "CompositeExplicitAutograd")
    made = register(Everything())
    assert len(made) == 1
    assert torch.equal(torch.ops.deepspeed_test.twice(torch.ones(2)), torch.full((2,), 3.0))
    for one in (*made, library):
        one._destroy()


@pytest.mark.parametrize("backend", ["cpu", "cuda", "xpu", "hpu", "npu", "mps"])
def test_what_is_bridged_follows_from_the_declarations(backend: str) -> None:
    theirs = type("SomeBuilder", (), {"NAME": "some"})
    nobodys = type("NotImplementedBuilder", (), {"NAME": "deepspeed_not_implemented"})
    assert set(builder_names()) == {name_of(target) for target in DECLARED.values()}
    for name in builder_names():
        assert is_ours(name, backend, None) and is_ours(name, backend, nobodys)
        if name.startswith("CPU") or name == "UtilsBuilder":
            assert is_ours(name, backend, theirs), "it is the host's, or needs no kernel"
    assert is_ours("FusedAdamBuilder", backend, theirs) == (backend not in ("npu", "mps"))
    assert not is_ours("DeepCompileBuilder", backend, None)


def test_ops_of_the_host_have_its_kernels_beside_any_device() -> None:
    for name in ("CPUAdamBuilder", "CPULionBuilder", "cpu_adagrad"):
        assert find_builder(name, "", "npu") is find_builder(name, "accel.builders.cpu", "cpu")


def python(folder: Path, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run Python in `folder`, which then comes first in its path."""
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done


@needs_deepspeed
def test_deepspeeds_own_op_builder_in_the_way_is_told(tmp_path: Path) -> None:
    (package,) = find_spec("deepspeed").submodule_search_locations  # type: ignore[union-attr]
    shutil.copytree(Path(package) / "ops" / "op_builder", tmp_path / "checkout" / "op_builder")
    (tmp_path / "elsewhere").mkdir()
    use = "import accel; accel.get_accelerator(); accel.set_accelerator('cpu')"
    on = {"ACCEL_DEEPSPEED": "1"}
    said = python(tmp_path / "checkout", "-c", use, **on).stderr
    assert said.count("ACCEL_DEEPSPEED=1 has no effect here") == 1
    assert str(tmp_path / "checkout" / "op_builder") in said and "Start in a folder" in said
    said = python(tmp_path / "checkout", "-c", "import accel; accel.set_accelerator('cpu')", **on)
    assert "has no effect here" in said.stderr
    assert "has no effect" not in python(tmp_path / "checkout", "-c", use).stderr
    assert "has no effect" not in python(tmp_path / "elsewhere", "-c", use, **on).stderr
    (tmp_path / "elsewhere" / "op_builder").mkdir()
    assert "has no effect" not in python(tmp_path / "elsewhere", "-c", use, **on).stderr


def test_the_report_tells_it_beside_its_output(tmp_path: Path) -> None:
    (tmp_path / "op_builder").mkdir()
    (tmp_path / "op_builder" / "__init__.py").write_text("__deepspeed__ = True\n")
    done = python(tmp_path, "-m", "accel", "report", "--json", ACCEL_DEEPSPEED="1")
    assert "has no effect here" in done.stderr
    assert json.loads(done.stdout)["backends"]


ZENFLOW = """
import os, sys, torch
for name, value in {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1",
                    "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29617"}.items():
    os.environ.setdefault(name, value)
import deepspeed
deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
if __name__ == "__main__":
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(64, 256), torch.nn.GELU(), torch.nn.Linear(256, 64))
    zenflow = {"topk_ratio": 0.1, "update_interval": 4, "full_warm_up_rounds": 2,
               "overlap_step": True, "select_strategy": "step", "select_interval": 8}
    zero = {"stage": 2, "offload_optimizer": {"device": "cpu"}, "zenflow": zenflow}
    engine, _, _, _ = deepspeed.initialize(
        model=model, model_parameters=model.parameters(),
        config={"train_micro_batch_size_per_gpu": 8, "zero_optimization": zero,
                "optimizer": {"type": "AdamW", "params": {"lr": 1e-3}},
                "steps_per_print": 10**6, "bf16": {"enabled": True}})
    for step in range(24):
        x = torch.randn(8, 64, dtype=torch.bfloat16)
        loss = engine(x).float().square().mean()
        engine.backward(loss)
        engine.step()
        print("loss", loss.item(), flush=True)
    engine.destroy()
"""


@pytest.mark.soak
@needs_deepspeed
def test_zenflow_trains_in_the_mode_as_without_it(tmp_path: Path) -> None:
    """DeepSpeed compiles its own op once, which takes minutes."""
    script = tmp_path / "zenflow.py"
    script.write_text(ZENFLOW)
    losses = []
    for mode in ("0", "1"):
        done = subprocess.run(
            [sys.executable, "-W", "ignore", str(script)],
            capture_output=True,
            text=True,
            timeout=1200,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "DS_ACCELERATOR": "cpu",
                "ACCEL_DEEPSPEED": mode,
            },
        )
        assert done.returncode == 0, done.stderr[-3000:]
        losses.append([line for line in done.stdout.splitlines() if line.startswith("loss ")])
    assert len(losses[0]) == 24
    assert losses[0] == losses[1]
