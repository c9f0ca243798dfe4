"""Rules of the code base that a reader relies on, held by reading the sources."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = sorted([*(ROOT / "accel").rglob("*.py"), *(ROOT / "op_builder").rglob("*.py")])
# From the lowest up: a module imports its own line and those above it. The longest name counts.
LAYERS = (
    ("errors", "record", "probe", "environment", "targets", "torch_build"),
    ("shown",),
    ("host", "nvidia"),
    ("jit.disk",),
    ("jit.headers", "jit.recipe"),
    ("jit.tools",),
    ("jit.plan",),
    ("jit.cache", "jit.library", "jit.source_changes"),
    ("jit.build",),
    ("jit", "jit.loading", "jit.explain"),
    ("ops",),
    ("ops.frame",),
    ("ops.io", "ops.lists", "ops.optimizers", "ops.quantizers", "ops.tokens", "ops.utils"),
    ("builders",),
    ("contract", "base"),
    ("cpu", "cuda", "xpu", "hpu", "vendors"),
    ("misnamed", "registry"),
    ("current", "verdicts"),
    ("optim", "testing", "integrations"),
    ("bench",),
    ("cli", "__main__"),
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
MODULE_LINES = 300
FUNCTION_LINES = 40
# A kernel is one formula, which reads worse in pieces.
LONGER = {"adam_kernel": 60}


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def layer_of(module: str) -> str:
    """Return the longest name among the layers that a module of ours has or lies in, or ``""``."""
    parts = module.split(".")[1:] if module.startswith("accel.") else []
    names = (".".join(parts[:count]) for count in range(len(parts), 0, -1))
    return next((name for name in names if name in LEVEL), "")


def test_every_module_has_a_layer() -> None:
    names = [module_of(path) for path in SOURCES if path.is_relative_to(ROOT / "accel")]
    assert [name for name in names if name != "accel" and not layer_of(name)] == []
    assert set(LEVEL) == {*map(layer_of, names)} - {""}


def test_imports_point_one_way() -> None:
    offenders = []
    for path in SOURCES:
        own = layer_of(module_of(path))
        if not own:
            continue
        for module in imported(parsed(path)):
            layer = layer_of(module)
            above = bool(layer) and LEVEL[layer] > LEVEL[own]
            if above or module.startswith("op_builder"):
                offenders.append(f"{name_of(path)} imports {module}")
    assert not offenders, "\n".join(offenders)


def needed(tree: ast.Module, modules: set[str]) -> Iterator[str]:
    """Yield the modules that a module imports from, also late and for type checkers alone."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in modules else node.module


def circles(imports: dict[str, set[str]]) -> set[str]:
    """Return the modules that are part of a circle, or lie between two."""
    left = dict(imports)
    while left:
        used = {name for names in left.values() for name in names}
        free = [name for name, names in left.items() if name not in used or not names & left.keys()]
        if not free:
            break
        for name in free:
            del left[name]
    return {*left}


def test_no_module_imports_itself_by_way_of_others() -> None:
    # The package itself only names the homes of public names.
    paths = [path for path in SOURCES if path != ROOT / "accel" / "__init__.py"]
    modules = {*map(module_of, paths)}
    imports = {
        module_of(path): {*needed(parsed(path), modules)} - {module_of(path)} for path in paths
    }
    assert circles(imports) == set()
    assert circles({**imports, "accel.errors": {"accel.registry"}}) >= {"accel.errors"}


def test_modules_stay_small() -> None:
    lines = {name_of(path): path.read_text().count("\n") for path in SOURCES}
    assert {name: count for name, count in lines.items() if count > MODULE_LINES} == {}


def code_lines(node: ast.FunctionDef | ast.AsyncFunctionDef, lines: list[str]) -> int:
    body = [line for line in lines[node.body[0].lineno - 1 : node.end_lineno] if line.strip()]
    docstring = ast.get_docstring(node, clean=False)
    return len(body) - (len([*filter(str.strip, docstring.splitlines())]) if docstring else 0)


def test_functions_stay_small() -> None:
    offenders = []
    for path in SOURCES:
        lines = path.read_text().splitlines()
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                count = code_lines(node, lines)
                if count > LONGER.get(node.name, FUNCTION_LINES):
                    offenders.append(f"{name_of(path)}:{node.lineno} {node.name}: {count} lines")
    assert not offenders


def test_the_environment_is_read_in_one_place() -> None:
    # The conformance kit looks at the whole environment to tell who changes it.
    offenders = [
        f"{name_of(path)}:{node.lineno}"
        for path in SOURCES
        if path.name != "environment.py" and "testing" not in path.parts
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv", "putenv"}
    ]
    assert not offenders, "read variables in accel/environment.py"


def test_the_environment_is_never_written() -> None:
    offenders = [
        f"{name_of(path)}:{node.lineno}"
        for path in SOURCES
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del)
        if "environ" in ast.unparse(node.value)
    ]
    assert not offenders


def uses_a_shell(call: ast.Call) -> bool:
    return ast.unparse(call.func) in {"os.system", "os.popen"} or any(
        keyword.arg == "shell"
        and isinstance(keyword.value, ast.Constant)
        and keyword.value.value is True
        for keyword in call.keywords
    )


def test_no_shell_is_ever_given_a_string() -> None:
    offenders = [
        f"{name_of(path)}:{node.lineno}"
        for path in SOURCES
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Call) and uses_a_shell(node)
    ]
    assert not offenders


def test_kernels_know_neither_torch_nor_python() -> None:
    sources = [
        path
        for path in (ROOT / "csrc").rglob("*")
        if path.suffix in {".h", ".cpp", ".cu", ".cuh", ".inl"}
    ]
    assert sources
    offenders = [
        f"{name_of(path)}: {line}"
        for path in sources
        for line in path.read_text().splitlines()
        if line.lstrip().startswith("#include")
        and any(word in line for word in ("torch", "ATen", "c10", "Python.h"))
    ]
    assert not offenders


def test_tests_are_named_so_and_helpers_lie_apart() -> None:
    """Support has no tests; outside of it, but for packages, everything else is one."""
    tests = ROOT / "tests"
    packages = {folder.parent for folder in tests.rglob("__init__.py")}
    offenders = []
    for path in sorted(tests.rglob("*.py")):
        if packages & {*path.parents} or tests / "simulated" == path.parent:
            continue
        has_tests = any(
            isinstance(node, ast.FunctionDef | ast.ClassDef)
            and node.name.startswith(("test_", "Test"))
            for node in parsed(path).body
        )
        is_test = path.name.startswith("test_")
        if has_tests != is_test and path.name != "conftest.py":
            offenders.append(name_of(path))
    assert not offenders
