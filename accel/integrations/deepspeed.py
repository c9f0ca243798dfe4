"""DeepSpeed mode: an unmodified DeepSpeed takes the ops that accel has from accel.

`install` runs when DeepSpeed asks whether ``op_builder`` is its own. It puts a look-up in front of
that of DeepSpeed's accelerator, lists our builders beside DeepSpeed's, and changes nothing else.

Which builders are bridged follows from accel's own declarations: see `is_ours`.
"""

from __future__ import annotations

import enum
import functools
import logging
import sys
import warnings
from collections.abc import Callable
from typing import Any, cast

from accel import registry
from accel.builders.base import OpBuilder
from accel.builders.convention import DECLARED, name_of
from accel.errors import UnknownBackend

_NOBODYS = "deepspeed_not_implemented"
"""The name of DeepSpeed's builder for ops that an accelerator of its own lacks."""

_THEIR_BUILDERS = "deepspeed.ops.op_builder"
_FACTS = frozenset({"implementation", "digest", "path"})
_log = logging.getLogger("accel")
_warned: set[str] = set()


class Owners:
    """The owner of one op's optimizers: ours, until a function is used that ours lacks.

    Such a function (ZenFlow's) looks up the optimizer in DeepSpeed's own library, so all of them
    move there, and stay.
    """

    def __init__(self, load_theirs: Callable[[], Any]) -> None:
        self._load = functools.cache(load_theirs)
        self.moved = False
        self._made: dict[Any, tuple[Any, str, tuple[Any, ...]]] = {}
        self._registered: list[Any] = []

    def theirs(self) -> Any:
        """Return DeepSpeed's own op, loaded; it then registers what ours did until now."""
        for library in self._registered:
            library._destroy()
        self._registered.clear()
        return self._load()

    def register(self, op: Any) -> None:
        """Put what DeepSpeed's module would register into the dispatcher, done by ours."""
        self._registered += register(op)

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


def register(op: Any) -> list[Any]:
    """Register an op's `registers` in torch's dispatcher, unless there is such a name already.

    Returns:
        list: the libraries, which keep the names as long as they live.
    """
    made = []
    for name, kind in getattr(op, "registers", {}).items():
        import torch

        space, _, short = name.partition("::")
        if hasattr(getattr(torch.ops, space), short):
            continue
        library: Any = torch.library.Library(space, "FRAGMENT")  # type: ignore[no-untyped-call,unused-ignore]
        library.define(short + kind.parsed.text[kind.parsed.text.index("(") :])
        # Whoever looks closer, autograd or a compiler, sees our op.
        library.impl(
            short, functools.partial(_forward, kind.register()), "CompositeImplicitAutograd"
        )
        made.append(library)
    return made


def _forward(target: Callable[..., Any], *args: Any, **named: Any) -> Any:
    return target(*args, **named)


def has(op: Any, name: str) -> bool:
    """Return whether a name is of an op's call surface: a function, a class or an enum's value."""
    if name in op.functions:
        return True
    found = getattr(type(op), name, None)
    return isinstance(found, type | enum.Enum)


