"""Whose ops DeepSpeed uses in DeepSpeed mode: prints the table of ``docs/deepspeed-ops.md``.

    ACCEL_DEEPSPEED=1 DS_ACCELERATOR=cpu python tests/support/deepspeed_table.py

DeepSpeed's accelerators are made without their devices: only look-ups are asked for.
"""

from __future__ import annotations

import inspect
import sys
from importlib import import_module
from types import ModuleType
from typing import Any
from unittest import mock

ACCELERATORS = ("cpu", "cuda", "xpu", "hpu", "npu", "mlu", "sdaa", "supa", "mps", "klxpu")
_VENDORS = (
    *("habana_frameworks", "habana_frameworks.torch", "habana_frameworks.torch.hpu"),
    *("torch_npu", "torch_mlu", "torch_sdaa", "torch_supa", "torch_xmlir"),
)
_KINDS = ("OpBuilder", "NotImplementedBuilder")


def accelerator(name: str) -> Any:
    """Return DeepSpeed's accelerator of a name, whether or not its device is here."""
    absent = dict.fromkeys(_VENDORS, mock.MagicMock())
    with mock.patch.dict(sys.modules, absent):
        module = import_module(f"deepspeed.accelerator.{name}_accelerator")
    (kind,) = [
        value
        for value in vars(module).values()
        if inspect.isclass(value) and value.__module__ == module.__name__
    ]
    made = object.__new__(kind)
    made._name, made.class_dict = name, None
    return made


def names() -> list[str]:
    """Return the names of DeepSpeed's builders."""
    reflected: ModuleType = import_module("deepspeed.ops.op_builder")
    found = [name for name in vars(reflected) if name.endswith("Builder")]
    return sorted(name for name in found if not name.endswith(_KINDS))


def owner(using: Any, name: str) -> str:
    """Return whose op an accelerator gets by a name."""
    kind = using.get_op_builder(name)
    if kind is None or getattr(kind, "NAME", "") == "deepspeed_not_implemented":
        return "–"
    return "accel" if kind.__module__ == "accel.integrations.deepspeed" else "DeepSpeed"


def table() -> str:
    """Return the table."""
    import op_builder

    real = import_module("deepspeed.accelerator.real_accelerator")
    columns: dict[str, dict[str, str]] = {}
    for name in ACCELERATORS:
        real.ds_accelerator = accelerator(name)  # type: ignore[attr-defined]
        hasattr(op_builder, "__deepspeed__")
        columns[name] = {one: owner(real.ds_accelerator, one) for one in names()}
    lines = [
        f"| builder | {' | '.join(f'`{name}`' for name in ACCELERATORS)} |",
        f"|---{'|---' * len(ACCELERATORS)}|",
    ]
    for one in names():
        lines.append(f"| `{one}` | {' | '.join(columns[at][one] for at in ACCELERATORS)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(f"\n{table()}\n")
