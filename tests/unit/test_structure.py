"""Rules of the code base that a reader relies on, held by reading the sources."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted([*(ROOT / "accel").rglob("*.py"), *(ROOT / "op_builder").rglob("*.py")])
LAYERS = (
    ("value", "errors", "probe", "environment", "torch_build"),
    ("jit",),
    ("ops",),
    ("builders",),
    ("contract", "base", "host", "host_graph", "host_memory"),
    ("cpu", "cuda", "xpu", "hpu", "vendors"),
    ("misnamed", "registry"),
    ("current",),
    ("optim", "report", "testing", "deepspeed"),
    ("cli", "cli_engine", "__main__"),
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
MODULE_LINES = 320
FUNCTION_LINES = 42
# A kernel is one formula, which reads worse in pieces.
LONGER = {"adam_kernel": 60}


def ids(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def level_of(module: str) -> int | None:
    parts = module.split(".")
    if parts[0] != "accel" or len(parts) < 2:
        return None
    return LEVEL.get(parts[1])


@pytest.mark.parametrize("path", SOURCES, ids=ids)
def test_imports_point_one_way(path: Path) -> None:
    tree = ast.parse(path.read_text())
    relative = path.relative_to(ROOT).with_suffix("").parts
    if relative[0] == "op_builder" or relative == ("accel", "__init__"):
        return
    assert relative[1] in LEVEL, f"give accel.{relative[1]} a place in LAYERS"
    own = LEVEL[relative[1]]
    for module in imported(tree):
        assert not module.startswith("op_builder"), f"{ids(path)} imports {module}"
        level = level_of(module)
        assert level is None or level <= own, f"{ids(path)} imports {module}, which is above it"


@pytest.mark.parametrize("path", SOURCES, ids=ids)
def test_modules_and_functions_stay_small(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= MODULE_LINES, f"{ids(path)} has {text.count(chr(10))} lines"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = [
                line
                for line in text.splitlines()[node.body[0].lineno - 1 : node.end_lineno]
                if line.strip()
            ]
            docstring = ast.get_docstring(node, clean=False)
            code = len(body) - (
                len([*filter(str.strip, docstring.splitlines())]) if docstring else 0
            )
            allowed = LONGER.get(node.name, FUNCTION_LINES)
            assert code <= allowed, f"{ids(path)}:{node.lineno} {node.name}: {code} lines"


@pytest.mark.parametrize("path", SOURCES, ids=ids)
def test_the_environment_is_read_in_one_place_and_never_written(path: Path) -> None:
    tree = ast.parse(path.read_text())
    reads = [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv", "putenv"}
    ]
    # The conformance kit looks at the whole environment to tell who changes it.
    if path.name != "environment.py" and "testing" not in path.parts:
        assert not reads, f"{ids(path)}:{reads}: read variables in accel/environment.py"
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del):
            target = ast.unparse(node.value)
            assert "environ" not in target, f"{ids(path)}:{node.lineno} writes the environment"


@pytest.mark.parametrize("path", SOURCES, ids=ids)
def test_no_shell_is_ever_given_a_string(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in {"os.system", "os.popen"}, f"{ids(path)}:{node.lineno}"
            for keyword in node.keywords:
                literal = isinstance(keyword.value, ast.Constant) and keyword.value.value is True
                assert not (keyword.arg == "shell" and literal), f"{ids(path)}:{node.lineno}"


def test_kernels_know_neither_torch_nor_python() -> None:
    sources = [
        path
        for path in (ROOT / "csrc").rglob("*")
        if path.suffix in {".h", ".cpp", ".cu", ".cuh", ".inl"}
    ]
    assert sources
    for path in sources:
        for line in path.read_text().splitlines():
            if line.lstrip().startswith("#include"):
                assert not any(word in line for word in ("torch", "ATen", "c10", "Python.h")), (
                    f"{ids(path)}: {line}"
                )
