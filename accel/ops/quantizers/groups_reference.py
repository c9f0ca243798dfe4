"""``quantizer`` in plain PyTorch: the formulas of ``accel/quantizer.h``."""

from __future__ import annotations

import torch
from torch import Tensor


def quantize(
    vals: Tensor, groups: int, bits: int, asymmetric: bool, cut: tuple[int, int, int]
) -> tuple[Tensor, Tensor]:
    """Return flat codes and parameters, with the groups in the order that `cut` gives.

    `cut` has the numbers of pieces, nodes and devices.
    """
    codes, params = _encode(vals.reshape(groups, -1).float(), bits, asymmetric)
    if cut != (1, 1, 1):
        codes, params = _swizzled(codes, cut), _swizzled(params, cut)
    return codes.reshape(-1), params


def dequantize(
    quantized: Tensor, params: Tensor, groups: int, bits: int, asymmetric: bool
) -> Tensor:
    """Return flat float32 elements."""
    codes = _unpacked(quantized.reshape(-1), bits).reshape(groups, -1).float()
    params = params.reshape(groups, -1)
    offset = params[:, 1:] if asymmetric else 0.0
    return (codes * params[:, :1] + offset).reshape(-1)


def reduce(
    quantized: Tensor,
    params: Tensor,
    in_groups: int,
    out_groups: int,
    bits: int,
    asymmetric: bool,
    devices: int,
) -> tuple[Tensor, Tensor]:
    """Return codes and parameters of the sum, each part and each sum rounded to float16."""
    values = dequantize(quantized, params, in_groups, bits, asymmetric).half()
    total = torch.zeros_like(values.view(devices, -1)[0])
    for one in values.view(devices, -1):
        total = (total.float() + one.float()).half()
    codes, new_params = _encode(total.view(out_groups, -1).float(), bits, asymmetric)
    return codes.reshape(-1), new_params


def _encode(rows: Tensor, bits: int, asymmetric: bool) -> tuple[Tensor, Tensor]:
    limit = 2.0 ** (bits - 1)
    if not rows.numel():
        step = torch.ones((len(rows), 1), dtype=torch.float32, device=rows.device)
        params = torch.cat([step, step * 0], dim=1) if asymmetric else step
        return rows.to(torch.int8), params
    if asymmetric:
        least, most = rows.amin(dim=1, keepdim=True), rows.amax(dim=1, keepdim=True)
        half, offset = most / 2 - least / 2, most / 2 + least / 2 + 0.0
    else:
        half, offset = rows.abs().amax(dim=1, keepdim=True), None
    # torch divides a number by a tensor as a product with the reciprocal, which rounds twice.
    scale = torch.where(half == 0.0, 1.0, torch.full_like(half, limit) / half)
    y = (rows if offset is None else rows - offset) * scale
    codes = y.clamp(-limit, limit - 1).nan_to_num(0.0).round().to(torch.int8)
    params = scale.reciprocal()
    if offset is not None:
        params = torch.cat([params, offset], dim=1)
    if bits == 4:
        pairs = codes.reshape(-1, 2).to(torch.int16)
        codes = (pairs[:, 0] & 15 | pairs[:, 1] << 4).to(torch.int8).reshape(len(rows), -1)
    return codes, params


def _unpacked(flat: Tensor, bits: int) -> Tensor:
    """Return one code per element."""
    if bits == 8:
        return flat
    wide = flat.to(torch.int16)
    both = torch.stack([wide & 15, wide >> 4 & 15], dim=1).reshape(-1)
    return both - (both & 8) * 2


def _swizzled(rows: Tensor, cut: tuple[int, int, int]) -> Tensor:
    """Return rows in the order of pieces, devices of a node, and nodes."""
    pieces, nodes, devices = cut
    contiguous = len(rows) // (pieces * nodes * devices)
    split = rows.view(nodes, devices, pieces, contiguous, -1)
    return split.permute(2, 1, 0, 3, 4).reshape(len(rows), -1)
