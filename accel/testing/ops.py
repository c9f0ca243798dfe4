"""`OpConformance`: tests every op of an accelerator against float64; one line repeats a failure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar
from unittest import SkipTest

from accel.base import Accelerator
from accel.builders.convention import ON_FILES
from accel.builders.lookup import builder_names
from accel.current import use_accelerator
from accel.targets import resolve
from accel.testing.judging import (
    copies,
    inputs_left_alone,
    on_device_of,
    problem_of,
    results_repeat,
    right_or_refused,
    same_bits,
)
from accel.testing.kit import (
    Conformance,
    expect,
    expect_equal,
    expect_type,
    on_device,
    strategy_class,
)
from accel.testing.spec import Case, OpSpec
from accel.testing.specs import SPECS

_RUNGS = ("prebuilt", "jit", "portable", "vendor", "reference")
_SHOWN = 5


class OpConformance(Conformance):
    """Tests of the ops of an accelerator's builders, each against its `OpSpec`.

    ::

        class TestMyOps(OpConformance):
            accelerator = Mine

    Name the spec of your own op in its class: ``conformance = "my_pkg.specs:MyOpSpec"``.

    Attributes:
        ops: names of the ops to test. Default: all that have a spec.
    """

    ops: ClassVar[tuple[str, ...]] = ()

    @on_device
    def test_call_surface(self) -> None:
        """A loaded op has the functions that it names, and says where it came from."""
        for spec in self._specs():
            op = self._load(spec)
            missing = [one for one in op.functions if not callable(getattr(op, one, None))]
            expect(op.functions and not missing, f"{spec.op} lacks the functions {missing}.")
            expect(op.implementation in _RUNGS, f"{spec.op}: rung {op.implementation!r}.")
            native = op.implementation in {"prebuilt", "jit"}
            expect_type(op.digest, str if native else (str, type(None)), f"{spec.op}'s digest")

    @on_device
    def test_every_op_has_a_spec(self) -> None:
        """The specs that ops name exist; ops without one are reported and not tested."""
        bare = [
            builder.NAME
            for builder in self._builders()
            if spec_of(builder) is None and not builder.op.startswith(ON_FILES)
        ]
        if bare:
            raise SkipTest(f"not tested, since they have no spec: {', '.join(sorted(bare))}.")

    @on_device
    def test_results(self) -> None:
        """Every case is as close to float64 as the dtype of its results allows."""
        self._check_cases(reference=False)

    @on_device
    def test_results_of_the_reference(self) -> None:
        """Every case of the reference on this device is as close to float64."""
        self._check_cases(reference=True)

    @on_device
    def test_inputs_are_left_alone(self) -> None:
        """Lists that a call does not write keep every bit."""
        self._for_each_case(inputs_left_alone)

    @on_device
    def test_results_repeat(self) -> None:
        """The same call gives the same bits."""
        self._for_each_case(results_repeat)

    @on_device
    def test_layouts_are_right_or_refused(self) -> None:
        """Strided and transposed tensors give the same results, or an error and no change."""
        for layout in ("transposed", "strided"):
            self._for_each_case(right_or_refused, layout=layout)

    @on_device
    def test_bad_calls_are_refused(self) -> None:
        """They raise an error that names the argument, and write nothing."""
        wrong: list[str] = []
        for spec in self._specs():
            op = self._load(spec)
            for bad in spec.bad():
                case = dict(next(iter(spec.cases())))
                tensors = on_device_of(spec, case, self.acc)
                bad.change(case, tensors)
                before = copies(tensors)
                try:
                    spec.call(op, case, tensors)
                    wrong.append(f"{spec.op}: {bad.what} is accepted.")
                except (TypeError, ValueError) as error:
                    if bad.argument not in str(error):
                        wrong.append(f"{spec.op}: {bad.what}: {error} names no {bad.argument}.")
                if not same_bits(before, tensors, [*before]):
                    wrong.append(f"{spec.op}: {bad.what} was refused after something was written.")
        expect(not wrong, "\n".join(wrong))

    def _builders(self) -> Iterator[Any]:
        for name in builder_names(*filter(None, [self.acc.op_builder_dir()])):
            builder: Any = self.acc.get_op_builder(name)
            if builder.op and (not self.ops or builder.NAME in self.ops):
                yield builder

    def _specs(self) -> Iterator[OpSpec]:
        found = False
        for builder in self._builders():
            spec = spec_of(builder)
            if spec is not None:
                found = True
                yield spec
        if not found:
            raise SkipTest(f"{self.acc.name}: none of the requested ops has a spec.")

    def _load(self, spec: OpSpec, *, reference: bool = False) -> Any:
        builder = self.acc.get_op_builder(spec.op)
        if not reference:
            return builder().load()
        return resolve(builder.op)(None, backend=self.acc.name)

    def _check_cases(self, *, reference: bool) -> None:
        wrong: list[str] = []
        for spec in self._specs():
            op = self._load(spec, reference=reference)
            for case in spec.cases():
                problem = problem_of(spec, op, case, self.acc)
                if problem:
                    wrong.append(f"{problem}\n  {line(self.acc, spec, case, reference=reference)}")
        _expect_none(wrong)

    def _for_each_case(self, check: Any, **changes: Any) -> None:
        wrong: list[str] = []
        for spec in self._specs():
            op = self._load(spec)
            for case in spec.cases():
                changed = {**case, **changes}
                problem = check(spec, op, changed, self.acc)
                if problem:
                    wrong.append(f"{problem}\n  {line(self.acc, spec, changed)}")
        _expect_none(wrong)


def replay(
    accelerator: str | type[Accelerator], op: str, case: Case, *, reference: bool = False
) -> None:
    """Run one case again, as in the line under a failure; raises `AssertionError` if it fails.

    Args:
        accelerator: the class, or ``"module:Class"``.
        op: the op's name.
        case: the case.
        reference: whether to run the reference instead of the best rung.
    """
    acc = strategy_class(accelerator)()
    builder = acc.get_op_builder(op)
    spec = spec_of(builder)
    expect(spec is not None, f"{op} has no spec.")
    with use_accelerator(acc):
        loaded = resolve(builder.op)(None, backend=acc.name) if reference else builder().load()
        problem = problem_of(spec, loaded, case, acc) if spec is not None else ""
    expect(not problem, problem)


def spec_of(builder: Any) -> OpSpec | None:
    """Return the spec of a builder's op: named by the op's class, or built in, or ``None``.

    Raises:
        ImportError, AttributeError: the op's class names a spec that does not exist.
        TypeError: it is not an `OpSpec`.
    """
    if not builder.op:
        return None
    kind = resolve(builder.op)
    target = getattr(kind, "conformance", "") or SPECS.get(builder.NAME)
    if not target:
        return _declared(builder.NAME, kind)
    found = resolve(target)()
    if not isinstance(found, OpSpec):
        raise TypeError(f"{target}, the spec of {builder.NAME}, is not an OpSpec.")
    return found


def _declared(name: str, kind: Any) -> OpSpec | None:
    """Return the spec that follows from a declaration, if any case does."""
    from accel.ops.frame.declaration import DeclaredOp, OpSet
    from accel.testing.specs.declared import DeclaredSpec

    if not (isinstance(kind, type) and issubclass(kind, DeclaredOp | OpSet)):
        return None
    spec = DeclaredSpec(name, kind)
    return spec if spec.kinds else None


def line(acc: Accelerator, spec: OpSpec, case: Case, *, reference: bool = False) -> str:
    """Return the one line of Python that repeats a case."""
    kind = type(acc)
    last = ", reference=True" if reference else ""
    return (
        f"from accel.testing import replay; "
        f"replay('{kind.__module__}:{kind.__qualname__}', {spec.op!r}, {dict(case)!r}{last})"
    )


def _expect_none(wrong: list[str]) -> None:
    more = f"\n... and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
    expect_equal(len(wrong), 0, "\n".join(wrong[:_SHOWN]) + more + "\nthe number of failures")
