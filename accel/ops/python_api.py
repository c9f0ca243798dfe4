"""Python's C API and torch's DLPack exchange table, in the form that native code gets them."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

_P, _I = ctypes.c_void_p, ctypes.c_int32
_DLPACK_MAJOR = 1
# Indices of functions in DLPack's exchange table, which begins with a version and a pointer.
_READ = 5
_C_API = {
    "attribute": "PyObject_GetAttr",
    "call": "PyObject_Vectorcall",
    "type_of": "PyObject_Type",
    "item_of_list": "PyList_GetItem",
    "item_of_dictionary": "PyDict_GetItemWithError",
    "next_entry": "PyDict_Next",
    "keep": "Py_IncRef",
    "let_go": "Py_DecRef",
    "as_integer": "PyLong_AsLongLong",
    "forget_error": "PyErr_Clear",
}
_OBJECTS: Mapping[str, Any] = {
    "none": None,
    "no": False,
    "tensor": Tensor,
    "parameter": Parameter,
    "dictionary": dict,
    "grad": sys.intern("grad"),
    "requires_grad": sys.intern("requires_grad"),
    "is_neg": Tensor.is_neg,
    "storage_offset": Tensor.storage_offset,
}


class Python(ctypes.Structure):
    """``accel_python`` of ``accel/tensors.h``: functions and objects are addresses as integers."""

    _fields_ = (
        ("struct_size", ctypes.c_uint64),
        *((name, _P) for name in ("read", *_C_API, *_OBJECTS)),
    )


class DLTensor(ctypes.Structure):
    """``accel_dl_tensor`` of ``accel/tensors.h``."""

    _fields_ = (
        ("data", _P),
        *((name, _I) for name in ("device_type", "device_id", "ndim")),
        ("dtype_code", ctypes.c_uint8),
        ("dtype_bits", ctypes.c_uint8),
        ("dtype_lanes", ctypes.c_uint16),
        *((name, _P) for name in ("shape", "strides")),
        ("byte_offset", ctypes.c_uint64),
    )


def from_python(name: str, result: Any, *arguments: Any) -> Any:
    """Return a function of Python's C API."""
    # A separate prototype, because other users of ctypes.pythonapi may have set other types.
    return ctypes.PYFUNCTYPE(result, *arguments)((name, ctypes.pythonapi))


@cache
def python_api() -> Python | str:
    """Return the functions by which native code reads tensors, or the reason why it cannot."""
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        return "this interpreter has no lock that keeps tensors in place while they are checked"
    capsule = getattr(Tensor, "__dlpack_c_exchange_api__", None)
    if capsule is None:
        return f"torch {torch.__version__} has no DLPack exchange table"
    pointer_of = from_python("PyCapsule_GetPointer", _P, ctypes.py_object, ctypes.c_char_p)
    try:
        table = (_P * (_READ + 1)).from_address(pointer_of(capsule, b"dlpack_exchange_api"))
    except ValueError:
        return f"torch {torch.__version__} has a DLPack exchange table of another form"
    version = (table[0] or 0) & 0xFFFFFFFF
    if version != _DLPACK_MAJOR:
        return (
            f"torch {torch.__version__} has DLPack {version}, but this accel needs {_DLPACK_MAJOR}"
        )
    if not table[_READ]:
        return f"torch {torch.__version__} cannot read a tensor by DLPack without owning it"
    functions = {
        name: ctypes.cast(getattr(ctypes.pythonapi, symbol), _P).value
        for name, symbol in _C_API.items()
    }
    objects = {name: id(value) for name, value in _OBJECTS.items()}
    return Python(ctypes.sizeof(Python), table[_READ], **functions, **objects)
