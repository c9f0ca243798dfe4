"""An audit of a fresh process while a backend is imported, made and probed; run by the suite.

Reads ``{"target": "module:Class", "path": [...]}`` from standard input and writes the findings to
standard output, both as JSON.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import IO, Any

from accel.targets import resolve

_FORK_LIMIT_S = 30.0
_STARTS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class _Watch:
    """An audit hook that records events that start processes, write files or open connections."""

    def __init__(self) -> None:
        self.on = False
        self.events: list[str] = []
        sys.addaudithook(self._hear)

    def _hear(self, event: str, args: tuple[Any, ...]) -> None:
        if not self.on:
            return
        wrote = (
            event == "open"
            and isinstance(args[2], int)
            and bool(args[2] & _WRITES)
            and str(args[0]) != os.devnull
        )
        if wrote or event in _STARTS or event in {"socket.connect", "os.putenv", "os.mkdir"}:
            self.events.append(f"{event} {args[0]!r}"[:200])


@contextmanager
def _heard(file: IO[bytes]) -> Iterator[None]:
    """Redirect output, including that of C code, to `file`."""
    kept = [(descriptor, os.dup(descriptor)) for descriptor in (1, 2)]
    sys.stdout.flush()
    for descriptor, _ in kept:
        os.dup2(file.fileno(), descriptor)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for descriptor, copy in kept:
            os.dup2(copy, descriptor)
            os.close(copy)


def _settings() -> dict[str, Any]:
    """Return the process-wide settings of torch that a backend must leave alone."""
    import torch

    deterministic: Any = import_module("torch.utils.deterministic")
    return {
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "fill uninitialized memory": deterministic.fill_uninitialized_memory,
        "default dtype": str(torch.get_default_dtype()),
        "default device": str(torch.get_default_device()),
        "threads": torch.get_num_threads(),
        "gradients": torch.is_grad_enabled(),
        "matmul precision": torch.get_float32_matmul_precision(),
        "working directory": os.getcwd(),  # noqa: PTH109 - the same thing the backend would change
    }


def _changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    names = sorted({*before, *after})
    return [name for name in names if before.get(name) != after.get(name)]


def _use_in_child(accelerator: Any) -> str:
    """Fork, use the device in the child, and return the outcome."""
    if not hasattr(os, "fork"):
        return "skipped: this system has no fork"
    if not accelerator.probe():
        return "skipped: the device cannot be used here"
    child = os.fork()
    if child == 0:
        _child(accelerator)
    end = time.monotonic() + _FORK_LIMIT_S
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            return "ok" if code == 0 else f"the child ended with {code}"
        time.sleep(0.02)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return f"the child hung for {_FORK_LIMIT_S} s"


def _child(accelerator: Any) -> None:
    """Probe and use the device, and exit without the parent's clean-up."""
    import torch

    code = 1
    try:
        usable = bool(accelerator.probe())
        total = torch.ones(8, dtype=torch.float32, device=accelerator.device()).sum().item()
        code = 0 if usable and total == 8 else 2
    finally:
        os._exit(code)


def _look(target: str) -> dict[str, Any]:
    watch = _Watch()
    environment = dict(os.environ)
    with tempfile.TemporaryFile() as printed:
        with _heard(printed):
            backend: Any = resolve(target)
        printed.seek(0)
        imported = {
            "output": printed.read().decode(errors="replace"),
            "environment": _changed(environment, dict(os.environ)),
        }
    settings, environment = _settings(), dict(os.environ)
    with tempfile.TemporaryFile() as printed:
        watch.on = True
        with _heard(printed):
            accelerator = backend()
            accelerator.probe()
            accelerator.is_available()
            accelerator.device_name()
        watch.on = False
        printed.seek(0)
        probed = {
            "output": printed.read().decode(errors="replace"),
            "environment": _changed(environment, dict(os.environ)),
            "settings": _changed(settings, _settings()),
            "events": watch.events,
        }
    return {"import": imported, "probe": probed, "fork": _use_in_child(accelerator)}


def main() -> None:
    """Audit the target on standard input."""
    question = json.load(sys.stdin)
    sys.path[:] = question["path"]
    answer = _look(question["target"])
    sys.stdout.write(json.dumps(answer))
    sys.stdout.flush()


if __name__ == "__main__":
    main()
