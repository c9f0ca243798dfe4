"""The local files of a set of sources: contents and includes, without paths."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from accel.jit.disk.safe_io import read_regular, sha256

_DIRECTIVES = (b"include", b"embed", b"define")
_HAS_INCLUDE = rb"""__has_include(?:_next)?[ \t]*\([ \t]*([<"])([^<>"\r\n]+)[>"]"""


class Scan:
    """The local files of a set of sources.

    Attributes:
        contents: SHA-256 by label; a label names a file independently of its installation.
        edges: sorted lines ``"label > spelling > label"``, one for each include.
        paths: where each label was read.
    """

    def __init__(
        self, contents: dict[str, str], edges: tuple[str, ...], paths: dict[str, str]
    ) -> None:
        self.contents = contents
        self.edges = edges
        self.paths = paths


def scan(sources: Sequence[Path], include_dirs: Sequence[Path], root: Path) -> Scan:
    """Read `sources` and, transitively, the local headers that they name.

    A header is searched beside the file that names it and in `include_dirs`; a header that is in
    neither belongs to the system and is left out.

    Args:
        sources: the files to compile.
        include_dirs: folders of local headers, in the compiler's order.
        root: files under it are labelled relative to it, wherever it is installed.

    Raises:
        OSError: a source cannot be read.
    """
    search = _Search(include_dirs, root, sources)
    for source in sources:
        search.visit(str(source.absolute()), source.name)
    search.drain()
    return Scan(search.contents, tuple(sorted(search.edges)), search.paths)


class _Search:
    """Breadth-first search of include lines, which reads each real file once."""

    def __init__(self, include_dirs: Sequence[Path], root: Path, sources: Sequence[Path]) -> None:
        self.include_dirs = [str(folder) for folder in include_dirs]
        parents = [os.path.realpath(source.parent) for source in sources]
        self.roots = [os.path.realpath(root), os.path.commonpath(parents) if parents else ""]
        self.labels: dict[str, str] = {}
        self.visited: dict[str, str] = {}
        self.found: dict[tuple[str | None, str], str | None] = {}
        self.folders: dict[str, str] = {}
        self.contents: dict[str, str] = {}
        self.paths: dict[str, str] = {}
        self.edges: set[str] = set()
        self.pending: list[tuple[str, str, bytes]] = []

    def visit(self, path: str, spelling: str) -> str:
        if path not in self.visited:
            self.visited[path] = self._read(path, spelling)
        return self.visited[path]

    def _read(self, path: str, spelling: str) -> str:
        folder, _, name = path.rpartition("/")
        real = self._real(folder, name)
        if real in self.labels:
            return self.labels[real]
        data = read_regular(path)
        label = self.labels[real] = self._label(real, spelling)
        self.contents[label] = sha256(data)
        self.paths[label] = path
        self.pending.append((label, folder, data))
        return label

    def _real(self, folder: str, name: str) -> str:
        """Return the real path of a file, looking up each folder once."""
        path = f"{folder}/{name}"
        if os.path.islink(path):  # noqa: PTH114
            return os.path.realpath(path)
        if folder not in self.folders:
            self.folders[folder] = os.path.realpath(f"{folder}/")
        return f"{self.folders[folder]}/{name}"

    def drain(self) -> None:
        while self.pending:
            label, folder, data = self.pending.pop(0)
            for quote, raw in _named_in(data):
                spelling = os.fsdecode(raw)
                found = self._find(spelling, folder if quote == b'"' else None)
                if found is not None:
                    self.edges.add(f"{label} > {spelling} > {self.visit(found, spelling)}")

    def _find(self, spelling: str, beside: str | None) -> str | None:
        asked = (beside, spelling)
        if asked not in self.found:
            self.found[asked] = self._search(spelling, beside)
        return self.found[asked]

    def _search(self, spelling: str, beside: str | None) -> str | None:
        folders = self.include_dirs if beside is None else [beside, *self.include_dirs]
        if spelling.startswith("/") or "\0" in spelling:
            return None
        for folder in folders:
            candidate = f"{folder}/{spelling}"
            if os.path.isfile(candidate):  # noqa: PTH113
                return candidate
        return None

    def _label(self, real: str, spelling: str) -> str:
        label = next(
            (real[len(root) + 1 :] for root in self.roots if root and real.startswith(root + "/")),
            spelling,
        )
        unique, number = label, 2
        while unique in self.contents:
            unique, number = f"{label}#{number}", number + 1
        return unique


def _named_in(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield quote and spelling of each file that a source may name; extra ones are harmless.

    Macros that spell a file name count. Splitting takes less time than compiling a pattern.
    """
    at = data.find(b"#") + 1
    while at:
        end = data.find(b"\n", at)
        line = data[at : end if end >= 0 else None].lstrip(b" \t")
        at = data.find(b"#", at) + 1
        if line.startswith(_DIRECTIVES):
            before, quote, after = line.partition(b'"')
            if b"<" in before:
                yield b"<", before.partition(b"<")[2].partition(b">")[0]
            elif quote:
                yield b'"', after.partition(b'"')[0]
    if b"__has_include" in data:
        yield from re.findall(_HAS_INCLUDE, data)
