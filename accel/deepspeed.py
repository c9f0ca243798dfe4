"""DeepSpeed mode: an unmodified DeepSpeed takes the ops that exist here from here.

`install` runs at the moment when DeepSpeed asks whether ``op_builder`` is its own. It puts a lookup
in front of the one of DeepSpeed's accelerator and leaves everything else as it is.
"""

from __future__ import annotations

import functools
import logging
import sys
import warnings
from collections.abc import Callable
from typing import Any, cast

from accel import registry
from accel.builders.base import OpBuilder

BRIDGED_ACCELERATORS = ("cpu", "cuda")
BRIDGED_BUILDERS = (
    "CPUAdagradBuilder",
    "CPUAdamBuilder",
    "CPULionBuilder",
    "FusedAdamBuilder",
)
_log = logging.getLogger("accel")
_warned: set[str] = set()


class ForwardingOp:
    """Our op with everything that it does not have taken from DeepSpeed's own, on demand."""

    def __init__(self, op: Any, theirs: Callable[[], Any]) -> None:
        self._op = op
        self._theirs = theirs

    def __getattr__(self, name: str) -> Any:
        if name in self._op.functions or name in {"implementation", "digest", "path"}:
            return getattr(self._op, name)
        return getattr(self._theirs(), name)


def install() -> None:
    """Put our builders before DeepSpeed's in the accelerator that DeepSpeed uses; idempotent.

    Does nothing until DeepSpeed has an accelerator, and warns once where that is neither its cpu
    nor its cuda accelerator: DeepSpeed then keeps its own ops.
    """
    module = sys.modules.get("deepspeed.accelerator.real_accelerator")
    accelerator = getattr(module, "ds_accelerator", None)
    if accelerator is None:
        return
    name = accelerator._name
    if name not in BRIDGED_ACCELERATORS:
        if name not in _warned:
            _warned.add(name)
            warnings.warn(
                f"ACCEL_DEEPSPEED=1: DeepSpeed's accelerator is {name!r}; it keeps its own ops, "
                f"because only {' and '.join(BRIDGED_ACCELERATORS)} are bridged.",
                RuntimeWarning,
                stacklevel=2,
            )
        return
    kind = type(accelerator)
    if not hasattr(kind.get_op_builder, "__accel_bridge__"):
        _wrap(kind, name)
        _log.info("DeepSpeed (%s) takes %s from accel", name, ", ".join(BRIDGED_BUILDERS))


def _wrap(kind: type, backend: str) -> None:
    original = kind.get_op_builder  # type: ignore[attr-defined]

    @functools.wraps(original)
    def get_op_builder(self: Any, class_name: str) -> Any:
        theirs = original(self, class_name)
        return _bridged(class_name, backend, theirs) if class_name in _ours() else theirs

    def create_op_builder(self: Any, class_name: str) -> Any:
        builder = self.get_op_builder(class_name)
        return None if builder is None else builder()

    get_op_builder.__accel_bridge__ = True  # type: ignore[attr-defined]
    kind.get_op_builder = get_op_builder  # type: ignore[attr-defined]
    kind.create_op_builder = functools.wraps(kind.create_op_builder)(create_op_builder)  # type: ignore[attr-defined]


@functools.cache
def _ours() -> frozenset[str]:
    return frozenset(BRIDGED_BUILDERS).intersection(registry.builder_names())


@functools.cache
def _bridged(class_name: str, backend: str, theirs: type | None) -> type[OpBuilder]:
    """Return our builder class, whose op takes from DeepSpeed's what ours does not have."""
    ours = registry.for_device_type(backend).get_op_builder(class_name)

    def load(self: OpBuilder, verbose: bool = False) -> Any:
        op = ours.load(self, verbose)
        if theirs is None:
            return op
        return ForwardingOp(op, functools.cache(lambda: theirs().load(verbose)))

    attributes = {"load": load, "__module__": __name__, "__doc__": ours.__doc__}
    return cast("type[OpBuilder]", type(class_name, (ours,), attributes))
