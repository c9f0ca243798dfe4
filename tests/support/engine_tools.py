"""A project with one tiny op, compilers that misbehave on demand, and loaders in processes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
LOADER = Path(__file__).with_name("engine_loader.py")
SOURCE = """#include "value.h"
extern "C" __attribute__((visibility("default"))) int value() { return VALUE; }
"""
# Behaves like g++ and counts what it compiles; hangs or waits in a step while a file tells it to.
COMPILER = """#!/bin/sh
step=other
case " $* " in
  *" -c "*) step=compile; echo $$ >> '{state}/compiles' ;;
  *".so "*) step=link ;;
esac
if [ -e '{state}/hang-'$step ]; then echo $$ >> '{state}/hanging'; exec sleep 600; fi
while [ -e '{state}/wait-'$step ]; do sleep 0.02; done
{extra}
exec '{real}' "$@"
"""


class Workshop:
    """One op's sources, a cache and a compiler, all under one folder."""

    def __init__(self, folder: Path, cache: Path) -> None:
        self.folder = folder
        self.cache = cache
        self.state = folder / "state"
        self.include = folder / "include"
        self.source = folder / "op.cpp"
        self.logs: list[Path] = []
        self.loaders: list[subprocess.Popen[str]] = []
        self.environment = {"ACCEL_CACHE_DIR": str(cache)}
        for part in (self.state, self.include / "deep"):
            part.mkdir(parents=True)
        self.source.write_text(SOURCE)
        (self.include / "value.h").write_text('#include "deep/number.h"\n#define VALUE NUMBER\n')
        self.set_value(7)

    def set_value(self, number: int) -> None:
        (self.include / "deep" / "number.h").write_text(f"#define NUMBER {number}\n")

    def use_compiler(self, extra: str = "", name: str = "c++-for-tests") -> Path:
        real = shutil.which("g++") or shutil.which("clang++")
        path = self.folder / name
        path.write_text(COMPILER.format(state=self.state, real=real, extra=extra))
        path.chmod(0o755)
        self.environment["CXX"] = f"'{path}'" if "'" not in str(path) else json.dumps(str(path))
        return path

    def job(self, **options: Any) -> dict[str, Any]:
        return {
            "package": str(REPOSITORY),
            "sources": [str(self.source)],
            "include_dirs": [str(self.include)],
        } | options

    def start(
        self,
        *,
        env: dict[str, str | None] | None = None,
        user: int | None = None,
        python: str = sys.executable,
        **options: Any,
    ) -> subprocess.Popen[str]:
        variables: dict[str, str | None] = {**os.environ, **self.environment, **(env or {})}
        log = self.state / f"log-{len(self.logs)}"
        self.logs.append(log)
        with log.open("w") as stderr:
            command = [python, str(self._loader(user)), json.dumps(self.job(**options))]
            self.loaders.append(self._spawn(command, variables, stderr, user))
        return self.loaders[-1]

    def end(self) -> None:
        """Kill the loaders that a failed test has left waiting."""
        for loader in self.loaders:
            if loader.poll() is None:
                kill(loader)

    def _loader(self, user: int | None) -> Path:
        """The loader's script, where that user can read it."""
        return LOADER if user is None else Path(shutil.copy(LOADER, self.folder))

    def _spawn(
        self, command: list[str], variables: dict[str, str | None], log: Any, user: int | None
    ) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={name: text for name, text in variables.items() if text is not None},
            **({"user": user, "group": user, "extra_groups": []} if user else {}),
        )

    def load(self, **options: Any) -> dict[str, Any]:
        told = finish(self.start(**options))
        return told | {"log": self.logs[-1].read_text()}

    def said(self, text: str) -> int:
        """How many loaders have logged `text` so far."""
        return sum(text in log.read_text() for log in self.logs)

    def compiles(self) -> int:
        try:
            return len((self.state / "compiles").read_text().splitlines())
        except FileNotFoundError:
            return 0

    def hang(self, step: str) -> Path:
        flag = self.state / f"hang-{step}"
        flag.touch()
        return flag

    def hanging(self) -> list[int]:
        try:
            return [int(line) for line in (self.state / "hanging").read_text().split()]
        except FileNotFoundError:
            return []

    def artifacts(self) -> list[Path]:
        return sorted(path for path in self.cache.glob("op-*") if path.is_dir())

    def litter(self) -> list[Path]:
        return sorted((self.cache / ".staging").glob("*"))


def unloadable(folder: Path) -> bytes:
    """Return a whole library that no loader takes: it lacks a function."""
    source, library = folder / "unloadable.c", folder / "unloadable.so"
    source.write_text("int absent(void); int value(void) { return absent(); }\n")
    compiler = shutil.which("gcc") or shutil.which("clang") or "cc"
    subprocess.run([compiler, "-shared", "-fPIC", str(source), "-o", str(library)], check=True)
    return library.read_bytes()


def finish(process: subprocess.Popen[str], seconds: float = 60) -> dict[str, Any]:
    """Wait for a loader and return what it told."""
    try:
        out, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise AssertionError("a loader hangs") from None
    return (json.loads(out) if out else {}) | {"code": process.returncode}


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def until(condition: Callable[[], Any], seconds: float = 20) -> Any:
    """Return the condition's value as soon as it is true; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.01)
    raise AssertionError("it did not happen in time")


def runs(pid: int) -> bool:
    """Whether a process is alive, zombies aside."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def children(pid: int) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if int((folder / "stat").read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(folder.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found
