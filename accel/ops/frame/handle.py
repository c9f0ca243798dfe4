"""`Handle`: state that a native library keeps between calls, such as threads and open files.

It is a plain class, not an op of the dispatcher, because a compiler would treat a call without
tensors as a constant, or remove it.
"""

from __future__ import annotations

import ctypes
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
        kinds = [*self.functions["create"], "bytes"]
        self._check(self._bound("create", kinds)(*args, ctypes.addressof(made)), args)
        self._state = made.value or 0
        destroy = library[f"{self.prefix}_destroy"]
        destroy.argtypes, destroy.restype = (ctypes.c_void_p,), None
        self._end = weakref.finalize(self, _end, destroy, self._state, self._process)
        self._calls = {
            name: self._bound(name, ["bytes", *kinds])
            for name, kinds in self.functions.items()
            if name != "create"
        }

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

    def _bound(self, name: str, kinds: Sequence[str]) -> Any:
        function = self._library[f"{self.prefix}_{name}"]
        function.argtypes = tuple(_C_TYPES[kind] for kind in kinds)
        function.restype = ctypes.c_int64
        return function

    def _check(self, found: int, args: Sequence[Any]) -> int:
        if found < 0:
            named = [os.fsdecode(one) for one in args if isinstance(one, bytes)]
            raise OSError(-found, os.strerror(-found), *named[:1])
        return found


def _end(destroy: Any, state: int, process: int) -> None:
    # A child process does not have the parent's threads, so it cannot wait for them.
    if os.getpid() == process:
        destroy(state)
