"""Supported dtypes, and factories of the device's tensors."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from accel.contract.device import DeviceMembers

if TYPE_CHECKING:
    import torch


class TensorFactory:
    """A factory of tensors of one dtype on one device, with one meaning on every backend.

    ``factory()`` is empty, ``factory(2, 3)`` and ``factory(torch.Size([2, 3]))`` are uninitialised
    tensors of that shape, ``factory([1, 2])`` (a sequence, an array or a tensor) holds values.
    """

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        self.dtype = dtype
        self.device = device

    def __call__(self, *values: Any) -> torch.Tensor:
        """Return the tensor; see the class. Raises `TypeError` on anything else."""
        import torch

        if len(values) == 1 and not isinstance(values[0], int | torch.Size):
            return torch.as_tensor(values[0], dtype=self.dtype, device=self.device).clone()
        shape = tuple(values[0]) if len(values) == 1 and isinstance(values[0], tuple) else values
        if not all(isinstance(size, int) for size in shape):
            raise TypeError(
                f"{self!r}{values!r}: expected whole numbers (a shape) or one sequence of values."
            )
        return torch.empty(shape or (0,), dtype=self.dtype, device=self.device)

    def __repr__(self) -> str:
        """Name the dtype and device of its tensors."""
        return f"TensorFactory({self.dtype}, {str(self.device)!r})"


class DtypeMembers(DeviceMembers):
    """Dtype members of the contract.

    A dtype is *supported* if the device computes in it with its own instructions or with torch's
    kernels for it, rather than by emulation in a wider one.
    """

    def is_bf16_supported(self) -> bool:
        """Return whether bfloat16 is supported.

        Default: torch's answer or a trial. May create a context.
        """
        return self._supports("bfloat16", "is_bf16_supported")

    def is_fp16_supported(self) -> bool:
        """Return whether float16 is supported.

        Default: torch's answer or a trial. May create a context.
        """
        return self._supports("float16", "is_fp16_supported")

    def is_fp8_supported(self) -> bool:
        """Return whether float8_e4m3fn products are supported.

        Default: ``False``. May create a context.
        """
        return False

    def is_fp64_supported(self) -> bool:
        """Return whether float64 is supported. Default: a trial. May create a context."""
        import torch

        if not self._is_usable():
            return False
        try:
            near = torch.full((2,), 1 + 2.0**-40, dtype=torch.float64, device=self.device())
            return bool(((near * near - 1) * 2.0**39 > 0.9).all().item())
        except (RuntimeError, TypeError, NotImplementedError):
            return False

    def supported_dtypes(self) -> list[torch.dtype]:
        """Return the floating-point dtypes to train in, float32 first. May create a context."""
        import torch

        dtypes = [torch.float32]
        if self.is_fp16_supported():
            dtypes.append(torch.float16)
        if self.is_bf16_supported():
            dtypes.append(torch.bfloat16)
        return dtypes

    def is_triton_supported(self) -> bool:
        """Return whether Triton kernels run here. No device context.

        Default: whether the backend has `uses_triton`, ``triton`` is installed and a device usable.
        """
        if not self.uses_triton or find_spec("triton") is None:
            return False
        return self._is_usable()

    def prefer_triton_grouped_mm(self) -> bool:
        """Return whether Triton's grouped product beats torch's. Default ``False``."""
        return False

    def _supports(self, dtype: str, question: str) -> bool:
        """Ask torch's module, or compute a small product on the device if it has no answer."""
        import torch

        if not self._is_usable():
            return False
        if hasattr(self._torch_module(question), question):
            return bool(self._forward(question))
        try:
            ones = torch.ones(2, 2, dtype=getattr(torch, dtype), device=self.device())
            return bool(((ones @ ones + ones).float().sum() == 12).item())
        except (RuntimeError, TypeError, NotImplementedError):
            return False

    def _factory(self, dtype: str) -> TensorFactory:
        import torch

        self._require(f"a tensor of {dtype}")
        return TensorFactory(getattr(torch, dtype), self.device())

    @property
    def BFloat16Tensor(self) -> TensorFactory:
        """Factory of bfloat16 tensors on this device; see `TensorFactory`."""
        return self._factory("bfloat16")

    @property
    def ByteTensor(self) -> TensorFactory:
        """Factory of uint8 tensors on this device; see `TensorFactory`."""
        return self._factory("uint8")

    @property
    def DoubleTensor(self) -> TensorFactory:
        """Factory of float64 tensors on this device; see `TensorFactory`."""
        return self._factory("float64")

    @property
    def FloatTensor(self) -> TensorFactory:
        """Factory of float32 tensors on this device; see `TensorFactory`."""
        return self._factory("float32")

    @property
    def HalfTensor(self) -> TensorFactory:
        """Factory of float16 tensors on this device; see `TensorFactory`."""
        return self._factory("float16")

    @property
    def IntTensor(self) -> TensorFactory:
        """Factory of int32 tensors on this device; see `TensorFactory`."""
        return self._factory("int32")

    @property
    def LongTensor(self) -> TensorFactory:
        """Factory of int64 tensors on this device; see `TensorFactory`."""
        return self._factory("int64")
