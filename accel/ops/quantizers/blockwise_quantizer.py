"""``blockwise_quantizer``: tensors as blocks of 8-bit or 4-bit codes, in bitsandbytes' formats."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from accel.ops.base import Implementation
from accel.ops.checks import shown
from accel.ops.frame.declaration import OpSet
from accel.ops.quantizers.blockwise import Decode, DecodeFour, Encode, EncodeFour
from accel.ops.quantizers.codes import QUANT_TYPES, dynamic_map
from accel.ops.quantizers.quant_state import QuantState
from accel.ops.quantizers.reference import values_on

STATISTICS = 256
"""Magnitudes of a block of compressed statistics."""


class BlockwiseQuantizer(OpSet):
    """The op that ``BlockwiseQuantizerBuilder`` loads.

    Codes, magnitudes and elements have the same bits on every rung and device. An element becomes
    the nearest value times its block's largest magnitude. A NaN makes its whole block NaN. An
    infinity stays one, and makes all other elements of its block NaN. Autograd does not follow
    these functions.
    """

    name: ClassVar[str] = "blockwise_quantizer"
    ops: ClassVar = (Encode, Decode, EncodeFour, DecodeFour)
    functions: ClassVar[tuple[str, ...]] = (
        *("quantize_blockwise", "dequantize_blockwise", "quantize_4bit", "dequantize_4bit"),
    )

    def __init__(self, library: Implementation | None = None, *, backend: str = "cpu") -> None:
        super().__init__(library, backend=backend)
        self._encode, self._decode = self._loaded[Encode], self._loaded[Decode]
        self._encode_four, self._decode_four = self._loaded[EncodeFour], self._loaded[DecodeFour]

    def quantize_blockwise(
        self, A: Tensor, code: Tensor | None = None, blocksize: int = 256
    ) -> tuple[Tensor, Tensor]:
        """Return 8-bit codes of a tensor, and the largest magnitude of each block.

        Args:
            A: float32, bfloat16 or float16, of any shape.
            code: 256 float32 values, one for each code; ``None`` for the signed dynamic map.
            blocksize: elements of a block, at least 1; the last block may be shorter.

        Returns:
            Codes, uint8 in the shape of `A`, and magnitudes, float32, one for each block.

        Raises:
            TypeError: an argument has the wrong kind or element type.
            ValueError: a size is wrong, or `code` is on another device.
        """
        if code is None:
            return self._encode(_plain(A), None, None, blocksize)  # type: ignore[no-any-return]
        if not isinstance(code, Tensor):
            raise TypeError(f"code is a {type(code).__name__}; expected a torch.Tensor.")
        rising, order = torch.sort(code.reshape(-1), stable=True)
        found: tuple[Tensor, Tensor] = self._encode(
            _plain(A), rising, order.to(torch.uint8), blocksize
        )
        return found

    def dequantize_blockwise(
        self,
        A: Tensor,
        absmax: Tensor,
        code: Tensor | None = None,
        blocksize: int = 256,
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        """Return the elements of 8-bit codes.

        Args:
            A: codes, uint8.
            absmax: the largest magnitude of each block, float32.
            code: the values that the codes were made with.
            blocksize: elements of a block.
            dtype: float32, bfloat16 or float16.

        Returns:
            A tensor in the shape of `A`, each element rounded once from float32.

        Raises:
            TypeError: an argument has the wrong kind or element type.
            ValueError: a size is wrong, or devices differ.
        """
        values = code.reshape(-1) if isinstance(code, Tensor) else code
        found: Tensor = self._decode(_plain(A), absmax, values, blocksize, dtype)
        return found

    def quantize_4bit(
        self,
        A: Tensor,
        blocksize: int = 64,
        quant_type: str = "nf4",
        compress_statistics: bool = False,
        quant_storage: torch.dtype = torch.uint8,
    ) -> tuple[Tensor, QuantState]:
        """Return 4-bit codes of a tensor, two per byte, and the state that decodes them.

        Args:
            A: float32, bfloat16 or float16, of any shape.
            blocksize: a power of two from 32 to 4096; the last block may be shorter.
            quant_type: ``"nf4"`` or ``"fp4"``.
            compress_statistics: whether magnitudes are also stored as 8-bit codes.
            quant_storage: element type of the tensor that holds the bytes.

        Returns:
            Bytes in one column, and the state; bitsandbytes can use both.

        Raises:
            TypeError: an argument has the wrong kind or element type.
            ValueError: a size or `quant_type` is wrong, or the bytes do not fill a whole number of
                elements of `quant_storage`.
        """
        if quant_type not in QUANT_TYPES:
            raise ValueError(f"quant_type is {shown(quant_type)}; expected 'nf4' or 'fp4'.")
        packed, absmax = self._encode_four(_plain(A), blocksize, QUANT_TYPES.index(quant_type))
        if quant_storage != torch.uint8:
            packed = _stored(packed, quant_storage)
        offset = inner = None
        if compress_statistics:
            offset = _mean(absmax)
            absmax, magnitudes = self.quantize_blockwise(absmax - offset, blocksize=STATISTICS)
            code = values_on(dynamic_map(), A.device)
            inner = QuantState(magnitudes, code=code, blocksize=STATISTICS)
        return packed, QuantState(
            absmax, A.shape, None, blocksize, quant_type, A.dtype, offset, inner
        )

    def dequantize_4bit(
        self, A: Tensor, quant_state: Any, dtype: torch.dtype | None = None
    ) -> Tensor:
        """Return the tensor that `quantize_4bit`, or bitsandbytes, quantized.

        Args:
            A: the bytes; if they are one row, the result is transposed, as in bitsandbytes.
            quant_state: the state of these bytes, from here or from bitsandbytes.
            dtype: float32, bfloat16 or float16; default: the state's.

        Raises:
            TypeError: an argument has the wrong kind or element type.
            ValueError: bytes, state and shape do not fit each other, or devices differ.
        """
        kind, shape = _of_state(quant_state)
        absmax = quant_state.absmax
        if quant_state.nested:
            inner = quant_state.state2
            absmax = self.dequantize_blockwise(absmax, inner.absmax, inner.code, inner.blocksize)
            absmax = absmax + quant_state.offset
        packed = _plain(A)
        if isinstance(packed, Tensor) and packed.dtype != torch.uint8:
            packed = packed.view(torch.uint8)
        found: Tensor = self._decode_four(
            packed, absmax, quant_state.blocksize, kind, shape.numel(), dtype or quant_state.dtype
        )
        is_row = A.dim() == 2 and A.shape[0] == 1 < A.shape[1] and len(shape) == 2
        return found.view(shape).t() if is_row else found.view(shape)


def _plain(tensor: Any) -> Any:
    """Return a tensor in contiguous memory; the checks report anything else."""
    if isinstance(tensor, Tensor) and tensor.layout is torch.strided:
        return tensor.contiguous()
    return tensor


def _stored(packed: Tensor, dtype: torch.dtype) -> Tensor:
    if not isinstance(dtype, torch.dtype):
        raise TypeError(f"quant_storage is {shown(dtype)}; expected a torch.dtype.")
    if packed.numel() % dtype.itemsize:
        raise ValueError(
            f"quant_storage is {dtype}, but {packed.numel()} bytes do not fill a whole number of "
            f"its elements; use torch.uint8."
        )
    return packed.view(-1).view(dtype).view(-1, 1)


def _mean(absmax: Tensor) -> Tensor:
    """Return the mean of the finite magnitudes, so that others spoil only their own block."""
    finite = absmax.isfinite()
    # In float64, a device's order of additions hardly ever changes the result.
    wide = torch.float32 if absmax.device.type == "mps" else torch.float64
    total = torch.where(finite, absmax, 0.0).sum(dtype=wide)
    return (total / finite.sum().clamp(min=1)).float()


def _of_state(state: Any) -> tuple[int, torch.Size]:
    """Return kind and shape of a state's codes.

    Raises `TypeError` if it is not a state, `ValueError` if it is not one of 4-bit codes.
    """
    needed = ("absmax", "shape", "dtype", "blocksize", "quant_type", "nested")
    missing = [name for name in needed if not hasattr(state, name)]
    if missing:
        raise TypeError(
            f"quant_state is a {type(state).__name__} without {', '.join(missing)}; pass the state "
            f"that was returned with the codes."
        )
    if state.quant_type not in QUANT_TYPES or state.shape is None:
        raise ValueError(
            f"quant_state has quant_type {shown(state.quant_type)} and shape {state.shape}; "
            f"expected the state of 4-bit codes."
        )
    return QUANT_TYPES.index(state.quant_type), torch.Size(state.shape)
