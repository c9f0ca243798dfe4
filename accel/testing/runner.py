"""Runs the suites without pytest and returns the results, for ``accel conformance``."""

from __future__ import annotations

import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal
from unittest import SkipTest

from accel.base import Accelerator
from accel.probe import FAILURES
from accel.shown import Sheet, Shown
from accel.testing.accelerator import AcceleratorConformance
from accel.testing.kit import Conformance, Undeclared, strategy_class
from accel.testing.ops import OpConformance

Verdict = Literal["passed", "failed", "skipped", "undeclared"]


@dataclass(frozen=True)
class Outcome:
    """The outcome of one test.

    Attributes:
        test: its name.
        verdict: ``"undeclared"`` is a skip that would have passed.
        reason: why it failed or was skipped, ``""`` if it passed.
        detail: the traceback of a failure other than an unmet expectation, else ``""``.
        seconds: how long it took.
    """

    test: str
    verdict: Verdict
    reason: str
    detail: str
    seconds: float


@dataclass(frozen=True)
class Report(Shown):
    """The suites' results for one accelerator.

    Attributes:
        target: the class, as ``"module:Class"``.
        outcomes: one per test, in order.
    """

    target: str
    outcomes: tuple[Outcome, ...]

    @property
    def passed(self) -> bool:
        """True if nothing failed and something passed."""
        counts = self.counts
        return counts["failed"] == 0 and counts["passed"] > 0

    @property
    def counts(self) -> dict[str, int]:
        """The number of tests for each outcome."""
        found = Counter(outcome.verdict for outcome in self.outcomes)
        return {verdict: found[verdict] for verdict in Verdict.__args__}  # type: ignore[attr-defined]

    def sheets(self) -> tuple[Sheet]:
        """Return a row for each test that did not pass; the counts are in the title."""
        counts = ", ".join(f"{count} {verdict}" for verdict, count in self.counts.items() if count)
        title = f"conformance of {self.target}: {'PASS' if self.passed else 'FAIL'}, {counts}"
        rows = [
            (one.test, one.verdict, one.reason) for one in self.outcomes if one.verdict != "passed"
        ]
        return (Sheet(title, ("test", "verdict", "reason"), rows),)

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain data."""
        outcomes = [asdict(outcome) for outcome in self.outcomes]
        return {
            "target": self.target,
            "passed": self.passed,
            "counts": self.counts,
            "outcomes": outcomes,
        }

    def text(self) -> str:
        """Return the report for people: failed and skipped tests with their reasons, and counts."""
        lines = [f"conformance of {self.target}"]
        for verdict in ("failed", "undeclared", "skipped"):
            by_reason: dict[str, list[str]] = {}
            for one in self.outcomes:
                if one.verdict == verdict:
                    by_reason.setdefault(one.reason, []).append(one.test)
            for reason, tests in by_reason.items():
                lines.append(f"{verdict}: {', '.join(tests)}")
                lines += [f"    {row}" for row in reason.splitlines()]
        counts = ", ".join(f"{count} {verdict}" for verdict, count in self.counts.items() if count)
        took = sum(one.seconds for one in self.outcomes)
        lines.append(f"{'PASS' if self.passed else 'FAIL'}: {counts} in {took:.1f} s")
        return "\n".join(lines)


def run(
    accelerator: str | type[Accelerator],
    *,
    tests: Iterable[str] | None = None,
    suites: Iterable[type[Conformance]] = (AcceleratorConformance, OpConformance),
) -> Report:
    """Run the conformance tests on an accelerator.

    Args:
        accelerator: the class, or its name ``"module:Class"``.
        tests: names of the tests to run; ``None`` for all.
        suites: the suites whose tests are run.

    Raises:
        ValueError: the text is not of the form ``"module:Class"``, or a test does not exist.
        ImportError, AttributeError: there is no such module or class.
        TypeError: it is not a subclass of `Accelerator`.
    """
    chosen = strategy_class(accelerator)
    wanted = None if tests is None else set(tests)
    outcomes: list[Outcome] = []
    for suite in suites:
        bound = type(suite.__name__, (suite,), {"accelerator": chosen})
        for name in _tests(bound):
            if wanted is None or name in wanted:
                outcomes.append(_run(bound, name))
    missing = (wanted or set()) - {outcome.test for outcome in outcomes}
    if missing:
        raise ValueError(f"no test is called {', '.join(sorted(missing))}.")
    return Report(f"{chosen.__module__}:{chosen.__qualname__}", tuple(outcomes))


def _tests(suite: type[Conformance]) -> Iterator[str]:
    """Yield the names of a suite's tests in the order of its topics."""
    seen: set[str] = set()
    for parent in suite.__mro__:
        for name in vars(parent):
            if name.startswith("test_") and name not in seen:
                seen.add(name)
                yield name


def _run(suite: type[Conformance], name: str) -> Outcome:
    start = time.perf_counter()

    def end(verdict: Verdict, reason: str = "", detail: str = "") -> Outcome:
        return Outcome(name, verdict, reason, detail, round(time.perf_counter() - start, 4))

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            case = suite()
            case.setup_method()
            try:
                getattr(case, name)()
            finally:
                case.teardown_method()
    except Undeclared as skip:
        return end("undeclared", str(skip))
    except SkipTest as skip:
        return end("skipped", str(skip))
    except AssertionError as failure:
        return end("failed", str(failure), traceback.format_exc() if failure.__cause__ else "")
    except FAILURES as error:
        return end("failed", f"{type(error).__name__}: {error}", traceback.format_exc())
    return end("passed")
