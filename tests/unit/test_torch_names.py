"""The package runs on torch 2.6, and on Gaudi's 2.7: what is newer is asked for before use."""

import ast
from pathlib import Path

import pytest

import accel

PACKAGE = Path(accel.__file__).parent
# Public names that came after torch 2.6, with the release that has them first.
NEWER = {
    "torch.accelerator.Graph": "2.13",
    "torch.accelerator.current_device_index": "2.7",
    "torch.accelerator.device_index": "2.8",
    "torch.accelerator.empty_cache": "2.9",
    "torch.accelerator.empty_host_cache": "2.13",
    "torch.accelerator.get_device_capability": "2.9",
    "torch.accelerator.get_memory_info": "2.10",
    "torch.accelerator.max_memory_allocated": "2.9",
    "torch.accelerator.max_memory_reserved": "2.9",
    "torch.accelerator.memory_allocated": "2.9",
    "torch.accelerator.memory_reserved": "2.9",
    "torch.accelerator.memory_stats": "2.9",
    "torch.accelerator.reset_accumulated_memory_stats": "2.9",
    "torch.accelerator.reset_peak_memory_stats": "2.9",
    "torch.accelerator.set_device_index": "2.7",
    "torch.compiler.nested_compile_region": "2.8",
    "torch.cpu.get_capabilities": "2.10",
    "torch.distributed.is_xccl_available": "2.7",
    "torch.float4_e2m1fn_x2": "2.8",
    "torch.float8_e8m0fnu": "2.7",
    "torch.nn.functional.grouped_mm": "2.10",
    "torch.nn.functional.scaled_mm": "2.10",
    "torch.xpu.XPUGraph": "2.10",
    "torch.xpu.graph": "2.10",
    "torch.xpu.graph_pool_handle": "2.10",
    "torch.xpu.make_graphed_callables": "2.10",
}
FILES = sorted(PACKAGE.rglob("*.py"))


def dotted(node: ast.AST) -> str:
    """The text of ``a.b.c``, or nothing for another expression."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and dotted(node.value):
        return f"{dotted(node.value)}.{node.attr}"
    return ""


def unguarded(source: str) -> list[str]:
    """Newer names that a function uses without `hasattr` of the same name in that function."""
    found = []
    tree = ast.parse(source)
    functions = [one for one in ast.walk(tree) if isinstance(one, ast.FunctionDef)]
    for scope in [*functions, tree]:
        inside = list(ast.walk(scope))
        asked = {
            f"{dotted(one.args[0])}.{one.args[1].value}"
            for one in inside
            if isinstance(one, ast.Call)
            and dotted(one.func) == "hasattr"
            and isinstance(one.args[1], ast.Constant)
        }
        inner = (
            {
                id(node)
                for other in functions
                if other is not scope and other in inside
                for node in ast.walk(other)
            }
            if scope is tree
            else set()
        )
        used = {dotted(one) for one in inside if id(one) not in inner}
        found += sorted((used & set(NEWER)) - asked)
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_newer_names_are_asked_for(file):
    assert unguarded(file.read_text(encoding="utf-8")) == []


def test_the_check_sees_a_newer_name():
    source = "def f():\n    import torch\n    return torch.accelerator.memory_stats()\n"
    assert unguarded(source) == ["torch.accelerator.memory_stats"]
    guarded = "if hasattr(torch.accelerator, 'memory_stats'):\n        "
    assert unguarded(source.replace("return", f"{guarded}return")) == []
    assert unguarded("import torch\nprobe = torch.accelerator.Graph\n") != []
