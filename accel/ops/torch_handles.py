"""torch's own functions, for native loops over tensors: handles, addresses, gradients."""

from __future__ import annotations

import ctypes
import weakref
from array import array
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_P, _N = ctypes.c_void_p, ctypes.c_int64
_capsule_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_capsule_pointer.restype = _P
_capsule_pointer.argtypes = (ctypes.py_object, ctypes.c_char_p)

# Symbols of torch's C++ libraries, each with the header and the words that declare it: a name says
# nothing of what is returned, so the header that comes with torch is asked.
_DECLARED = {
    "grad_of": ("_ZNK3c1010TensorImpl4gradEv", "c10/core/TensorImpl.h",
                "  const at::Tensor& grad() const;"),
    "requires_grad": ("_ZNK3c1010TensorImpl13requires_gradEv", "c10/core/TensorImpl.h",
                      "  bool requires_grad() const;"),
    "is_negated": ("_ZN2at6native6is_negERKNS_6TensorE", "ATen/ops/is_neg_native.h",
                   "TORCH_API bool is_neg(const at::Tensor & self);"),
    "is_interpreted": ("_ZN2at4impl19tensor_has_dispatchERKNS_6TensorE",
                       "ATen/core/TorchDispatchUtils.h",
                       "TORCH_API bool tensor_has_dispatch(const at::Tensor& t);"),
}  # fmt: skip
# torch's stable C interface, which libraries compiled ahead of time use.
_STABLE = {
    "is_defined": "aoti_torch_is_defined",
    "is_contiguous": "aoti_torch_is_contiguous",
    "layout_of": "aoti_torch_get_layout",
    "dtype_of": "aoti_torch_get_dtype",
    "numel_of": "aoti_torch_get_numel",
    "address_of": "aoti_torch_get_data_ptr",
    "keep": "aoti_torch_new_tensor_handle",
    "let_go": "aoti_torch_delete_tensor_object",
}
_DTYPES = {
    torch.float32: "aoti_torch_dtype_float32",
    torch.bfloat16: "aoti_torch_dtype_bfloat16",
    torch.float16: "aoti_torch_dtype_float16",
}


class TensorApi(ctypes.Structure):
    """``accel_tensor_api`` of ``accel/cpu.h``; functions are addresses as integers."""

    _fields_ = (
        ("struct_size", ctypes.c_uint64),
        *((name, _P) for name in (*_DECLARED, *_STABLE)),
        ("strided", _N),
    )


class Handles:
    """torch's handles of tensors, which keep them alive; freed with this object.

    Attributes:
        pointers: the handles, in the tensors' order.

    Raises:
        AttributeError, OSError: this torch gives out no handles.
    """

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        capsules = torch._C._aoti.unsafe_alloc_void_ptrs_from_tensors(list(tensors))
        pointers = [_capsule_pointer(capsule, None) for capsule in capsules]
        self.pointers = array("q", pointers)
        weakref.finalize(self, _free, _library().aoti_torch_delete_tensor_object, pointers)


def _free(free: Any, pointers: Sequence[int]) -> None:
    for pointer in pointers:
        free(pointer)


@cache
def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
    library.aoti_torch_delete_tensor_object.argtypes = (_P,)
    return library


@cache
def tensor_api() -> TensorApi | None:
    """Return torch's functions for reading gradients; ``None`` where this torch has others."""
    include = Path(torch.__file__).parent / "include"
    try:
        library = _library()
        api = TensorApi(ctypes.sizeof(TensorApi), strided=library.aoti_torch_layout_strided())
        for field, (symbol, header, declaration) in _DECLARED.items():
            if f"\n{declaration}\n" not in (include / header).read_text():
                return None
            setattr(api, field, ctypes.cast(getattr(library, symbol), _P).value)
        for field, symbol in _STABLE.items():
            setattr(api, field, ctypes.cast(getattr(library, symbol), _P).value)
    except (AttributeError, OSError):
        return None
    return api


@cache
def dtype_codes() -> dict[torch.dtype, int]:
    """Return the codes that `tensor_api` tells element types by, of those that kernels take."""
    return {dtype: getattr(_library(), name)() for dtype, name in _DTYPES.items()}
