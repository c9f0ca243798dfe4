"""The usual call of an op, generated as Python source from its declaration.

It is one condition, that nothing about the call is unusual, and one call of the C function.
Unusual calls go to `careful`, which is ordinary code. The condition is at least as strict as the
checks there.

The source is compiled, as in ``dataclasses``, because closures that loop over the arguments take
twice as long. Tracebacks and debuggers show it.
"""

from __future__ import annotations

import ctypes
import linecache
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from accel.ops import abi
from accel.ops.checks import lacks_memory
from accel.ops.frame import watchers
from accel.ops.frame.checks import Types
from accel.ops.frame.schema import Argument, Schema
from accel.ops.frame.tensors import PLAIN
from accel.ops.native import current_device, stream_of
from accel.ops.threads import cpu_threads

_C_TYPES: dict[str, Any] = {
    "int": ctypes.c_int64,
    "SymInt": ctypes.c_int64,
    "float": ctypes.c_double,
    "bool": ctypes.c_int32,
    "str": ctypes.c_char_p,
    "ScalarType": ctypes.c_int32,
}
_USUAL_INT = "type({0}) is int and -0x8000000000000000 <= {0} <= 0x7FFFFFFFFFFFFFFF"
_USUAL: dict[str, str] = {
    "int": _USUAL_INT,
    "SymInt": _USUAL_INT,
    "float": "type({0}) is float",
    "bool": "type({0}) is bool",
    "str": "type({0}) is str",
    "ScalarType": "{0} in codes",
}


def has_memory(tensor: Tensor) -> bool:
    """Return whether a tensor's storage still has the memory that it reaches."""
    return not lacks_memory(tensor)


def addresses(tensors: Sequence[Tensor]) -> Any:
    """Return the addresses of tensors as a C array: ``void *const *``."""
    return (ctypes.c_void_p * len(tensors))(*[tensor.data_ptr() for tensor in tensors])


def numels(tensors: Sequence[Tensor]) -> Any:
    """Return the tensors' numbers of elements as a C array: ``const int64_t *``."""
    return (ctypes.c_int64 * len(tensors))(*[tensor.numel() for tensor in tensors])


def doubles(values: Sequence[float]) -> Any:
    """Return numbers as a C array: ``const double *``."""
    return (ctypes.c_double * len(values))(*values)


def integers(values: Sequence[int]) -> Any:
    """Return integers as a C array: ``const int64_t *``."""
    return (ctypes.c_int64 * len(values))(*values)


def element_types(tensors: Sequence[Tensor]) -> Any:
    """Return the codes of tensors' element types as a C array: ``const int32_t *``."""
    return (ctypes.c_int32 * len(tensors))(*[abi.ELEMENTS[tensor.dtype] for tensor in tensors])


_ARRAYS = (addresses, numels, element_types, doubles, integers)
_SCOPE: dict[str, Any] = {
    **watchers.NAMES,
    "plain": PLAIN,
    "codes": abi.ELEMENTS,
    "current_device": current_device,
    "stream_of": stream_of,
    "has_memory": has_memory,
    "threads": cpu_threads,
    **{one.__name__: one for one in _ARRAYS},
}
_GIVEN = {"careful", "check", "followed", "native", "outputs", "refused", "run", "workspace"}
TAKEN = frozenset({*_SCOPE, *_GIVEN, "result", "status", "types", "work"})
"""Names that the generated source uses, so that no op and no argument may have them."""


