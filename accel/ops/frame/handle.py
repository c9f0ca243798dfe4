"""`Handle`: state that a native library keeps between calls, such as threads and open files.

It is a plain class, not an op of the dispatcher, because a compiler would treat a call without
tensors as a constant, or remove it.
"""

from __future__ import annotations

import ctypes
import functools
import os
import weakref
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from accel.errors import AccelError

_C_TYPES: dict[str, Any] = {
    "int": ctypes.c_int64,
    "float": ctypes.c_double,
    "bytes": ctypes.c_void_p,
    "str": ctypes.c_char_p,
}


class Handle:
    """A state kept by a library; a subclass declares the library's functions.

    The library has ``int64_t <prefix>_create(..., void **handle)``, ``void <prefix>_destroy(void
    *handle)`` and ``int64_t <prefix>_<function>(void *handle, ...)``. A function returns a number
    from 0 on, or minus an errno. It runs without the interpreter's lock.

    Attributes:
        prefix: prefix of the names of the library's functions.
        functions: the kinds of arguments of each function: ``"int"``, ``"float"``, ``"str"``, or
            ``"bytes"`` for an address.
    """

    prefix: ClassVar[str] = ""
    functions: ClassVar[Mapping[str, Sequence[str]]] = {}

    def __init__(self, library: ctypes.CDLL, *args: Any) -> None:
        self._library = library
        self._process = os.getpid()
        made = ctypes.c_void_p()
        kind: Any = type(self)
        self._calls = _bound(kind, library)
        self._check(self._calls["create"](*args, ctypes.addressof(made)), args)
        self._state = made.value or 0
        destroy = self._calls["destroy"]
        self._end = weakref.finalize(self, _end, destroy, self._state, self._process)

    def call(self, name: str, *args: Any) -> int:
        """Call a function and return its number.

        Raises:
            OSError: it returned minus an errno.
            AccelError: the handle is closed, or was made in another process, which has its threads.
        """
        if not self._end.alive:
            raise AccelError(f"{type(self).__name__}.{name}: the handle is closed; make another.")
        if os.getpid() != self._process:
            raise AccelError(
                f"{type(self).__name__}.{name}: the handle was made in process {self._process}, "
                f"and this is {os.getpid()}; make one here."
            )
        return self._check(self._calls[name](self._state, *args), args)

    def close(self) -> None:
        """Free the state, once, after everything that runs in it has ended."""
        self._end()

    def _check(self, found: int, args: Sequence[Any]) -> int:
        if found < 0:
            named = [os.fsdecode(one) for one in args if isinstance(one, bytes)]
            raise OSError(-found, os.strerror(-found), *named[:1])
        return found


@functools.cache
def _bound(kind: Any, library: ctypes.CDLL) -> dict[str, Any]:
    """Return the library's functions by short names, bound once since that takes 20 µs."""
    found = {}
    for name, kinds in kind.functions.items():
        function = found[name] = library[f"{kind.prefix}_{name}"]
        given = [*kinds, "bytes"] if name == "create" else ["bytes", *kinds]
        function.argtypes = tuple(_C_TYPES[one] for one in given)
        function.restype = ctypes.c_int64
    destroy = found["destroy"] = library[f"{kind.prefix}_destroy"]
    destroy.argtypes, destroy.restype = (ctypes.c_void_p,), None
    return found


def _end(destroy: Any, state: int, process: int) -> None:
    # A child process does not have the parent's threads, so it cannot wait for them.
    if os.getpid() == process:
        destroy(state)
