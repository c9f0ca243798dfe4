"""The cheap part of the rule of words: a noun or an imperative first; if, not where; fix."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
MODULES = sorted([*(ROOT / "accel").rglob("*.py"), *(ROOT / "op_builder").rglob("*.py")])
KERNELS = sorted(path for path in (ROOT / "csrc").rglob("*") if path.is_file())
# A docstring that begins with one of these is a clause without a main verb.
CLAUSES = frozenset({"What", "Who", "Whose", "Where", "Whether", "How", "Which", "When", "Why"})
CROOKED = re.compile(
    r"\b(?:mend(?:s|ed|ing)?|(?:is|are|be) had|(?:is|are) told(?! apart)|tells? of|brings it)\b"
    # A value for a case is given with "if".
    r"|(?:``None``|``\"\"``|\b0|[Ff]alse|[Nn]ull|[Rr]aises `\w+`) where\b"
    # Idioms with a plain word: free, through, are, follow, the other.
    r"|\b(?:let go of|by way of|at hand|gives? (?:its |free )?memory back|lies?|what else|afresh)\b"
    r"|\b(?:none of the functions|other things of the name|when it is not told)\b"
    r"|\b(?:for ever|for want of|askers?|answers for|whoever misses)\b"
    # "Is not a number", "otherwise" at the start of a sentence, "such as" before an example.
    r"|(?<![Tt]here )\b(?:is|are) no (?:int|text|list|link|folder|tensor|number|whole|regular)s?\b"
    r"|(?:^\s*(?:#|//|\*)?\s*|\. )Else,? (?!if\b)[a-z`]|(?<!such )\bas ``(?:\"\d|\(\d)"
    # "Exactly", "only" or "the same" for the adjective.
    r"|\b(?:the|that|these) very (?:one|file|same|library|device|tensor|input)s?\b"
)


def docstrings(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield node.body[0].lineno, text


def offenders() -> Iterator[str]:
    for path in MODULES:
        for number, text in docstrings(path):
            if text.split()[0].strip(",.:;") in CLAUSES:
                yield f"{path.relative_to(ROOT)}:{number}: {text.splitlines()[0]}"
    for path in (*MODULES, *KERNELS):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if CROOKED.search(line):
                yield f"{path.relative_to(ROOT)}:{number}: {line.strip()}"


def test_nobody_has_to_read_a_sentence_twice() -> None:
    found = [*offenders()]
    assert not found, "\n".join(found)
