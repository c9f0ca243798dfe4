"""`ListOp`: a declared op over lists; on the CPU its library checks the lists of a usual call."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch.autograd.graph import increment_version

from accel.ops import abi
from accel.ops.base import Implementation
from accel.ops.frame import watchers
from accel.ops.frame.call import has_memory
from accel.ops.frame.declaration import DeclaredOp
from accel.ops.frame.schema import Argument
from accel.ops.frame.tensors import PLAIN
from accel.ops.threads import cpu_threads

_NUMBERS: dict[str, type] = {"int": int, "float": float, "bool": bool}
UNUSUAL = object()
"""What `ListOp.quickly` returns if it has done nothing."""


class ListOp(DeclaredOp):
    """A declared op over lists of one length; tensors at the same index have the same shape.

    Its arguments are lists, numbers, and tensors of one element. The check of a usual call, which
    examines each tensor in C, is at least as strict as `careful`; unusual calls go to `careful`.
    """

    def __init__(self, library: Implementation | None = None, *, backend: str = "cpu") -> None:
        self._reader: Any = None
        super().__init__(library, backend=backend)
        self._lists = [one.name for one in self.parsed.tensors if one.kind.listed]
        self._works = type(self).workspace is not DeclaredOp.workspace
        if self._native is not None and backend == "cpu":
            self._reader = self._make_reader()

    def _make_reader(self) -> Any:
        """Return the library's reader of lists, ``None`` if Python has to read them."""
        from accel.ops.lists.reading import ListReader, mask

        library: Any = self._library
        if not hasattr(library.handle, "accel_read_lists"):
            return None
        written = [one.name for one in self.parsed.written]
        masks = (mask(self._lists, written), mask(self._lists, self.in_place))
        try:
            return ListReader(library.handle, len(self._lists), *masks)
        except OSError:
            return None  # `python_api` gives the reason.

    def careful(self, *args: Any) -> Any:
        """Run a call: by one call of the library if it is usual, else with all checks."""
        if not watchers.is_compiling():
            found = self.quickly(*args)
            if found is not UNUSUAL:
                return found
        return super().careful(*args)

    def trusting(self, *args: Any) -> Any:
        """Run a call whose tensors the caller has checked as strictly as `careful`."""
        watched = watchers.is_recorded() or watchers.is_transformed() or watchers.has_tangents()
        if self._run is None or watched:
            return self.careful(*args)
        return self._run(*args)

    def quickly(self, *args: Any, sources: list[Any] | None = None) -> Any:
        """Run a usual call and return its result; `UNUSUAL`, with nothing done, if it is not usual.

        With `sources`, the first list is filled with the gradients of these tensors. It must have
        the same length, and nobody else may use it.
        """
        if (
            self._reader is None
            or watchers.is_recorded()
            or watchers.is_transformed()
            or watchers.has_tangents()
            or not all(map(self._is_usual, self.parsed.arguments, args))
        ):
            return UNUSUAL
        given = dict(zip(self.parsed.names, args, strict=True))
        # Copies, so that nobody changes the lists while the library runs, and the tensors live.
        lists = [given[name] if sources is not None else [*given[name]] for name in self._lists]
        if not lists[0] or any(len(one) != len(lists[0]) for one in lists):
            return UNUSUAL
        written = [given[one.name] for one in self.parsed.written if not one.kind.listed]
        self.check(*args)
        table = self._reader.read(
            lists,
            sources=sources,
            grad=torch.is_grad_enabled(),
            inference=torch.is_inference_mode_enabled(),
            apart=written[0] if written else None,
        )
        return UNUSUAL if table is None else self._called(table, given)

    def _called(self, table: Any, given: dict[str, Any]) -> Any:
        args = [*given.values()]
        result = self.outputs(*args) if self.parsed.returns else None
        status = self._native(*self._values(table, given, result))
        if status:
            return self._refused(status, *args)
        for one in self.parsed.written:
            value = given[one.name]
            increment_version(value if one.kind.listed else (value,))
        return result

    def _values(self, table: Any, given: dict[str, Any], result: Any) -> list[Any]:
        """Return the arguments of the C function, in the order of `CallText`."""
        values: list[Any] = []
        for one in self.parsed.tensors:
            value = given[one.name]
            if one.kind.listed:
                values.append(table.addresses(self._lists.index(one.name)))
            else:
                values.append(None if value is None else value.data_ptr())
        if result is not None:
            results = result if isinstance(result, tuple) else (result,)
            values += [one.data_ptr() for one in results]
        values += [None] * self._works
        values += [given[one.name] for one in self.parsed.arguments if not one.kind.is_tensor]
        for size in self.sizes:
            what, _, name = size.rstrip(")").partition("(")
            if what == "threads":
                values.append(cpu_threads())
            elif what == "len":
                values.append(table.count)
            elif what == "numels":
                values.append(table.numels())
            else:
                values.append(table.element_types(self._lists.index(name)))
        first = given[self.parsed.tensors[0].name]
        leader = first[0] if isinstance(first, Sequence) else first
        return [*values, abi.ELEMENTS[leader.dtype], None]

    def _is_usual(self, argument: Argument, value: Any) -> bool:
        """Return whether an argument is usual, apart from the tensors of a list."""
        kind = argument.kind
        if kind.listed:
            return type(value) in (list, tuple)
        if kind.is_tensor:
            return _is_one_number(value, self.types[argument.name]) or (
                kind.optional and value is None
            )
        # The checks report a number beyond C's ints, or a value that is not a number.
        fits = type(value) is not int or -(2**63) <= value < 2**63
        return type(value) is _NUMBERS.get(kind.name) and fits


def _is_one_number(tensor: Any, types: Collection[torch.dtype]) -> bool:
    """Return whether a value is a plain tensor of the CPU with one element of these types."""
    return (
        type(tensor) in PLAIN
        and tensor.is_cpu
        and tensor.layout is torch.strided
        and tensor.dtype in types
        and tensor.numel() == 1
        and not (tensor.requires_grad or tensor.is_neg() or tensor.is_inference())
        and has_memory(tensor)
    )
