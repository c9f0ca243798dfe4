"""Docstrings as the site shows them: arguments that share a line get one each (for griffe)."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

# "lr, betas: as in `FusedAdam`." and the lines that go on with it.
_LITERAL = re.compile(r"(?<=\w)::$", re.MULTILINE)
_SHARED = re.compile(r"^( +)(\w+(?:, \w+)+):((?: .*)?(?:\n\1 +.*)*)$", re.MULTILINE)


def split(text: str) -> str:
    """Return a docstring with one entry for each argument, and without reST's mark of code."""

    def each(found: re.Match[str]) -> str:
        indent, names, said = found.groups()
        return "\n".join(f"{indent}{name}:{said}" for name in names.split(", "))

    return _SHARED.sub(each, _LITERAL.sub(":", text).replace("\n::\n", "\n"))


class OneEach(Extension):
    """Splits the docstrings of everything that is loaded."""

    def on_instance(self, *, obj: Object, **_: Any) -> None:
        """Change an object's docstring before it is parsed."""
        if obj.docstring is not None:
            obj.docstring.value = split(obj.docstring.value)
