"""A new tensor's type and place are said, never left to the defaults that a user may set."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "accel").rglob("*.py"))
# What takes both from torch.set_default_dtype and torch.set_default_device.
MAKERS = {
    *("empty", "empty_strided", "zeros", "ones", "full", "eye", "tensor", "as_tensor", "asarray"),
    *("arange", "linspace", "logspace", "scalar_tensor", "rand", "randn", "randint", "randperm"),
}


def careless(tree: ast.AST) -> Iterator[tuple[int, str, set[str]]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("torch."):
            maker = ast.unparse(node.func).removeprefix("torch.")
            missing = {"dtype", "device"} - {keyword.arg for keyword in node.keywords}
            if maker in MAKERS and missing:
                yield node.lineno, maker, missing


def test_the_look_finds_one() -> None:
    assert [*careless(ast.parse("x = torch.zeros(3, device=d)"))] == [(1, "zeros", {"dtype"})]


def test_type_and_place_are_said() -> None:
    offenders = [
        f"{path.relative_to(ROOT)}:{line}: torch.{maker} without {' and '.join(sorted(missing))}"
        for path in SOURCES
        for line, maker, missing in careless(ast.parse(path.read_text()))
    ]
    assert not offenders
