"""The functions of ``quantizer``, each as one declaration; the op has DeepSpeed's names."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from accel.ops.checks import shown
from accel.ops.frame.declaration import DeclaredOp
from accel.ops.quantizers import groups_reference as reference
from accel.ops.quantizers.blockwise import FLOATS, check_dtype

INTEGERS = (torch.int8,)
PARAMS = (torch.float32,)


class GroupQuantize(DeclaredOp):
    """Flat codes and the parameters of groups, in another order if there are partitions."""

    schema = (
        "group_quantize(Tensor vals, int groups, int bits, bool asymmetric, int pipeline=1, "
        "int nodes=1, int devices=1) -> (Tensor quantized, Tensor params)"
    )
    types: ClassVar = {"vals": FLOATS}
    sizes = ("vals.numel()", "threads()")
    examples: ClassVar = ()

    def check(
        self, vals: Tensor, groups: int, bits: int, asymmetric: bool, pipeline: int, nodes: int,
        devices: int,
    ) -> None:  # fmt: skip
        """Check that groups, and their partitions, are whole."""
        check_bits(bits)
        check_groups("vals", vals.numel(), groups, bits)
        for name, value in (
            ("pipeline_size", pipeline), ("nodes", nodes), ("devices_per_node", devices)
        ):  # fmt: skip
            if value < 1:
                raise ValueError(f"{name} is {shown(value)}; expected a number from 1 on.")
        if groups % (pipeline * nodes * devices):
            raise ValueError(
                f"groups is {groups}, which pipeline_size {pipeline} * nodes {nodes} * "
                f"devices_per_node {devices} does not divide."
            )

    def outputs(
        self, vals: Tensor, groups: int, bits: int, asymmetric: bool, *_: int
    ) -> tuple[Tensor, Tensor]:
        """Return uninitialized memory for bytes, and for parameters."""
        return room_for(vals.numel() * bits // 8, groups, asymmetric, vals.device)

    def reference(
        self, vals: Tensor, groups: int, bits: int, asymmetric: bool, pipeline: int, nodes: int,
        devices: int,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Return codes and parameters."""
        return reference.quantize(vals, groups, bits, asymmetric, (pipeline, nodes, devices))


