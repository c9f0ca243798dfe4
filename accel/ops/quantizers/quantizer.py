"""``quantizer``: integer codes of groups, with DeepSpeed's names and in its format."""

from __future__ import annotations

from enum import IntEnum
from typing import Any, ClassVar

import torch
from torch import Tensor

from accel.ops.base import Implementation
from accel.ops.checks import shown
from accel.ops.frame.declaration import OpSet
from accel.ops.quantizers.groups import (
    GroupDequantize,
    GroupQuantize,
    GroupReduce,
    HalfDequantize,
)


class QuantizationType(IntEnum):
    """The place of a group's codes: around 0, or around the middle of its extremes."""

    Symmetric = 0
    Asymmetric = 1


class Quantizer(OpSet):
    """The op that ``QuantizerBuilder`` loads.

    Codes, parameters and elements have the same bits on every rung and device. Elements may be
    float32 and bfloat16 as well as DeepSpeed's float16. A NaN or an infinity makes its whole group
    NaN. Autograd does not follow these functions.
    """

    name: ClassVar[str] = "quantizer"
    ops: ClassVar = (GroupQuantize, GroupDequantize, GroupReduce, HalfDequantize)
    functions: ClassVar[tuple[str, ...]] = (
        *("quantize", "dequantize", "dequantize_fp32"),
        *("dequantize_int4_to_half_experimental", "dequantize_int8_to_half_experimental"),
        *("swizzle_quant", "quantized_reduction"),
    )
    QuantizationType: ClassVar = QuantizationType
    Symmetric: ClassVar = QuantizationType.Symmetric
    Asymmetric: ClassVar = QuantizationType.Asymmetric

    def __init__(self, library: Implementation | None = None, *, backend: str = "cpu") -> None:
        super().__init__(library, backend=backend)
        self._quantize = self._loaded[GroupQuantize]
        self._dequantize = self._loaded[GroupDequantize]
        self._reduce = self._loaded[GroupReduce]
        # There is no Triton kernel for it.
        self._halves = HalfDequantize(None, backend=backend)

    def quantize(
        self, input_vals: Tensor, groups: int, num_bits: int, quant_type: Any
    ) -> list[Tensor]:
        """Return codes and the parameters of groups.

        Args:
            input_vals: float16, float32 or bfloat16.
            groups: a divisor of the number of elements; with 4 bits, groups and the last dimension
                are even.
            num_bits: 8 or 4.
            quant_type: ``Symmetric`` or ``Asymmetric``.

        Returns:
            Codes, int8 in the shape of `input_vals`, the last dimension halved with 4 bits; and
            parameters, float32, of shape (groups, 1), or (groups, 2) if asymmetric.

        Raises:
            TypeError: an argument has the wrong kind or element type.
            ValueError: a number is out of range.
        """
        asymmetric = _asymmetric(quant_type)
        codes, params = self._quantize(_plain(input_vals), groups, num_bits, asymmetric)
        shape = _with_last(input_vals.shape, 8 // num_bits, "input_vals")
        return [codes.view(shape), params]

    def dequantize(
        self, quantized_data: Tensor, params: Tensor, groups: int, num_bits: int, quant_type: Any
    ) -> Tensor:
        """Return the float16 elements of codes; see `quantize`."""
        return self._elements(quantized_data, params, groups, num_bits, quant_type, torch.float16)

    def dequantize_fp32(
        self, quantized_data: Tensor, params: Tensor, groups: int, num_bits: int, quant_type: Any
    ) -> Tensor:
        """Return the float32 elements of codes; see `quantize`."""
        return self._elements(quantized_data, params, groups, num_bits, quant_type, torch.float32)

    def _elements(
        self, quantized: Tensor, params: Tensor, groups: int, bits: int, kind: Any,
        dtype: torch.dtype,
    ) -> Tensor:  # fmt: skip
        found: Tensor = self._dequantize(
            _plain(quantized), _plain(params), groups, bits, _asymmetric(kind), dtype
        )
        *first, last = quantized.shape or (1,)
        return found.view(*first, last * (8 // bits))

    def dequantize_int4_to_half_experimental(
        self, data_in: Tensor, scale_buffer: Tensor, min_val_buffer: Tensor, num_group: int,
        group_size: int,
    ) -> Tensor:  # fmt: skip
        """Return ``code / scale + minimum`` of unsigned 4-bit codes, a byte's upper half first.

        Args:
            data_in: uint8 or int8 bytes, two codes each.
            scale_buffer: float16, one for each group.
            min_val_buffer: float16, one for each group.
            num_group: number of groups.
            group_size: elements of a group.

        Returns:
            A float16 tensor of shape (num_group, group_size).

        Raises:
            TypeError: an argument has the wrong kind or element type.
            ValueError: the numbers of bytes and groups do not match.
        """
        found: Tensor = self._halves(
            data_in, scale_buffer, min_val_buffer, num_group, group_size, 4
        )
        return found

    def dequantize_int8_to_half_experimental(
        self, data_in: Tensor, scale_buffer: Tensor, min_val_buffer: Tensor, num_group: int,
        group_size: int,
    ) -> Tensor:  # fmt: skip
        """Do the same as `dequantize_int4_to_half_experimental`, for bytes of one code each."""
        found: Tensor = self._halves(
            data_in, scale_buffer, min_val_buffer, num_group, group_size, 8
        )
        return found

    def swizzle_quant(
        self, input_vals: Tensor, groups: int, num_bits: int, quant_type: Any, pipeline_size: int,
        nodes: int, devices_per_node: int,
    ) -> list[Tensor]:  # fmt: skip
        """Return the result of `quantize`, flat, in the order in which nodes exchange groups.

        The tensor has nodes * devices_per_node partitions of pipeline_size pieces. The first pieces
        of all partitions come first, ordered by their index on their node, then by node.

        Raises:
            TypeError: an argument has the wrong kind or element type.
            ValueError: a number is out of range for `quantize`, or pieces are not whole groups.
        """
        return [
            *self._quantize(_plain(input_vals), groups, num_bits, _asymmetric(quant_type),
                            pipeline_size, nodes, devices_per_node)
        ]  # fmt: skip

    def quantized_reduction(
        self, input_vals: Tensor, input_scales: Tensor, in_groups: int, out_groups: int,
        num_bits: int, quant_type: Any, devices_per_node: int,
    ) -> list[Tensor]:  # fmt: skip
        """Return codes and parameters of the sum, in float16, of devices_per_node tensors.

        Args:
            input_vals: the codes of all tensors, one after the other.
            input_scales: the parameters of all groups, in the same order.
            in_groups: number of groups of all tensors together.
            out_groups: number of groups of the sum.
            num_bits: 8 or 4.
            quant_type: ``Symmetric`` or ``Asymmetric``.
            devices_per_node: number of tensors.

        Returns:
            Codes, with the last dimension divided by devices_per_node, and parameters.

        Raises:
            TypeError: an argument has the wrong kind or element type.
            ValueError: a number does not divide another as it must.
        """
        codes, params = self._reduce(
            _plain(input_vals), _plain(input_scales), in_groups, out_groups, num_bits,
            _asymmetric(quant_type), devices_per_node,
        )  # fmt: skip
        shape = _with_last(input_vals.shape, devices_per_node, "input_vals")
        return [codes.view(shape), params]


def _asymmetric(quant_type: Any) -> bool:
    """Return whether a kind is asymmetric; accepts DeepSpeed's own values, which are equal ints."""
    try:
        return bool(QuantizationType(int(quant_type)))
    except (TypeError, ValueError):
        raise ValueError(
            f"quant_type is {shown(quant_type)}; expected Symmetric (0) or Asymmetric (1)."
        ) from None


def _plain(tensor: Any) -> Any:
    """Return a tensor in contiguous memory; the checks report anything else."""
    if isinstance(tensor, Tensor) and tensor.layout is torch.strided:
        return tensor.contiguous()
    return tensor


def _with_last(shape: torch.Size, by: int, name: str) -> tuple[int, ...]:
    """Return a shape with its last dimension divided; raises `ValueError` if it cannot be."""
    *first, last = shape or (1,)
    if last % by:
        raise ValueError(
            f"{name} has {last} elements in its last dimension, which {by} does not divide."
        )
    return (*first, last // by)
