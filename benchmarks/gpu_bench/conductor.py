"""Items in worker processes: one that hangs or crashes ends its process, and the next go on."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .agenda import Item

if TYPE_CHECKING:
    from typing_extensions import Self

MARK = "@@ "
"""Begins a line in which a worker tells what it does, in JSON."""

_START_S = 60
Keep = Callable[[str, str, dict[str, Any]], None]


class Conductor:
    """Plays items until a moment, and keeps what each said.

    Args:
        root: the repository.
        backend: to run on.
        small: whether sizes are those of a rehearsal.
        deadline: when to end, as `time.perf_counter` counts.
    """

    def __init__(self, root: Path, backend: str, small: bool, deadline: float) -> None:
        self.root, self.backend, self.small, self.deadline = root, backend, small, deadline
        self.learned: dict[str, Any] = {}

    def play(self, items: Sequence[Item], keep: Keep) -> None:
        """Run the items in order and hand each one's result to `keep`."""
        pending = list(items)
        while pending:
            if self._left() <= 0:
                for item in pending:
                    self._keep(item, self._unheld(item, "left out: no time was left"), keep)
                return
            batch = _batch(pending)
            done = self._work(batch, keep)
            pending = [item for item in pending if item.name not in done]

    def _left(self) -> float:
        return self.deadline - time.perf_counter()

    def _work(self, batch: list[Item], keep: Keep) -> set[str]:
        """Run a batch in one process; returns the names of the items that are over."""
        with Worker(self._start(batch)) as worker:
            waiting = {item.name: item for item in batch}
            current, limit = batch[0], _START_S + batch[0].seconds
            begun = time.perf_counter()
            while waiting:
                told = worker.told(min(begun + limit, self.deadline))
                if told["what"] == "learned":
                    self.learned |= told["facts"]
                elif told["what"] == "begin":
                    current, begun = waiting[told["name"]], time.perf_counter()
                    limit = current.seconds
                elif told["what"] == "end":
                    self._keep(waiting.pop(told["name"]), told["result"], keep)
                elif current.name in waiting:
                    del waiting[current.name]
                    self._keep(current, self._unheld(current, told["fact"]), keep)
                    break
                else:  # It ended between two items, as a worker does whose device is lost.
                    break
            return {item.name for item in batch} - {*waiting}

    def _start(self, batch: list[Item]) -> subprocess.Popen[str]:
        command = [sys.executable, "-u", "-m", "gpu_bench.worker", self.backend]
        command += ["--small"] if self.small else []
        environment = os.environ | {"PYTHONPATH": _path(self.root)}
        if "ACCEL_PREBUILT_DIR" not in environment and (self.root / "prebuilt").is_dir():
            environment["ACCEL_PREBUILT_DIR"] = str(self.root / "prebuilt")
        return subprocess.Popen(
            [*command, json.dumps([asdict(item) for item in batch])],
            cwd=self.root,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    @staticmethod
    def _unheld(item: Item, fact: str) -> dict[str, Any]:
        return {"held": False, "fact": fact} if item.kind == "check" else {"failed": fact}

    @staticmethod
    def _keep(item: Item, result: dict[str, Any], keep: Keep) -> None:
        keep(item.kind, item.name, result)
        if item.kind == "check":
            verdict = "ok  " if result["held"] else "FAIL"
            print(f"{verdict} {item.name}: {result['fact']} ({result.get('seconds')} s)")
        else:
            print(f"     {item.name}: {json.dumps(result)}")
        sys.stdout.flush()


def _batch(pending: list[Item]) -> list[Item]:
    """Return the items of the next process: one that needs a fresh process is its first."""
    batch = pending[:1]
    for item in pending[1:]:
        if item.fresh:
            break
        batch.append(item)
    return batch


def _path(root: Path) -> str:
    folders = (str(root), str(root / "benchmarks"), os.environ.get("PYTHONPATH"))
    return os.pathsep.join(filter(None, folders))


class Worker:
    """A process that tells what it does.

    Args:
        process: it, with one pipe for all that it says.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Self:
        self._reader.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """End the process and what it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._reader.join()

    def told(self, until: float) -> dict[str, Any]:
        """Return what it tells next, or that it ended or had no time left; prints all else."""
        start = time.perf_counter()
        while True:
            patience = max(until - time.perf_counter(), 0.01)
            try:
                line = self._lines.get(timeout=patience)
            except queue.Empty:
                waited = time.perf_counter() - start
                return {"what": "over", "fact": f"stopped after {waited:.0f} s"}
            if line is None:
                return {"what": "over", "fact": f"the process ended with {self.process.wait()}"}
            if line.startswith(MARK):
                told: dict[str, Any] = json.loads(line[len(MARK) :])
                return told
            print(line, end="", flush=True)

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as stdout:
            for line in stdout:
                self._lines.put(line)
        self._lines.put(None)