class CallText:
    """The generated source of one op's usual call on one backend.

    The C function's arguments are, in this order: each tensor's address, or for a list an array of
    addresses; each result's address; the workspace's, if the op has one; each other argument; each
    of `sizes`; each code of `dtypes`; the stream.

    Args:
        schema: the op's schema.
        same: as for `CallChecks`.
        types: the allowed element types of arguments, by name.
        sizes: expressions in the arguments: each an ``int64_t``, or an array by ``numels(x)`` or
            ``element_types(x)``; ``threads()`` is how many threads a CPU kernel may use.
        dtypes: names of the tensors whose element types are passed to C.
        backend: type of the devices that the C function runs on.
        workspace: whether a workspace is passed to C.
    """

    def __init__(
        self,
        schema: Schema,
        same: Sequence[str],
        types: Types,
        sizes: Sequence[str],
        dtypes: Sequence[str],
        backend: str,
        *,
        workspace: bool = False,
    ) -> None:
        self._schema = schema
        self._workspace = workspace
        self._same = [entry.partition(".") for entry in same]
        self._types = types
        self._backend = backend
        self._sizes = sizes
        self._dtypes = dtypes
        first = schema.tensors[0]
        self._leader = f"{first.name}[0]" if first.kind.listed else first.name
        self._given = ", ".join(schema.names)

    @property
    def argtypes(self) -> tuple[Any, ...]:
        """The C function's argument types, for `ctypes`; raises `ValueError` as `run` does."""
        return (*(kind for _, kind in self._pairs()), ctypes.c_void_p)

    def _pairs(self) -> list[tuple[str, Any]]:
        """Return the C function's arguments before the stream, each as source and type."""
        schema, pointer = self._schema, ctypes.c_void_p
        lists = {argument.name for argument in schema.tensors if argument.kind.listed}
        alone = len(schema.returns) == 1
        results = ["result" if alone else f"result[{at}]" for at in range(len(schema.returns))]
        pairs: list[tuple[str, Any]] = [
            *((_address(argument), pointer) for argument in schema.tensors),
            *((f"{result}.data_ptr()", pointer) for result in results),
        ]
        if self._workspace:
            pairs += [("None if work is None else work.data_ptr()", pointer)]
        for argument in schema.arguments:
            if not argument.kind.is_tensor:
                pairs += _number(argument)
        arrays = tuple(f"{one.__name__}(" for one in _ARRAYS)
        pairs += [
            (size, pointer if size.startswith(arrays) else ctypes.c_int64) for size in self._sizes
        ]
        ones = [f"{name}[0]" if name in lists else name for name in self._dtypes]
        return [*pairs, *((f"codes[{one}.dtype]", ctypes.c_int32) for one in ones)]

    @property
    def is_short(self) -> bool:
        """True if a usual call needs no loop over lists and no check for overlaps."""
        tensors = self._schema.tensors
        return not any(one.kind.listed for one in self._schema.arguments) and (
            not self._schema.written or len(tensors) == 1
        )

    def surface(self, *, native: bool, checked: bool) -> str:
        """Return the source of the function that users call, under the op's name.

        `native`: there is a C function, and its call is inlined; else ``run`` is called.
        `checked`: the op has a `check` of values.
        """
        lines = [f"def {self._schema.name}{self._schema.signature()}:"]
        if self.is_short:
            usual = "\n        and ".join(self._usual())
            lines += [
                f"    if is_compiling():\n        return careful({self._given})",
                f"    if not (\n        {usual}\n    ):\n        return careful({self._given})",
            ]
            lines += [f"    check({self._given})"] if checked else []
            here = [one.name for one in self._schema.tensors if not one.kind.optional]
            follows = " or ".join(f"{name}.requires_grad" for name in here)
            lines += [
                f"    if ({follows}) and grad_enabled():\n        return followed({self._given})"
            ]
            lines += self._call() if native else [f"    return run({self._given})"]
        else:
            lines += [f"    return careful({self._given})"]
        return "\n".join([*lines, ""])

    def run(self) -> str:
        """Return the source of ``run``, which makes the call without checks.

        Raises:
            ValueError: an argument has no form in C.
        """
        return "\n".join([f"def run({self._given}):", *self._call(), ""])

    def _usual(self) -> list[str]:
        """Return the conditions of a usual call."""
        every = self._schema.tensors
        here = [one.name for one in every if not one.kind.optional]
        first, *others = here
        conditions = ["not modes()", "transforms() is None", "tracing() is None"]
        conditions += ["not profiling()"]
        conditions += [f"type({name}) in plain" for name in here]
        conditions += [f"{one.name} is None" for one in every if one.kind.optional]
        conditions += [self._on_device(name) for name in here]
        if self._backend != "cpu":
            conditions += [f"{name}.get_device() == {first}.get_device()" for name in others]
        conditions += [f"not {name}.is_neg() and {name}.is_contiguous()" for name in here]
        conditions += [
            f"{name}.{one} {'is' if one == 'dtype' else '=='} {first}.{one}"
            for name, _, fact in self._same
            for one in ([fact] if fact else ["dtype", "shape"])
            if name in here
        ]
        alike = {name for name, _, fact in self._same if fact != "shape"}
        conditions += [f"{name}.dtype in codes" for name in here if name not in alike]
        conditions += [f"{name}.dtype in types[{name!r}]" for name in here if name in self._types]
        conditions += [
            f"{name}.data_ptr() and (has_memory({name}) if {name}.storage_offset() else "
            f"{name}.untyped_storage().nbytes() >= {name}.nbytes)"
            for name in here
        ]
        conditions += [
            _USUAL[one.kind.name].format(one.name)
            for one in self._schema.arguments
            if not one.kind.is_tensor
        ]
        return [*conditions, "forward_ad._current_level < 0"]

    def _on_device(self, name: str) -> str:
        if self._backend in ("cpu", "cuda", "xpu"):
            return f"{name}.is_{self._backend}"
        return f"{name}.device.type == {self._backend!r}"

    def _call(self) -> list[str]:
        stream = "None" if self._backend == "cpu" else f"stream_of({self._leader}.device)"
        values = ", ".join([*(text for text, _ in self._pairs()), stream])
        call = f"status = native({values})"
        lines = [f"result = outputs({self._given})" if self._schema.returns else "result = None"]
        if self._workspace:
            lines += [f"work = workspace({self._given})"]
        if self._backend == "cpu":
            lines += [call]
        else:
            lines += [f"with current_device({self._leader}.device):", f"    {call}"]
        lines += ["if status:", f"    return refused(status, {self._given})"]
        for one in self._schema.written:
            lines += [f"increment_version({one.name if one.kind.listed else f'({one.name},)'})"]
        return ["    " + line for line in [*lines, "return result"]]

    def compile(self, source: str, label: str, **names: Any) -> dict[str, Callable[..., Any]]:
        """Return the functions that a source defines; `names` are further names that it uses.

        `label` distinguishes the sources of one op in tracebacks.
        """
        filename = f"<accel: {self._schema.name} on {self._backend}, {label}>"
        scope = {**_SCOPE, "types": self._types, **names}
        linecache.cache[filename] = (len(source), None, source.splitlines(True), filename)
        exec(compile(source, filename, "exec"), scope)
        return scope


def _address(argument: Argument) -> str:
    name, kind = argument.name, argument.kind
    text = f"addresses({name})" if kind.listed else f"{name}.data_ptr()"
    return f"None if {name} is None else {text}" if kind.optional else text


def _number(argument: Argument) -> list[tuple[str, Any]]:
    """Return source and C type of an argument that is not a tensor.

    Raises:
        ValueError: it may be ``None``, which has no form as a number in C.
    """
    name, kind = argument.name, argument.kind
    if kind.optional:
        raise ValueError(
            f"{name} may be None, which has no form as a number in C; give it another default, or "
            f"set native = False."
        )
    if kind.listed:
        array = "doubles" if kind.name == "float" else "integers"
        return [(f"{array}({name})", ctypes.c_void_p), (f"len({name})", ctypes.c_int64)]
    text = {"str": f"{name}.encode()", "ScalarType": f"codes[{name}]"}.get(kind.name, name)
    return [(text, _C_TYPES[kind.name])]
