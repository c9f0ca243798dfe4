"""The ctypes mirror and the C headers say the same."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from family_cases import FAMILIES, flags_of

from accel.jit import csrc_dir
from accel.ops import abi
from accel.ops.io.choosing import IO_URING, THREADS
from accel.ops.io.engines import BUFFERED, WRITE, Result
from accel.ops.optimizers.abi import DTYPES, ROUNDING
from accel.ops.optimizers.codes8bit import ADAM8BIT_BLOCK, LARGEST
from accel.ops.optimizers.prepared.native_watch import Expected, Python, WatchArgs
from accel.ops.quantizers.codes import QUANT_TYPES

INCLUDE = csrc_dir() / "include"
STRUCTS = {
    **{f"accel_{stem}_args": (family.args, f"{stem}.h") for stem, family in FAMILIES.items()},
    "accel_python": (Python, "tensors.h"),
    "accel_expected": (Expected, "tensors.h"),
    "accel_io_result": (Result, "io.h"),
    "accel_watch": (WatchArgs, "tensors.h"),
}


def compiled(tmp_path: Path, body: str) -> dict[str, int]:
    """Compile a C program that prints ``name value`` lines, run it, return them."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    headers = "".join(
        f'#include "{header.relative_to(INCLUDE)}"\n' for header in sorted(INCLUDE.rglob("*.h"))
    )
    source = tmp_path / "layout.c"
    headers = f"#include <stddef.h>\n#include <stdio.h>\n{headers}"
    source.write_text(f"{headers}\nint main(void) {{\n{body}\nreturn 0;}}\n")
    program = tmp_path / "layout"
    flags = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-pedantic", "-Wno-unused-function"]
    subprocess.run([compiler, *flags, f"-I{INCLUDE}", source, "-o", program], check=True)
    text = subprocess.run([program], check=True, capture_output=True, text=True).stdout
    return {name: int(value) for name, value in (line.split() for line in text.splitlines())}


@pytest.mark.parametrize("name", STRUCTS)
def test_structs_have_equal_layout(name: str, tmp_path: Path) -> None:
    mirror, header = STRUCTS[name]
    fields = [field for field, _ in mirror._fields_]
    body = _struct_body((INCLUDE / "accel" / header).read_text(), name)
    declared = [one or other for one, other in re.findall(r"\(\*(\w+)\)|\b(\w+);", body)]
    assert declared == fields

    lines = [f'printf("size %zu\\n", sizeof({name}));']
    for field in fields:
        lines.append(f'printf("{field}.at %zu\\n", offsetof({name}, {field}));')
        lines.append(f'printf("{field}.size %zu\\n", sizeof((({name} *)0)->{field}));')
    found = compiled(tmp_path, "\n".join(lines))
    expected = {"size": ctypes.sizeof(mirror)}
    for field in fields:
        expected[f"{field}.at"] = getattr(mirror, field).offset
        expected[f"{field}.size"] = getattr(mirror, field).size
    assert found == expected


def _struct_body(text: str, name: str) -> str:
    body = re.search(rf"typedef struct {name} {{(.*?)}} {name};", text, re.DOTALL)
    assert body is not None
    return re.sub(r"/\*.*?\*/", "", body[1], flags=re.DOTALL)


def test_constants_are_equal(tmp_path: Path) -> None:
    text = "".join(header.read_text() for header in INCLUDE.rglob("*.h"))
    names = sorted({name for body in re.findall(r"enum \w+ {(.*?)}", text, re.DOTALL)
                    for name in re.findall(r"\b(ACCEL_\w+)\s*=", body)})  # fmt: skip
    names.append("ACCEL_ABI_VERSION")
    body = "\n".join(f'printf("{name} %d\\n", (int){name});' for name in names)
    found = compiled(tmp_path, body)

    constants = {
        **vars(abi),
        "IO_THREADS": THREADS,
        "IO_URING": IO_URING,
        "IO_WRITE": WRITE,
        "IO_BUFFERED": BUFFERED,
        "ADAM8BIT_BLOCK": ADAM8BIT_BLOCK,
        "ADAM8BIT_LARGEST_EXP_AVG": LARGEST[True],
        "ADAM8BIT_LARGEST_EXP_AVG_SQ": LARGEST[False],
    }
    for stem in FAMILIES:
        constants |= flags_of(stem)
    expected = {
        f"ACCEL_{name}": value
        for name, value in constants.items()
        if name.isupper() and isinstance(value, int)
    }
    for dtype, code in abi.ELEMENTS.items():
        expected[f"ACCEL_{str(dtype).removeprefix('torch.').upper()}"] = code
    for rounding, code in ROUNDING.items():
        expected[f"ACCEL_ROUND_{rounding.upper()}"] = code
    for code, kind in enumerate(QUANT_TYPES):
        expected[f"ACCEL_{kind.upper()}"] = code
    for code, level in enumerate(abi.SIMD_LEVELS):
        expected[f"ACCEL_SIMD_{level.upper()}"] = code
    assert found == expected


def test_codes_of_element_types_are_never_renumbered() -> None:
    """They are in compiled libraries: new types come after the last."""
    first = ["float32", "bfloat16", "float16", "float64", "int8", "uint8", "int16", "int32",
             "int64", "bool", "float8_e4m3fn", "float8_e5m2"]  # fmt: skip
    found = [str(dtype).removeprefix("torch.") for dtype in abi.ELEMENTS]
    assert found[: len(first)] == first
    assert [*abi.ELEMENTS.values()] == [*range(len(abi.ELEMENTS))]
    assert (abi.INT4X2, abi.UINT4X2) == (12, 13)
    assert DTYPES.items() <= abi.ELEMENTS.items()
