"""The first error in the output of compilers, linkers and ninja."""

from __future__ import annotations

import re
from collections.abc import Iterator

# Colours, cursor movements and hyperlinks.
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\^_])")
# `error` in the languages of tools that ignore the request for English.
_WORD = r"(?:error|errors?|Fehler|erreur|errore|erro|错误|錯誤|エラー|ошибка|오류)"
_SEVERE = r"(?:(?:fatal|catastrophic|internal compiler|internal|schwerwiegender|interner) )?"
_ERRORS = (
    # `who: error: what` of GCC, Clang, gold, lld, mold and ninja; `file(1): error` of cudafe++.
    rf"(?:^|:|\))\s*{_SEVERE}{_WORD}\s?(?:#?[\w-]+)?\s?:",
    r"^(?:nvcc|ptxas|nvlink|fatbinary|cudafe\+\+|cicc)\b.*\b(?:fatal|error)\s*:",
    r"\bfatal:|\bfatal error\b|\binternal compiler error\b|^Error:|: Error:|: FATAL",
    # GNU ld says no `error`.
    r": undefined reference to |: multiple definition of |: relocation .* (?:can ?not|against) "
    r"|: cannot find |: undefined symbol|: hidden symbol .* (?:is referenced|isn't defined)"
    r"|: duplicate symbol|: file (?:format )?not recogni[sz]ed|: version node not found"
    r"|: dangerous relocation|: unresolvable |: cannot open |: can't open |: DSO missing"
    r"|: undefinierter Verweis auf|: Mehrfachdefinition von|: référence indéfinie vers"
    r"|: définitions multiples de",
    # Causes from outside that end a tool.
    r"terminated program|virtual memory exhausted|[Oo]ut of memory|cannot allocate memory"
    r"|No space left|error while loading shared libraries|: not found$|Permission denied"
    r"|Segmentation fault|^Killed$|bad_alloc",
)
_ERROR = re.compile("|".join(_ERRORS), re.IGNORECASE)
_NO_ERROR = re.compile(
    r"\b(?:warning|note|remark|info|Warnung|Anmerkung|avertissement|attention)\s?(?:#?[\w-]+)?\s?:"
    r"|skipping incompatible|^\s*(?:[|>]|\d+ \|)",
    re.IGNORECASE,
)
# Lines that only count or repeat earlier ones.
_SUMMARY = re.compile(
    r"ld returned \d+ exit status|ld gab \d+ als Ende-Status|linker command failed"
    r"|ninja: build stopped|compilation terminated|final link failed|\b\d+ errors? (?:generated|"
    r"detected)|subcommand failed|lto-wrapper failed|returned \d+ exit status"
    r"|all warnings being treated as errors",
    re.IGNORECASE,
)


def plain(output: str) -> str:
    """Return a tool's output without colours, hyperlinks and other escapes."""
    return _ESCAPES.sub("", output).replace("\r\n", "\n")


def first_error(output: str) -> str:
    """Return the first error line of any tool, without escapes, or ``""``.

    Without an error line it is a summary line, else the first line.
    """
    lines = [line.strip() for line in plain(output).splitlines() if line.strip()]
    for found in (_errors(lines), _summaries(lines), iter(lines)):
        for line in found:
            return line
    return ""


def _errors(lines: list[str]) -> Iterator[str]:
    return (
        line
        for line in lines
        if _ERROR.search(line) and not _SUMMARY.search(line) and not _is_aside(line)
    )


def _is_aside(line: str) -> bool:
    """Return whether the line warns or explains; an error may hold such words further on."""
    aside, error = _NO_ERROR.search(line), _ERROR.search(line)
    return aside is not None and (error is None or aside.start() <= error.start())


def _summaries(lines: list[str]) -> Iterator[str]:
    return (line for line in lines if _SUMMARY.search(line))
