"""The manifest that is written beside a library when it is built."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Any

from accel.errors import BuildFailed
from accel.jit.cache.artifact import header_mark
from accel.jit.disk.safe_io import read_regular, sha256
from accel.jit.plan import Plan
from accel.jit.recipe import ENGINE

_NEEDS = re.compile(rb"GLIBC_(2(?:\.\d+)+)\0")


def manifest_of(plan: Plan, staging: Path, library: bytes, seconds: float) -> dict[str, Any]:
    """Return the manifest of a library that was just built from `plan` in `staging`.

    Raises:
        BuildFailed: the compiler left no report.
        OSError: its report, or a header that it names, cannot be read.
    """
    recipe = plan.recipe
    return {
        "engine": ENGINE,
        "name": recipe.name,
        "backend": recipe.backend,
        "fit": plan.fit,
        "base": plan.fitted.base,
        "digest": plan.digest,
        "extension": recipe.extension,
        "targets": list(plan.targets),
        "user_flags": list(plan.user_flags),
        "compiler": plan.compiler.label,
        "glibc": needed_glibc(library),
        "size": len(library),
        "sha256": sha256(library),
        "ingredients": plan.ingredients(),
        "headers": _reported_headers(plan, staging),
        "created": int(time.time()),
        "seconds": round(seconds, 3),
    }


def needed_glibc(library: bytes) -> str:
    """Return the newest glibc version whose symbols the library names, ``""`` for none."""
    found = {text.decode() for text in _NEEDS.findall(library)}
    return max(found, key=lambda text: [int(part) for part in text.split(".")], default="")


def _reported_headers(plan: Plan, staging: Path) -> dict[str, list[Any]]:
    """Return the headers, with marks, that the compiler named and the fit does not cover."""
    known = {os.path.realpath(path) for path in plan.fitted.files.values()}
    found: dict[str, list[Any]] = {}
    for command in plan.commands[:-1]:
        rule = _report((staging / command.output).with_suffix(".d"), plan)
        for path in depfile_paths(rule):
            real = os.path.realpath(staging / path)
            if real not in known and real not in found and os.path.exists(real):  # noqa: PTH110
                found[real] = header_mark(Path(real))
    return found


def _report(path: Path, plan: Plan) -> str:
    """Return the rule that the compiler wrote for a step."""
    try:
        return read_regular(path).decode("utf-8", "surrogateescape")
    except FileNotFoundError as error:
        if not path.parent.is_dir():
            raise
        raise BuildFailed(
            f"{plan.recipe.name} ({plan.recipe.backend}): {plan.compiler.label} "
            f"({plan.compiler.command[0]}) exited with 0, but did not list the headers it read "
            f"(-MD): it wrote no {path.name}. Changed headers would go unnoticed."
        ) from error


def depfile_paths(rule: str) -> list[str]:
    """Return the prerequisites of a rule that a compiler wrote with ``-MD``.

    A blank in a name is written with a backslash and the backslashes before it doubled, ``#`` with
    a backslash, ``$`` doubled; lines end in a backslash (munge in GCC's libcpp/mkdeps.cc).
    """
    _, _, rest = rule.replace("\\\n", " ").partition(": ")
    words = re.findall(r"(?:\\[ \t#]|\S)+", rest)
    return [_unquoted(word) for word in words]


def _unquoted(word: str) -> str:
    word = re.sub(r"(\\*)\\([ \t])", lambda found: found[1][::2] + found[2], word)
    return word.replace("\\#", "#").replace("$$", "$")
