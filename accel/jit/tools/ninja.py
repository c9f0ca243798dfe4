"""A build's steps and the text of their `build.ninja`, safe for any character in a path."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple


class Command(NamedTuple):
    """One step of a build, run in the staging folder.

    Attributes:
        output: name of the file that it makes there.
        argv: the command's words.
        source: the file that is compiled, or ``None`` for the linking step.
    """

    output: str
    argv: tuple[str, ...]
    source: Path | None


def ninja_file(commands: Sequence[Command]) -> str:
    """Return the file: every step in its own statement, the last one after all others.

    Each step leaves ``OUTPUT.start`` when it begins, its messages in ``OUTPUT.log`` and its exit
    status in ``OUTPUT.code``, all in the folder where ninja runs.
    """
    lines = ["ninja_required_version = 1.5", "rule step", "  command = $step"]
    *compiles, link = commands
    for command in compiles:
        lines += [f"build {command.output}: step", f"  step = {_shell(command)}"]
    needed = " ".join(command.output for command in compiles)
    lines += [f"build {link.output}: step {needed}", f"  step = {_shell(link)}"]
    return "\n".join([*lines, f"default {link.output}", ""])


def shell_text(argv: Sequence[str]) -> str:
    """Return a command as a shell would be given it."""
    return shlex.join(argv)


def _shell(command: Command) -> str:
    name = command.output
    text = (
        f": > {name}.start; {shell_text(command.argv)} > {name}.log 2>&1; "
        f"code=$?; echo $code > {name}.code; exit $code"
    )
    return text.replace("$", "$$")
