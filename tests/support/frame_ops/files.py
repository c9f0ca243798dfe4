"""A handle with state and errno: a file that is read, and how many bytes have been."""

from __future__ import annotations

import os
from typing import Any, ClassVar

from torch import Tensor

from accel.ops.base import Op
from accel.ops.frame.handle import Handle


class Reader(Handle):
    prefix = "accel_reader"
    functions: ClassVar = {
        "create": ("str",),
        "read": ("bytes", "int"),
        "total": (),
        "sleep": ("int",),
    }

    def read(self, buffer: Tensor) -> int:
        return self.call("read", buffer.data_ptr(), buffer.nbytes)


class Files(Op):
    """The op: a class to make handles of, as asynchronous input and output will have it."""

    name: ClassVar[str] = "files"
    functions: ClassVar = ("reader",)

    def __init__(self, library: Any = None, *, backend: str = "cpu") -> None:
        super().__init__(library, backend=backend)
        self._handle = None if library is None else library.handle

    def reader(self, path: str | os.PathLike[str]) -> Reader:
        return Reader(self._handle, os.fsencode(path))
