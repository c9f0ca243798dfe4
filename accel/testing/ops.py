"""`OpConformance`: every op of an accelerator against float64; one line repeats a failure."""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from typing import Any, ClassVar
from unittest import SkipTest

import torch
from torch import Tensor

from accel.base import Accelerator
from accel.builders.convention import ON_FILES
from accel.builders.lookup import builder_names
from accel.current import use_accelerator
from accel.targets import resolve
from accel.testing.kit import (
    Conformance,
    expect,
    expect_equal,
    expect_type,
    on_device,
    strategy_class,
)
from accel.testing.spec import Case, Lists, OpSpec, dtype_of, laid_out
from accel.testing.specs import SPECS

_RUNGS = ("prebuilt", "jit", "portable", "vendor", "reference")
_SHOWN = 5


class OpConformance(Conformance):
    """The ops that an accelerator's builders give, each against its `OpSpec`.

    ::

        class TestMyOps(OpConformance):
            accelerator = Mine

    An op of one's own names its spec in its class: ``conformance = "my_pkg.specs:MyOpSpec"``.

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
        """So is the reference on this device."""
        self._check_cases(reference=True)

    @on_device
    def test_inputs_are_left_alone(self) -> None:
        """Lists that a call does not write keep every bit."""
        self._for_each_case(_inputs_left_alone)

    @on_device
    def test_results_repeat(self) -> None:
        """The same call gives the same bits."""
        self._for_each_case(_results_repeat)

    @on_device
    def test_layouts_are_right_or_refused(self) -> None:
        """Strided and transposed tensors give the same results, or an error and no change."""
        for layout in ("transposed", "strided"):
            self._for_each_case(_right_or_refused, layout=layout)

    @on_device
    def test_bad_calls_are_refused(self) -> None:
        """They raise an error that names the argument, and write nothing."""
        wrong: list[str] = []
        for spec in self._specs():
            op = self._load(spec)
            for bad in spec.bad():
                case = dict(next(iter(spec.cases())))
                tensors = _on_device(spec, case, self.acc)
                bad.change(case, tensors)
                before = _copies(tensors)
                try:
                    spec.call(op, case, tensors)
                    wrong.append(f"{spec.op}: {bad.what} is accepted.")
                except (TypeError, ValueError) as error:
                    if bad.argument not in str(error):
                        wrong.append(f"{spec.op}: {bad.what}: {error} names no {bad.argument}.")
                if not _same(before, tensors, [*before]):
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
            raise SkipTest(f"{self.acc.name}: no op that is asked for has a spec.")

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
    """Run one case again, as the line under a failure says; raises `AssertionError` if it fails.

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
        ImportError, AttributeError: the op's class names a spec that is not there.
        TypeError: it is no `OpSpec`.
    """
    if not builder.op:
        return None
    kind = resolve(builder.op)
    target = getattr(kind, "conformance", "") or SPECS.get(builder.NAME)
    if not target:
        return _declared(builder.NAME, kind)
    found = resolve(target)()
    if not isinstance(found, OpSpec):
        raise TypeError(f"{target}, the spec of {builder.NAME}, is no OpSpec.")
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


def problem_of(spec: OpSpec, op: Any, case: Case, acc: Accelerator) -> str:
    """Run a case and return what is wrong with its results, ``""`` for nothing."""
    tensors = _on_device(spec, case, acc)
    given = {name: [one.cpu().double() for one in listed] for name, listed in tensors.items()}
    exact = spec.expected(case, {name: _clones(listed) for name, listed in given.items()})
    spec.call(op, case, tensors)
    acc.synchronize()
    for name in spec.written:
        for at, (found, wanted) in enumerate(zip(tensors[name], exact[name], strict=True)):
            problem = _distance(found, wanted, spec.scale(case, given, exact, name, at), spec.slack)
            if problem:
                return f"{spec.op}: {name}[{at}] {problem}"
    return ""


def _distance(found: Tensor, wanted: Tensor, scale: Tensor, slack: float) -> str:
    """Return how far `found` is from `wanted` if that is more than `slack` roundings."""
    if found.shape != wanted.shape:
        return f"has the shape {tuple(found.shape)}, expected {tuple(wanted.shape)}."
    values = found.cpu().double()
    if not found.is_floating_point():
        bound = slack * scale
        wrong = (values - wanted).abs() > bound
        return _told(values, wanted, bound, wrong)
    info = torch.finfo(found.dtype)
    # Beyond the dtype's range the right answer is infinity, and near it either.
    wanted = torch.where(wanted.abs() > info.max, wanted.sign() * torch.inf, wanted)
    same = (values == wanted) | (values.isnan() & wanted.isnan())
    bound = slack * info.eps * scale + info.smallest_normal * info.eps * slack + info.tiny
    return _told(values, wanted, bound, ~(same | ((values - wanted).abs() <= bound)))


def _told(values: Tensor, wanted: Tensor, bound: Tensor, wrong: Tensor) -> str:
    if not bool(wrong.any()):
        return ""
    first = tuple(int(part) for part in wrong.nonzero()[0])
    value, exact, most = (float(one[first]) for one in (values, wanted, bound))
    return f"at {first} is {value!r}, exactly {exact!r}: off by more than {most:.3g}."


def _on_device(spec: OpSpec, case: Case, acc: Accelerator) -> Lists:
    generator = torch.Generator().manual_seed(int(case.get("seed", 0)))
    device = torch.device("cpu") if spec.on_host else acc.device()
    layout = case.get("layout", "contiguous")
    return {
        name: [laid_out(one.to(device, dtype_of(case, name)), layout) for one in listed]
        for name, listed in spec.given(case, generator).items()
    }


def _inputs_left_alone(spec: OpSpec, op: Any, case: Case, acc: Accelerator) -> str:
    tensors = _on_device(spec, case, acc)
    before = _copies(tensors)
    spec.call(op, case, tensors)
    acc.synchronize()
    kept = [name for name in tensors if name not in spec.written]
    return "" if _same(before, tensors, kept) else f"{spec.op} changed one of {kept}."


def _results_repeat(spec: OpSpec, op: Any, case: Case, acc: Accelerator) -> str:
    first, second = (_on_device(spec, case, acc) for _ in range(2))
    for tensors in (first, second):
        spec.call(op, case, tensors)
    acc.synchronize()
    return "" if _same(first, second, spec.written) else f"{spec.op} gives other bits twice."


def _right_or_refused(spec: OpSpec, op: Any, case: Case, acc: Accelerator) -> str:
    tensors = _on_device(spec, case, acc)
    before = _copies(tensors)
    try:
        spec.call(copy(op), case, tensors)
    except (TypeError, ValueError):
        same = _same(before, tensors, [*before])
        return "" if same else f"{spec.op} refused a layout after something was written."
    return problem_of(spec, op, case, acc)


def _clones(tensors: list[Tensor]) -> list[Tensor]:
    return [tensor.clone() for tensor in tensors]


def _copies(tensors: Lists) -> Lists:
    return {name: _clones(listed) for name, listed in tensors.items()}


def _same(left: Lists, right: Lists, names: Any) -> bool:
    """Return whether lists hold the same bits; a NaN equals itself."""
    return all(
        torch.equal(one.nan_to_num(), two.nan_to_num()) and torch.equal(one.isnan(), two.isnan())
        for name in names
        for one, two in zip(left[name], right[name], strict=True)
    )


def _expect_none(wrong: list[str]) -> None:
    more = f"\n... and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
    expect_equal(len(wrong), 0, "\n".join(wrong[:_SHOWN]) + more + "\nthe number of failures")