class GroupDequantize(DeclaredOp):
    """The elements of codes, flat."""

    schema = (
        "group_dequantize(Tensor quantized, Tensor params, int groups, int bits, bool asymmetric, "
        "ScalarType dtype) -> Tensor"
    )
    types: ClassVar = {"quantized": INTEGERS, "params": PARAMS}
    sizes = ("quantized.numel()", "threads()")

    def check(
        self, quantized: Tensor, params: Tensor, groups: int, bits: int, asymmetric: bool,
        dtype: torch.dtype,
    ) -> None:  # fmt: skip
        """Check that groups are whole and have parameters."""
        check_bits(bits)
        check_dtype(dtype)
        check_groups("quantized_data", quantized.numel() * 8 // bits, groups, bits)
        check_params("params", params, groups, asymmetric)

    def outputs(
        self, quantized: Tensor, params: Tensor, groups: int, bits: int, asymmetric: bool,
        dtype: torch.dtype,
    ) -> Tensor:  # fmt: skip
        """Return uninitialized memory for the elements."""
        numel = quantized.numel() * 8 // bits
        return torch.empty((numel,), dtype=dtype, device=quantized.device)

    def reference(
        self, quantized: Tensor, params: Tensor, groups: int, bits: int, asymmetric: bool,
        dtype: torch.dtype,
    ) -> Tensor:  # fmt: skip
        """Return the elements, rounded to nearest."""
        return reference.dequantize(quantized, params, groups, bits, asymmetric).to(dtype)


class GroupReduce(DeclaredOp):
    """Codes and parameters of the sum of tensors whose codes follow one another."""

    schema = (
        "group_reduce(Tensor quantized, Tensor params, int in_groups, int out_groups, int bits, "
        "bool asymmetric, int devices) -> (Tensor reduced, Tensor new_params)"
    )
    types: ClassVar = {"quantized": INTEGERS, "params": PARAMS}
    sizes = ("quantized.numel()", "threads()")

    def check(
        self, quantized: Tensor, params: Tensor, in_groups: int, out_groups: int, bits: int,
        asymmetric: bool, devices: int,
    ) -> None:  # fmt: skip
        """Check that tensors and groups are whole and have parameters."""
        check_bits(bits)
        if devices < 1 or quantized.numel() % devices:
            raise ValueError(
                f"devices_per_node is {shown(devices)}; expected a divisor of input_vals' "
                f"{quantized.numel()} bytes."
            )
        if in_groups < 1 or in_groups % devices:
            raise ValueError(
                f"in_groups is {shown(in_groups)}; expected a multiple of devices_per_node, "
                f"{devices}."
            )
        numel = quantized.numel() * 8 // bits // devices
        check_groups("input_vals", numel, in_groups // devices, bits, "in_groups")
        check_groups("input_vals", numel, out_groups, bits, "out_groups")
        check_params("input_scales", params, in_groups, asymmetric)

    def outputs(
        self, quantized: Tensor, params: Tensor, in_groups: int, out_groups: int, bits: int,
        asymmetric: bool, devices: int,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Return uninitialized memory for bytes, and for parameters."""
        return room_for(quantized.numel() // devices, out_groups, asymmetric, quantized.device)

    def reference(
        self, quantized: Tensor, params: Tensor, in_groups: int, out_groups: int, bits: int,
        asymmetric: bool, devices: int,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Return codes and parameters."""
        return reference.reduce(quantized, params, in_groups, out_groups, bits, asymmetric, devices)


class HalfDequantize(DeclaredOp):
    """``code / scale + minimum`` in float16; the first of two 4-bit codes is in the upper half."""

    schema = (
        "half_dequantize(Tensor data_in, Tensor scale_buffer, Tensor min_val_buffer, "
        "int num_group, int group_size, int bits) -> Tensor"
    )
    types: ClassVar = {
        "data_in": (torch.uint8, torch.int8),
        "scale_buffer": (torch.float16,),
        "min_val_buffer": (torch.float16,),
    }
    native = False

    def check(
        self, data_in: Tensor, scale_buffer: Tensor, min_val_buffer: Tensor, num_group: int,
        group_size: int, bits: int,
    ) -> None:  # fmt: skip
        """Check that the numbers of bytes, scales and minima fit the groups."""
        if num_group < 0 or group_size < 0 or data_in.numel() * 8 != num_group * group_size * bits:
            raise ValueError(
                f"data_in has {data_in.numel()} bytes, which is not the size of num_group "
                f"{shown(num_group)} * group_size {shown(group_size)} codes of {bits} bits."
            )
        for name, one in (("scale_buffer", scale_buffer), ("min_val_buffer", min_val_buffer)):
            if one.numel() != num_group:
                raise ValueError(f"{name} has {one.numel()} elements; num_group is {num_group}.")

    def outputs(
        self, data_in: Tensor, scale_buffer: object, min_val_buffer: object, num_group: int,
        group_size: int, bits: int,
    ) -> Tensor:  # fmt: skip
        """Return uninitialized memory for the elements."""
        shape = (num_group, group_size)
        return torch.empty(shape, dtype=torch.float16, device=data_in.device)

    def reference(
        self, data_in: Tensor, scale_buffer: Tensor, min_val_buffer: Tensor, num_group: int,
        group_size: int, bits: int,
    ) -> Tensor:  # fmt: skip
        """Return the elements; first the quotient is rounded, then the sum."""
        codes = data_in.reshape(-1)
        if codes.dtype != torch.uint8:
            codes = codes.contiguous().view(torch.uint8)
        if bits == 4:
            codes = torch.stack([codes >> 4, codes & 15], dim=1)
        rows = codes.reshape(num_group, group_size).float()
        quotient = (rows / scale_buffer.reshape(-1, 1).float()).half().float()
        return (quotient + min_val_buffer.reshape(-1, 1).float()).half()


def room_for(
    size: int, groups: int, asymmetric: bool, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return uninitialized bytes of codes, and parameters of groups."""
    return (
        torch.empty((size,), dtype=torch.int8, device=device),
        torch.empty((groups, 1 + asymmetric), dtype=torch.float32, device=device),
    )


def check_bits(bits: int) -> None:
    """Raise `ValueError` unless codes have 8 or 4 bits."""
    if bits not in (4, 8):
        raise ValueError(f"num_bits is {shown(bits)}; expected 8 or 4.")


def check_groups(name: str, numel: int, groups: int, bits: int, told: str = "groups") -> None:
    """Raise `ValueError` unless groups divide the elements, and no byte belongs to two groups."""
    if groups < 1 or numel % groups:
        raise ValueError(
            f"{told} is {shown(groups)}; expected a divisor of the {numel} elements of {name}."
        )
    if bits == 4 and numel // groups % 2:
        raise ValueError(
            f"{told} is {groups}: groups of {numel // groups} elements of {name} would end inside "
            f"a byte of two 4-bit codes; their size must be even."
        )


def check_params(name: str, params: Tensor, groups: int, asymmetric: bool) -> None:
    """Raise `ValueError` unless every group has its parameters."""
    if params.numel() != groups * (1 + asymmetric):
        raise ValueError(
            f"{name} has {params.numel()} elements; {groups} groups need "
            f"{groups * (1 + asymmetric)}."
        )
