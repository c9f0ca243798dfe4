"""An op in torch's dispatcher, where compilers, modes, subclasses and profilers see it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from accel.ops.frame.autograd import follow

if TYPE_CHECKING:
    from accel.ops.frame.interface import Declaration

# An op is unregistered when its library object is freed.
_libraries: dict[str, torch.library.Library] = {}
_classes: dict[str, type[Declaration]] = {}
_native: dict[tuple[str, str], Declaration] = {}


def register(kind: type[Declaration]) -> Any:
    """Put an op into the dispatcher, once per process, and return its entry in ``torch.ops``.

    If a class is defined again, for example because its module is reloaded, it replaces the first.

    Raises:
        ValueError: another op of that name has another schema.
    """
    space, schema = kind.namespace(), kind.parsed
    name = f"{space}::{schema.name}"
    known = _classes.get(name)
    if known is not None and known.parsed.text != schema.text:
        raise ValueError(
            f"{name} is {known.parsed.text!r} already; {kind.__qualname__} declares "
            f"{schema.text!r}. Give one of them another name, or another namespace."
        )
    _classes[name] = kind
    if known is None:
        library = _libraries.get(space)
        if library is None:
            library = _libraries[space] = torch.library.Library(space, "FRAGMENT")  # type: ignore[no-untyped-call,unused-ignore]
        _define(library, name, schema.text)
    return getattr(getattr(torch.ops, space), schema.name).default


def use(op: Declaration) -> None:
    """Make the dispatcher run this op's library for its backend's devices from now on."""
    _native[f"{op.namespace()}::{op.parsed.name}", op.backend] = op


def _define(library: Any, name: str, schema: str) -> None:
    def kernel(what: str) -> Callable[..., Any]:
        return lambda *args, **named: _loaded(name, args, named, what)

    short = name.partition("::")[2]
    library.define(schema)
    if _classes[name].parsed.is_view:
        library.impl(short, kernel("reference"), "CompositeImplicitAutograd")
        return
    library.impl(short, kernel("compute"), "CompositeExplicitAutograd")
    library.impl(short, lambda *args, **named: _followed(name, args, named), "Autograd")
    # A kernel for "Meta" serves as the fake; register_fake costs every first load 0.1 ms more.
    library.impl(short, kernel("fake"), "Meta")


def _loaded(name: str, args: tuple[Any, ...], named: dict[str, Any], what: str) -> Any:
    """Check a call and run it with the op loaded for its tensors' device, else the reference."""
    op, given = _find(name, args, named)
    given = op.checked(given)
    if what == "compute":
        op.checks.check_memory(given)
    return getattr(op, what)(*given)


def _followed(name: str, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """Run a call below autograd, with the op's derivative if one is needed."""
    op, given = _find(name, args, named)
    packet = register(type(op))

    def below(*given: Any) -> Any:
        by_position, by_name = op.parsed.split(given)
        with torch._C._AutoDispatchBelowAutograd():
            return packet(*by_position, **by_name)

    tensors = [tensor for _, tensor in op.checks.tensors(given)]
    if not (torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)):
        return below(*given)
    if op.parsed.written:
        op.checks.refuse_gradients(given)
        if not op.parsed.returns:
            return below(*given)
    return follow(op, below, given, tensors)


def _find(
    name: str, args: tuple[Any, ...], named: dict[str, Any]
) -> tuple[Declaration, tuple[Any, ...]]:
    """Return the op for a call's device, and all arguments of the call."""
    kind = _classes[name]
    # The dispatcher leaves out what equals a default.
    given = kind.parsed.bind(args, named)
    device = next((tensor.device.type for _, tensor in kind.checks.tensors(given)), "cpu")
    return _native.get((name, device)) or kind.plain(device), given