class ForwardingOp:
    """Our op, until it lacks a name; from then on DeepSpeed's own op does everything."""

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
        if owners.moved or not has(self._op, name):
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

    Does nothing until DeepSpeed has an accelerator, and warns once if accel has no strategy for
    its devices: DeepSpeed then keeps its own ops.
    """
    module = sys.modules.get("deepspeed.accelerator.real_accelerator")
    accelerator = getattr(module, "ds_accelerator", None)
    if accelerator is None:
        return
    name, kind = accelerator._name, type(accelerator)
    if hasattr(kind.get_op_builder, "__accel_bridge__") or name in _warned:
        return
    try:
        registry.strategy(name)
    except UnknownBackend as error:
        _warned.add(name)
        warnings.warn(
            f"ACCEL_DEEPSPEED=1: DeepSpeed's accelerator is {name!r}, and it keeps its own ops: "
            f"{error}",
            RuntimeWarning,
            stacklevel=2,
        )
        return
    _wrap(kind, name)
    _log.info("DeepSpeed (%s) takes ops from accel", name)


def _wrap(kind: type, backend: str) -> None:
    original = kind.get_op_builder  # type: ignore[attr-defined]

    @functools.wraps(original)
    def get_op_builder(self: Any, class_name: str) -> Any:
        theirs = original(self, class_name)
        if not is_ours(class_name, backend, theirs):
            return theirs
        return _bridged(class_name, backend, None if is_nobodys(theirs) else theirs)

    def create_op_builder(self: Any, class_name: str) -> Any:
        _list_ours(self)
        builder = self.get_op_builder(class_name)
        return None if builder is None else builder()

    get_op_builder.__accel_bridge__ = True  # type: ignore[attr-defined]
    kind.get_op_builder = get_op_builder  # type: ignore[attr-defined]
    kind.create_op_builder = functools.wraps(kind.create_op_builder)(create_op_builder)  # type: ignore[attr-defined]


def builder_names() -> tuple[str, ...]:
    """Return the names of the builders that accel itself declares, sorted."""
    return tuple(sorted(map(name_of, DECLARED.values())))


def is_nobodys(theirs: type | None) -> bool:
    """Return whether DeepSpeed has no op behind a builder of its own."""
    return theirs is None or getattr(theirs, "NAME", "") == _NOBODYS


def is_ours(class_name: str, backend: str, theirs: type | None) -> bool:
    """Return whether DeepSpeed on an accelerator is to take a builder from accel.

    It is if accel has more than its reference there, if DeepSpeed has nothing, and if the op needs
    no kernel anywhere, as views of bytes do. What DeepSpeed has made for a vendor's device is not
    replaced by a reference.
    """
    if class_name not in builder_names():
        return False
    return (
        is_nobodys(theirs) or _has_kernel(class_name, backend) or not _has_kernel(class_name, "cpu")
    )


@functools.cache
def _has_kernel(class_name: str, backend: str) -> bool:
    """Return whether more than the reference is declared for a builder, usable here or not."""
    builder = registry.for_device_type(backend).get_op_builder(class_name)()
    return builder.has_sources() or any(rung == "vendor" for rung, _ in builder.rungs())


def _list_ours(accelerator: Any) -> None:
    """Add our builders to the list that DeepSpeed makes of its own by creating each of them.

    ``deepspeed.ops.__compatible_ops__`` and ``ds_report`` tell from it what there is.
    """
    making: Any = sys.modules.get(f"{_THEIR_BUILDERS}.all_ops")
    listed = getattr(making, "__op_builders__", None)
    if listed is None or hasattr(making, "ALL_OPS") or hasattr(making, "__accel_listed__"):
        return
    making.__accel_listed__ = True
    known = sys.modules[_THEIR_BUILDERS]
    for class_name in builder_names():
        found = accelerator.get_op_builder(class_name) if hasattr(known, class_name) else None
        if found is not None and found.__module__ == __name__:
            listed.append(found())


@functools.cache
def _bridged(class_name: str, backend: str, theirs: type | None) -> type[OpBuilder]:
    """Return our builder class, whose op takes what ours lacks from DeepSpeed's."""
    ours = registry.for_device_type(backend).get_op_builder(class_name)
    owners = None if theirs is None else Owners(lambda: theirs().load())
    kept: list[Any] = []

    def load(self: OpBuilder, verbose: bool = False) -> Any:
        op = ours.load(self, verbose)
        if owners is None:
            kept.extend(register(op))
            return op
        if not owners.moved:
            owners.register(op)
        return ForwardingOp(op, owners)

    attributes = {"load": load, "__module__": __name__, "__doc__": ours.__doc__}
    for name, value in vars(theirs or _anywhere(class_name)).items():
        if isinstance(value, staticmethod) and not hasattr(ours, name):
            attributes[name] = value  # a fact about the op, such as `get_quant_range`
    return cast("type[OpBuilder]", type(class_name, (ours,), attributes))


def _anywhere(class_name: str) -> type:
    """Return DeepSpeed's builder class for CUDA, `object` without one.

    Its callers ask it for facts on every accelerator, those without the op included.
    """
    for name, module in list(sys.modules.items()):
        if name.rpartition(".")[0] == _THEIR_BUILDERS:
            found = vars(module).get(class_name)
            if isinstance(found, type) and found.__module__ == name:
                return found
    return object
