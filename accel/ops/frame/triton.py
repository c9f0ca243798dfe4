"""`TritonKernel`: the portable rung of a declared op, a module beside the op's own."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal


class TritonKernel:
    """A module that has ``<function>(*arguments, *results)`` for each function of an op.

    Args:
        module: its name, such as ``"accel.ops.layers.triton.silu_mul"``.

    Attributes:
        rung: ``"portable"``.
        digest: ``"triton"``: one implementation in each process.
        path: the module's file.
    """

    rung: Literal["portable"] = "portable"
    digest = "triton"

    def __init__(self, module: str) -> None:
        spec = find_spec(module)
        self.path = Path(spec.origin if spec is not None and spec.origin else ".")
        self._module = module

    def bind(self, symbol: str) -> Callable[..., Any]:
        """Return the function of that name; imports Triton.

        Raises:
            AttributeError: the module has none.
        """
        found: Callable[..., Any] = getattr(import_module(self._module), symbol)
        return found
