"""Checks of a call by its schema before anything is written; every error names the argument."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor

from accel.ops.checks import check_no_overlap, check_storage, check_writable, label, shown
from accel.ops.frame.schema import Argument, Schema

Types = Mapping[str, Collection[torch.dtype]]
"""The allowed element types of an argument, by its name; any if it is not named."""


def _is_int(value: Any) -> bool:
    return isinstance(value, Integral | torch.SymInt) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, Real | torch.SymInt | torch.SymFloat) and not isinstance(value, bool)


_KINDS: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "int": ("an int", _is_int),
    "SymInt": ("an int", _is_int),
    "float": ("a number", _is_number),
    "bool": ("a bool", lambda value: isinstance(value, bool)),
    "str": ("a str", lambda value: isinstance(value, str)),
    "ScalarType": ("a torch.dtype", lambda value: isinstance(value, torch.dtype)),
}


class CallChecks:
    """The checks of one op's calls.

    Args:
        schema: the op's schema.
        same: names of tensors with the shape and dtype of the first tensor; ``"weight.dtype"`` and
            ``"weight.shape"`` require only one of the two. All tensors are on one device.
        types: the allowed element types of arguments.
        paired: names of lists that are as long as the first list, with its tensors' shapes.
        in_place: names of lists whose tensors may be the written tensors at the same index.

    Attributes:
        has_lists: whether an argument is a list of tensors.

    Raises:
        ValueError: `same`, `types`, `paired` or `in_place` has a name that is no such tensor of the
            schema.
    """

    def __init__(
        self,
        schema: Schema,
        same: Sequence[str],
        types: Types,
        paired: Sequence[str] = (),
        in_place: Sequence[str] = (),
    ) -> None:
        self._schema = schema
        self._types = types
        self._first = schema.tensors[0].name if schema.tensors else ""
        self.has_lists = any(argument.kind.listed for argument in schema.tensors)
        self._same = tuple(_facts_of(entry, schema) for entry in same)
        self._lists = [argument.name for argument in schema.tensors if argument.kind.listed]
        self._paired, self._in_place = paired, in_place
        for name in (*paired, *in_place):
            if name not in self._lists:
                raise ValueError(f"{schema.name}: {name!r} is not a list of tensors of the schema.")
        for name in types:
            if name not in [argument.name for argument in schema.tensors]:
                raise ValueError(f"{schema.name}: types has {name!r}, no tensor of the schema.")

    def __call__(self, args: Sequence[Any]) -> tuple[Any, ...]:
        """Return all arguments in the schema's order, numbers as Python's own.

        Raises:
            TypeError: an argument has the wrong kind, element type or layout.
            ValueError: a shape, a device, a list's length or the memory is wrong.
        """
        given = dict(zip(self._schema.names, args, strict=True))
        for argument in self._schema.arguments:
            self._check_kind(argument, given[argument.name])
        self._check_devices(args)
        for name, facts in self._same:
            if given[name] is not None and given[self._first] is not None:
                self._check_same(name, given[name], (self._first, given[self._first]), facts)
        for name in self._paired:
            leader = self._lists[0]
            self._check_same(name, given[name], (leader, given[leader]), ("shape",))
        if self._schema.returns and not any(True for _ in self.tensors(args)):
            raise ValueError(f"{self._first} is empty; expected at least one tensor.")
        return tuple(map(_as_own, self._schema.arguments, args))

    def _check_kind(self, argument: Argument, value: Any) -> None:
        kind = argument.kind
        if value is None and kind.optional:
            return
        what = ("a torch.Tensor", None) if kind.is_tensor else _KINDS[kind.name]
        if not kind.listed:
            self._check_one(argument.name, argument.name, value, what)
            return
        if isinstance(value, Tensor | str) or not isinstance(value, Sequence):
            raise TypeError(
                f"{argument.name} is a {type(value).__name__}; expected a list of "
                f"{'tensors' if kind.is_tensor else 'numbers'}."
            )
        for index, one in enumerate(value):
            self._check_one(argument.name, label(argument.name, index), one, what)

    def _check_one(
        self, name: str, told: str, value: Any, what: tuple[str, Callable[[Any], bool] | None]
    ) -> None:
        expected, fits = what
        if fits is not None:
            if not fits(value):
                raise TypeError(f"{told} is {shown(value)}; expected {expected}.")
            return
        if not isinstance(value, Tensor):
            raise TypeError(f"{told} is a {type(value).__name__}; expected {expected}.")
        if value.layout is not torch.strided:
            raise TypeError(f"{told} has layout {value.layout}; only dense tensors are supported.")
        if name in self._types and value.dtype not in self._types[name]:
            known = ", ".join(str(one).removeprefix("torch.") for one in self._types[name])
            raise TypeError(f"{told} has dtype {value.dtype}; expected one of {known}.")

    def _check_devices(self, args: Sequence[Any]) -> None:
        first: tuple[str, Tensor] | None = None
        for told, tensor in self.tensors(args):
            if first is None:
                first = told, tensor
            elif tensor.device != first[1].device:
                raise ValueError(
                    f"{told} is on {tensor.device}, but {first[0]} is on {first[1].device}; "
                    f"move one of them."
                )

    def tensors(self, args: Sequence[Any]) -> Iterator[tuple[str, Tensor]]:
        """Yield every tensor of a call, after its name for errors."""
        for argument, value in zip(self._schema.arguments, args, strict=True):
            if not argument.kind.is_tensor or value is None:
                continue
            if argument.kind.listed:
                yield from ((label(argument.name, at), one) for at, one in enumerate(value))
            else:
                yield argument.name, value

    def _check_same(
        self, name: str, value: Any, leading: tuple[str, Any], facts: tuple[str, ...]
    ) -> None:
        leader, first = leading
        if isinstance(value, Tensor) and isinstance(first, Tensor):
            pairs = [(name, value, leader, first)]
        else:
            values, firsts = ([x] if isinstance(x, Tensor) else x for x in (value, first))
            if len(values) != len(firsts):
                raise ValueError(
                    f"{name} has {len(values)} tensors, but {leader} has {len(firsts)}; "
                    f"give one for each."
                )
            pairs = [
                (label(name, at), one, label(leader, at), other)
                for at, (one, other) in enumerate(zip(values, firsts, strict=True))
            ]
        for told, one, told_first, other in pairs:
            for fact in facts:
                found, wanted = getattr(one, fact), getattr(other, fact)
                if found != wanted:
                    kind = TypeError if fact == "dtype" else ValueError
                    raise kind(
                        f"{told} has {fact} {_plain(found)}, but {told_first} has "
                        f"{_plain(wanted)}; they must be equal."
                    )

    def check_memory(self, args: Sequence[Any]) -> None:
        """Check the memory of tensors, and the written ones: raises `ValueError` naming one."""
        tensors = dict(self.tensors(args))
        for told, tensor in tensors.items():
            check_storage(tensor, told)
        names = {argument.name for argument in self._schema.written}
        written = {told: [one] for told, one in tensors.items() if told.partition("[")[0] in names}
        if not written:
            return
        check_writable(written, single=True)
        self.refuse_gradients(args)
        read = {told: [one] for told, one in tensors.items() if told not in written}
        for told in self._written_in_place(args):
            del read[told]
        check_no_overlap(written, read, single=True)

    def _written_in_place(self, args: Sequence[Any]) -> Iterator[str]:
        """Yield the names of tensors that are, as allowed, the written one in their place."""
        given = dict(zip(self._schema.names, args, strict=True))
        lists = [one.name for one in self._schema.written if one.kind.listed]
        for name in self._in_place:
            for at, (one, other) in enumerate(zip(given[name], given[lists[0]], strict=True)):
                if is_same_memory(one, other):
                    yield label(name, at)

    def refuse_gradients(self, args: Sequence[Any]) -> None:
        """Raise `ValueError` naming a written tensor that autograd follows."""
        names = {argument.name for argument in self._schema.written}
        for told, tensor in self.tensors(args):
            if tensor.requires_grad and torch.is_grad_enabled() and told.partition("[")[0] in names:
                raise ValueError(
                    f"{told} requires grad and is written by {self._schema.name}, which autograd "
                    f"does not follow; call it under torch.no_grad()."
                )


def _as_own(argument: Argument, value: Any) -> Any:
    """Return a checked argument as one of Python's own numbers, which `ctypes` takes.

    Raises `ValueError` for an int of more than 64 bits, which C would truncate.
    """
    name = argument.kind.name
    if argument.kind.listed or value is None or isinstance(value, torch.SymInt | torch.SymFloat):
        return value
    if name in ("int", "SymInt"):
        if not -(2**63) <= value < 2**63:
            raise ValueError(f"{argument.name} is {shown(value)}; expected an int of 64 bits.")
        return int(value)
    return float(value) if name == "float" else value


def _facts_of(entry: str, schema: Schema) -> tuple[str, tuple[str, ...]]:
    name, _, fact = entry.partition(".")
    tensors = [argument.name for argument in schema.tensors]
    if name not in tensors[1:] or fact not in ("", "shape", "dtype"):
        raise ValueError(
            f"{schema.name}: same has {entry!r}; expected the name of a tensor after the first, "
            f"alone or with '.shape' or '.dtype'."
        )
    return name, (fact,) if fact else ("shape", "dtype")


def is_same_memory(one: Tensor, other: Tensor) -> bool:
    """Return whether two tensors have the same elements in the same memory."""
    return one is other or (
        one.data_ptr() == other.data_ptr()
        and one.dtype == other.dtype
        and one.shape == other.shape
        and one.stride() == other.stride()
        and one.is_neg() == other.is_neg()
    )


def _plain(fact: Any) -> Any:
    return tuple(fact) if isinstance(fact, torch.Size) else fact
