"""A machine that steps optimizers beside torch's and, between steps, does what users do.

    python habit_machine.py --examples 100

prints a failing example that can be pasted after ``from habit_machine import Machine``. What an
example does is in the file `--journal` before it is done, for a process that does not come back.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import gc
import os
import random as randomness
import re
import warnings
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from habit_oracle import (
    MODELS,
    assert_as_model,
    groups_meet,
    may_refuse,
    must_refuse,
    wide,
)
from habits import World, random
from habits_more import HABITS, RESTORES, SWAPS
from hypothesis import HealthCheck, Phase, event, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from mirror import REFUSALS, assert_alike, assert_alike_error, fresh, outcome, stepped_by
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef

from accel.ops.native import NativeLibrary

CLASSES = {cls.__name__: cls for cls in MODELS}
OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {},
    {"master_dtype": torch.float32},
    {"rounding": "stochastic", "seed": 3},
)
SHAPES = ((4, 4), (4, 4), (6,))
DTYPES = (torch.float32, torch.float32, torch.bfloat16, torch.float64)
GRADS = ("new", "some", "kept")
seeds = st.integers(0, 5)
places = st.integers(0, 3)


@contextlib.contextmanager
def plain_defaults() -> Iterator[None]:
    """Make new tensors float32 and on the CPU, whatever the defaults are."""
    dtype, device = torch.get_default_dtype(), torch.get_default_device()
    torch.set_default_dtype(torch.float32)
    torch.set_default_device(None)
    try:
        yield
    finally:
        torch.set_default_dtype(dtype)
        torch.set_default_device(None if device.type == "cpu" else device)


def _shapes(world: World) -> list[dict[str, Any]]:
    states = [world.optimizer.state.get(param, {}) for param in stepped_by(world.optimizer)]
    # Counters may be numbers or tensors.
    return [{key: state[key].shape for key in state if key != "step"} for state in states]


class Machine(RuleBasedStateMachine):
    """Ours and torch's optimizer, to which the same is done."""

    classes: ClassVar[Sequence[str]] = [*CLASSES]
    habits: ClassVar[Sequence[str]] = sorted(HABITS)
    rungs: ClassVar[Sequence[str]] = ("native", "reference")
    others: ClassVar[bool] = True
    """Whether defaults change and memory is missing, too."""
    journal: ClassVar[Path | None] = None

    def __init__(self) -> None:
        super().__init__()
        self._stepped = False
        self._was = os.environ.get("ACCEL_OPS")
        self._seen: dict[int, tuple[str, Any]] = {}
        self._memory: dict[int, tuple[str, StorageWeakRef]] = {}
        if self.journal is not None:
            self.journal.write_text("state = Machine()\n")

    def _note(self, line: str) -> None:
        if self.journal is not None:
            with self.journal.open("a") as file:
                file.write(f"state.{line}\n")

    @initialize(
        name=st.deferred(lambda: st.sampled_from(Machine.classes)),
        rung=st.deferred(lambda: st.sampled_from(Machine.rungs)),
        options=st.integers(0, len(OPTIONS) - 1),
        dtype=st.integers(0, len(DTYPES) - 1),
        count=st.integers(1, len(SHAPES)),
        steps=st.sampled_from([4, 4, 4, 0]),
    )
    def begin(self, name: str, rung: str, options: int, dtype: int, count: int, steps: int) -> None:
        """Make an optimizer and its model, and step until all is prepared, or not at all."""
        self._note(f"begin({name!r}, {rung!r}, {options}, {dtype}, {count}, {steps})")
        os.environ["ACCEL_OPS"] = rung
        cls = CLASSES[name]
        self.make = MODELS[cls] or cls
        params = [
            nn.Parameter(random(shape, seed, DTYPES[dtype]))
            for seed, shape in enumerate(SHAPES[:count])
        ]
        self.ours = World(cls(params, lr=0.1, **OPTIONS[options]), params)
        self.theirs = self.ours.mirrored(self.make)
        event(f"{name}, {rung}")
        self._steps(steps, "new", 0)

    @rule(count=st.integers(1, 4), grads=st.sampled_from(GRADS), seed=seeds)
    def step(self, count: int, grads: str, seed: int) -> None:
        """Give gradients to all, to some or to none, and step; some times."""
        self._note(f"step({count}, {grads!r}, {seed})")
        self._steps(count, grads, seed)

    def _steps(self, count: int, grads: str, seed: int) -> None:
        for number in range(count):
            if grads != "kept":
                for at, param in enumerate(self.ours.params):
                    absent = grads == "some" and (at + seed) % 3 == 0
                    made = random(param.shape, 10 * seed + number + at, param.dtype)
                    param.grad = None if absent else made
                self.theirs = self._mirrored()
            self._step_once()

    @rule(name=st.deferred(lambda: st.sampled_from(Machine.habits)), at=places, seed=seeds)
    def habit(self, name: str, at: int, seed: int) -> None:
        """Do the same to both optimizers."""
        self._note(f"habit({name!r}, {at}, {seed})")
        self._stepped = False
        if name in SWAPS:
            self._seen.clear()

        def done(world: World) -> None:
            # A graph would keep what it was made from.
            with torch.no_grad():
                HABITS[name](world, at, seed)

        found = outcome(lambda: done(self.ours))
        with plain_defaults():
            wanted = outcome(lambda: done(self.theirs))
            restored = name in RESTORES and (
                # torch's optimizers cannot make a state anew from one that lacks a step; ours can.
                (found is None and isinstance(wanted, KeyError))
                # Ours take no state of another class, which is one that lacks entries.
                or ("another optimizer" in str(found) and wanted is None)
                # Nor one of which a part is missing, which torch's refuse then or at the next step.
                or ("is incomplete" in str(found) and isinstance(wanted, KeyError | type(None)))
            )
            if type(found) is not type(wanted) and not restored:
                raise AssertionError(f"raised {found!r}, and {wanted!r} with torch's") from found
            if name in RESTORES:
                assert restored or _shapes(self.ours) == _shapes(self.theirs)
                # torch gives every state its parameter's type; ours keep their own.
                self.theirs = self.ours.mirrored(self.make)
            self._let_go()

    @precondition(lambda self: self.others)
    @rule(at=places, seed=seeds)
    def step_without_memory(self, at: int, seed: int) -> None:
        """Step again while memory of a parameter, its gradient or its state is released."""
        self._note(f"step_without_memory({at}, {seed})")
        world = self.ours
        if not self._stepped or not world.params:
            return
        param = world[at]
        if param.grad is None or not world.stepped(at):
            return
        tensors = [param, param.grad, *world.state(at).values()]
        storage = tensors[seed % len(tensors)].untyped_storage()
        if not storage.nbytes() or not storage.resizable():
            return
        with plain_defaults():
            before, kept = fresh(world.optimizer), storage.clone()
            storage.resize_(0)
            error = outcome(world.optimizer.step)
            storage.resize_(kept.nbytes())
            storage.copy_(kept)
            self._judge(error, ["."], unclear=False)
            assert_alike(world.optimizer, before)
            self.theirs = world.mirrored(self.make)

    @precondition(lambda self: self.others)
    @rule(dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float64]))
    def default_dtype(self, dtype: torch.dtype) -> None:
        """Set the type of new tensors."""
        self._note(f"default_dtype({dtype})")
        torch.set_default_dtype(dtype)

    @precondition(lambda self: self.others)
    @rule(device=st.sampled_from(["cpu", "meta"]))
    def default_device(self, device: str) -> None:
        """Set the device of new tensors."""
        self._note(f"default_device({device!r})")
        torch.set_default_device(None if device == "cpu" else device)

    def _mirrored(self) -> World:
        with plain_defaults():
            return self.ours.mirrored(self.make)

    def _step_once(self) -> None:
        optimizer: Any = self.ours.optimizer
        with plain_defaults():
            before, twin = fresh(optimizer), fresh(optimizer)
            reasons, unclear = must_refuse(optimizer), may_refuse(optimizer)
            wanted = outcome(twin.step)
        error = outcome(optimizer.step)
        self._stepped = error is None
        with plain_defaults():
            self._judge(error, reasons, unclear)
            assert_alike_error(error, wanted)
            assert_alike(optimizer, twin if error is None else before)
            event("stepped" if error is None else "refused")
            if error is None:
                self._compare()
            self.theirs = self.ours.mirrored(self.make)
            self._let_go()

    def _judge(self, error: Exception | None, reasons: list[str], unclear: bool) -> None:
        if not isinstance(error, REFUSALS):
            raise AssertionError(f"refused in other words than ours: {error!r}") from error
        if error is None:
            assert not reasons, f"stepped, and has to refuse for {reasons}"
        elif not reasons:
            assert unclear, f"refused for no reason: {error!r}"
        else:
            known = any(re.search(reason, str(error)) for reason in reasons)
            assert known or unclear, f"refused for {error!r}, and not for any of {reasons}"

    def _compare(self) -> None:
        """Compare with torch's step, where there is one and it does not misunderstand."""
        optimizer: Any = self.ours.optimizer
        plain = all(
            group["state_dtype"] is group["master_dtype"] is None and group["rounding"] == "nearest"
            for group in optimizer.param_groups
        )
        if self.make in CLASSES.values() or not plain or groups_meet(optimizer):
            return
        model = wide(self.theirs.optimizer, optimizer.state_keys)
        raised = outcome(model.step)
        if raised is not None:
            raise AssertionError(f"stepped, and torch raises {raised!r}") from raised
        assert_as_model(optimizer, model)
        event("compared with torch")

    def _let_go(self) -> None:
        """Assert that what the user has no more is nobody's."""
        now = {id(tensor): (name, tensor) for name, tensor in self.ours.tensors()}
        memory = {t.untyped_storage()._cdata: (name, t) for name, t in now.values()}
        for collect in (lambda: None, gc.collect):
            collect()
            alive = [n for i, (n, ref) in self._seen.items() if i not in now and ref() is not None]
            alive += [
                f"memory of {n}"
                for i, (n, ref) in self._memory.items()
                if i not in memory and not ref.expired()
            ]
            if not alive:
                break
        assert not alive, f"still alive, though nobody has them: {alive}"
        self._seen = {i: (name, weakref.ref(tensor)) for i, (name, tensor) in now.items()}
        self._memory = {
            i: (name, StorageWeakRef(t.untyped_storage())) for i, (name, t) in memory.items()
        }

    def teardown(self) -> None:
        """Restore what belongs to the process."""
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
        os.environ.pop("ACCEL_OPS", None)
        if self._was is not None:
            os.environ["ACCEL_OPS"] = self._was


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the machine; raises what it finds."""
    parser = argparse.ArgumentParser(description="A fuzz of users' habits.")
    parser.add_argument("--examples", type=int, default=100)
    parser.add_argument("--steps", type=int, default=14, help="rules in an example, at most")
    parser.add_argument("--seed", type=int, help="another run than the one that is always the same")
    parser.add_argument("--journal", type=Path)
    parser.add_argument("--classes", nargs="+", choices=[*CLASSES], default=[*CLASSES])
    parser.add_argument("--habits", nargs="*", choices=sorted(HABITS), help="these, nothing else")
    parser.add_argument("--rungs", nargs="+", default=["native", "reference"])
    parser.add_argument(
        "--watch", choices=["own", "host"], default="own", help="whose native watch"
    )
    parser.add_argument("--raw", action="store_true", help="show what fails as it was found")
    given = parser.parse_args(arguments)
    faulthandler.enable()
    warnings.simplefilter("ignore")
    for name in ("journal", "classes", "rungs"):
        setattr(Machine, name, getattr(given, name))
    if given.watch == "host":
        # What the kernels of devices have.
        NativeLibrary.watcher = None  # type: ignore[assignment, method-assign]
    if given.habits is not None:
        Machine.habits, Machine.others = given.habits, False
    profile = settings(
        max_examples=given.examples,
        stateful_step_count=given.steps,
        deadline=None,
        database=None,
        derandomize=given.seed is None,
        print_blob=False,
        report_multiple_bugs=False,
        phases=[phase for phase in Phase if not (given.raw and phase is Phase.shrink)],
        suppress_health_check=[*HealthCheck],
    )
    if given.seed is not None:
        randomness.seed(given.seed)
        Machine._hypothesis_internal_use_seed = given.seed
    run_state_machine_as_test(Machine, settings=profile)


if __name__ == "__main__":
    main()
