"""The pytest plugin: a summary of the suites' results for each accelerator after a session."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

_KEY = "accel_accelerator"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Record on each test of a suite the accelerator that it tests."""
    for item in items:
        suite = getattr(item, "cls", None)
        if suite is not None and _is_suite(suite):
            chosen = getattr(suite, "accelerator", None)
            item.user_properties.append((_KEY, getattr(chosen, "__name__", repr(chosen))))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print one line for each accelerator that was tested."""
    found: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for outcome in ("passed", "failed", "skipped", "error"):
        for report in terminalreporter.stats.get(outcome, []):
            properties = dict(getattr(report, "user_properties", ()))
            if _KEY in properties:
                told = "may be declared" in str(report.longrepr) and outcome == "skipped"
                found[properties[_KEY]]["undeclared" if told else outcome] += 1
    if not found:
        return
    terminalreporter.section("accel conformance")
    for name, counts in sorted(found.items()):
        said = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
        terminalreporter.write_line(f"{name}: {said}")


def _is_suite(suite: type) -> bool:
    """Return whether a class is one of accel's suites, without importing them."""
    home = ("accel.testing.kit", "Conformance")
    return any((parent.__module__, parent.__qualname__) == home for parent in suite.__mro__)
