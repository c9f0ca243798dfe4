"""DeepSpeed mode: an unmodified DeepSpeed takes the ops that accel has from accel.

`install` runs when DeepSpeed asks whether ``op_builder`` is its own. It puts a look-up in front of
that of DeepSpeed's accelerator and changes nothing else.
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
    "UtilsBuilder",
)
_FACTS = frozenset({"implementation", "digest", "path"})
_log = logging.getLogger("accel")
_warned: set[str] = set()


class Owners:
    """The owner of one op's optimizers: ours, until a function is used that ours lacks.

    Such a function (ZenFlow's) looks up the optimizer in DeepSpeed's own library, so all of them
    move there, and stay.
    """

    def __init__(self, load_theirs: Callable[[], Any]) -> None:
        self.theirs = functools.cache(load_theirs)
        self.moved = False
        self._made: dict[Any, tuple[Any, str, tuple[Any, ...]]] = {}

    def create(self, op: Any, name: str, *args: Any) -> Any:
        """Create an optimizer of ours, by a function whose first argument is its number."""
        made = getattr(op, name)(*args)
        self._made[args[0]] = op, name, args
        return made

    def destroy(self, op: Any, name: str, number: Any) -> Any:
        """Destroy an optimizer of ours."""
        self._made.pop(number, None)
        return getattr(op, name)(number)

    def move(self) -> None:
        """Create every living optimizer again in DeepSpeed's library; none is left in ours.

        Moments are the caller's tensors, so that nothing is lost in mid-run.
        """
        for _, name, args in self._made.values():
            getattr(self.theirs(), name)(*args)
        for number, (op, name, _) in self._made.items():
            getattr(op, name.replace("create_", "destroy_"))(number)
        self._made.clear()
        self.moved = True


class ForwardingOp:
    """Our op, until it lacks a function; from then on DeepSpeed's own op does everything."""

    def __init__(self, op: Any, owners: Owners) -> None:
        self._op = op
        self._owners = owners

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            # copy, pickle and the like ask for these names, which must not start a build.
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        owners = self._owners
        if name in _FACTS:
            return self._fact(name)
        if owners.moved or name not in self._op.functions:
            found = getattr(owners.theirs(), name)
            if not owners.moved:
                owners.move()
                _log.info("DeepSpeed keeps its own op: it uses %s, which ours lacks", name)
            return found
        for kind in (owners.create, owners.destroy):
            if name.startswith(f"{kind.__name__}_"):
                return functools.partial(kind, self._op, name)
        return getattr(self._op, name)

    def _fact(self, name: str) -> Any:
        """Return where the op in use comes from, in the words of our ops."""
        if not self._owners.moved:
            return getattr(self._op, name)
        return {"implementation": "deepspeed", "path": self._owners.theirs().__file__}.get(name)


def install() -> None:
    """Put our builders before DeepSpeed's in the accelerator that DeepSpeed uses; idempotent.

    Does nothing until DeepSpeed has an accelerator, and warns once if that is neither its cpu
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
    """Return our builder class, whose op takes functions that ours lacks from DeepSpeed's."""
    ours = registry.for_device_type(backend).get_op_builder(class_name)
    owners = None if theirs is None else Owners(lambda: theirs().load())

    def load(self: OpBuilder, verbose: bool = False) -> Any:
        op = ours.load(self, verbose)
        return op if owners is None else ForwardingOp(op, owners)

    attributes = {"load": load, "__module__": __name__, "__doc__": ours.__doc__}
    return cast("type[OpBuilder]", type(class_name, (ours,), attributes))
