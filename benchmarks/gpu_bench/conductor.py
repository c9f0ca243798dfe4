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
from pathlib import Path
from typing import Any

from .agenda import Item

MARK = "@@ "
"""Begins a line in which a worker tells what it does, in JSON."""

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
        worker = self._start(batch)
        lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=_read, args=(worker, lines), daemon=True).start()
        waiting, done = {item.name: item for item in batch}, set[str]()
        current, since, limit = batch[0], time.perf_counter(), 60.0 + batch[0].seconds
        while waiting:
            patience = min(since + limit, self.deadline) - time.perf_counter()
            try:
                line = lines.get(timeout=max(patience, 0.01))
            except queue.Empty:
                fact = f"stopped after {time.perf_counter() - since:.0f} s"
                self._keep(current, self._unheld(current, fact), keep)
                done.add(current.name)
                break
            if line is None:
                code = worker.wait()
                if code or current.name not in done:
                    fact = f"the process ended with {code}"
                    if current.name not in done:
                        self._keep(current, self._unheld(current, fact), keep)
                        done.add(current.name)
                break
            if not line.startswith(MARK):
                print(line, end="", flush=True)
                continue
            told = json.loads(line[len(MARK) :])
            if told["what"] == "learned":
                self.learned |= told["facts"]
            elif told["what"] == "begin":
                current, since = waiting[told["name"]], time.perf_counter()
                limit = float(current.seconds)
            else:
                item = waiting.pop(told["name"])
                done.add(item.name)
                self._keep(item, told["result"], keep)
        _end(worker, 0 if waiting else 10)
        return done

    def _start(self, batch: list[Item]) -> subprocess.Popen[str]:
        command = [sys.executable, "-u", "-m", "gpu_bench.worker", self.backend]
        command += ["--small"] if self.small else []
        environment = os.environ | {"PYTHONPATH": _path(self.root)}
        if "ACCEL_PREBUILT_DIR" not in environment and (self.root / "prebuilt").is_dir():
            environment["ACCEL_PREBUILT_DIR"] = str(self.root / "prebuilt")
        return subprocess.Popen(
            [*command, *(item.name for item in batch)],
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


def _read(worker: subprocess.Popen[str], lines: queue.Queue[str | None]) -> None:
    assert worker.stdout is not None
    for line in worker.stdout:
        lines.put(line)
    lines.put(None)


def _end(worker: subprocess.Popen[str], patience: float) -> None:
    """End a worker and what it started; one that is done ends by itself."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        worker.wait(timeout=patience)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()
