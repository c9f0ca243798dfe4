"""Tests that imports and probes have no side effects, and that forks and threads work."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import threading
from typing import Any
from unittest import SkipTest

from accel.testing.kit import Conformance, expect, expect_equal, on_device

_LIMIT_S = 120


@functools.cache
def _asked(target: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-B", "-m", "accel.testing.subprocess_audit"],
        input=json.dumps({"target": target, "path": sys.path}),
        capture_output=True,
        text=True,
        timeout=_LIMIT_S,
        check=False,
    )


def observed(target: str) -> dict[str, Any]:
    """Return the findings of a fresh process that imports, makes and probes ``module:Class``."""
    done = _asked(target)
    if done.returncode:
        said = done.stderr.strip()
        last = said.rpartition("\n")[2] or "it said nothing."
        raise AssertionError(
            f"{target} ended a fresh process with {done.returncode}: {last}"
        ) from RuntimeError(said)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


class IsolationTests(Conformance):
    """Side effects, forks and threads."""

    def _observed(self) -> dict[str, Any]:
        kind = type(self.acc)
        if "<locals>" in kind.__qualname__ or kind.__module__ == "__main__":
            raise SkipTest(f"{kind.__qualname__} is not importable; define it in a module.")
        return observed(f"{kind.__module__}:{kind.__qualname__}")

    def test_import_is_silent(self) -> None:
        """Importing the backend prints nothing and leaves the environment alone."""
        seen = self._observed()["import"]
        expect_equal(seen["output"], "", "what the import prints")
        expect_equal(seen["environment"], [], "variables that the import changes")

    def test_making_and_probing_change_nothing(self) -> None:
        """They print, write and start nothing, and leave variables and torch's settings alone."""
        seen = self._observed()["probe"]
        for what in ("output", "environment", "settings", "events"):
            expect(not seen[what], f"making and probing it changed {what}: {seen[what]}")

    def test_probing_then_forking(self) -> None:
        """After a probe, a forked child uses the device."""
        outcome = self._observed()["fork"]
        if outcome.startswith("skipped"):
            raise SkipTest(f"{self.acc.name}: {outcome.removeprefix('skipped: ')}.")
        expect_equal(outcome, "ok", "the device in a forked child")

    @on_device
    def test_threads_ask_at_once(self) -> None:
        """Sixteen threads get the same answers."""
        start = threading.Barrier(16)
        answers: list[tuple[Any, ...]] = []

        def ask() -> None:
            start.wait()
            answers.append(
                (
                    bool(self.acc.probe()),
                    self.acc.device_name(0),
                    self.acc.device_count(),
                    self.acc.get_op_builder("FusedAdamBuilder"),
                )
            )

        threads = [threading.Thread(target=ask) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=_LIMIT_S)
        expect_equal(len(answers), 16, "the number of threads that were answered")
        expect_equal(len(set(answers)), 1, "the number of different answers")
