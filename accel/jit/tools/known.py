"""Answers of compilers, remembered in this process and across processes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from accel import environment
from accel.errors import CacheUntrusted
from accel.jit.disk import location
from accel.jit.disk.lock import gate
from accel.jit.disk.safe_io import read_regular, sha256, write_atomic
from accel.jit.tools.compiler import Compiler, Identified
from accel.jit.tools.programs import program_of, stamp
from accel.probe import Rejected

# A new number makes every process ask again.
_QUESTIONS = 2
_known: dict[str, Compiler | Rejected] = {}


def facts_of(
    command: tuple[str, ...], identify: Callable[[tuple[str, ...]], Identified | Rejected]
) -> Compiler | Rejected:
    """Return the facts about a tool, asking it if none are known.

    A plain compiler's answer depends on its own file and is kept for other processes. A script's
    or launcher's may depend on the whole environment and on unknown files, so it is kept for
    this process only, as are failures.
    """
    key = _key(command)
    found: Compiler | Rejected | None = _known.get(key) or _kept(command, key)
    if found is not None:
        return found
    wide = sha256(
        f"{key} {_current_folder()} {environment.for_compiler()}".encode("utf-8", "surrogateescape")
    )
    with gate(f"tool {wide}"):
        found = _known.get(wide, _known.get(key))
        if found is not None:
            return found
        answer = identify(command)
        if isinstance(answer, Rejected):
            _known[wide] = answer
            return answer
        if answer.plain:
            _keep(key, answer.compiler, answer.parts)
        _known[key if answer.plain else wide] = answer.compiler
        return answer.compiler


def _current_folder() -> str:
    try:
        return str(Path.cwd())
    except OSError:
        return ""


def _kept(command: Sequence[str], key: str) -> Compiler | None:
    """Return the facts that another process kept, if nothing changed since."""
    for root in _roots():
        found = _read(root / ".toolchains" / f"{key}.json", command)
        if found is not None:
            _known[key] = found
            return found
    return None


def _keep(key: str, compiler: Compiler, parts: Sequence[str]) -> None:
    """Keep the facts for later processes, until the command or one of `parts` changes on disk."""
    facts = compiler.as_dict() | {"parts": {part: stamp(part) for part in parts}}
    try:
        folder = location.prepare() / ".toolchains"
        write_atomic(folder / f"{key}.json", json.dumps(facts).encode())
    except (OSError, CacheUntrusted):
        return  # Only speed is lost: the next process asks the compiler again.


def _roots() -> tuple[Path, ...]:
    try:
        return location.locate().readable
    except CacheUntrusted:
        return ()


def _key(command: Sequence[str]) -> str:
    words = [stamp(path) for word in command if (path := program_of(word))]
    variables = environment.compiler_variables() | environment.loader_variables()
    name = os.path.basename(command[0])  # noqa: PTH119
    facts = [_QUESTIONS, name, list(command[1:]), words, variables]
    return sha256(json.dumps(facts).encode())[:32]


def _read(path: Path, command: Sequence[str]) -> Compiler | None:
    try:
        if not location.ours(path.stat()):
            return None
        facts = json.loads(read_regular(path, limit=1 << 20, follow=False))
        parts = facts.pop("parts")
        if any(stamp(part) != mark for part, mark in parts.items()):
            return None
        if set(facts) != set(Compiler.fields):
            return None
        facts["command"] = tuple(command)
        found = Compiler(**facts)
    except (OSError, ValueError, TypeError, AttributeError, KeyError, RecursionError):
        return None
    texts = (found.kind, found.version, found.machine, found.identity, found.root)
    sound = isinstance(found.openmp, bool) and all(isinstance(text, str) for text in texts)
    return found if sound else None
