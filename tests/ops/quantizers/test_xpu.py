"""SYCL kernels of quantizers on the SYCL CPU device."""

from __future__ import annotations

import ctypes
from typing import Any

import pytest
import torch
from quantizer_cases import (
    BLOCKWISE_BITS,
    FP_BITS,
    QUANTIZER_BITS,
    TYPES,
    blockwise_bits,
    fp_bits,
    numbers,
    quantizer_bits,
    rungs,
    same,
    special,
)
from sycl_device import SyclDevice
from torch import Tensor

pytestmark = pytest.mark.xpu


@pytest.fixture(scope="module")
def blockwise(sycl_device: SyclDevice) -> Any:
    return sycl_device.op("blockwise_quantizer")


def test_blockwise_has_the_bits(blockwise: Any) -> None:
    assert blockwise.implementation == "jit"
    assert blockwise_bits(blockwise) == BLOCKWISE_BITS


def test_groups_have_the_bits(sycl_device: SyclDevice) -> None:
    assert quantizer_bits(sycl_device.op("quantizer")) == QUANTIZER_BITS


def test_floats_have_the_bits(sycl_device: SyclDevice) -> None:
    assert fp_bits(sycl_device.op("fp_quantizer")) == FP_BITS


@pytest.mark.parametrize("dtype", TYPES)
def test_blockwise_takes_any_address_and_size(blockwise: Any, dtype: torch.dtype) -> None:
    native = rungs()["native"]
    for numel, first in ((1, 0), (1025, 0), (1001, 1), (70_001, 0)):
        x = special(numel + first + 3000, dtype)[first : first + numel]
        for blocksize in (1, 64, 99, 4096):
            codes, absmax = blockwise.quantize_blockwise(x, None, blocksize)
            assert all(map(same, (codes, absmax), native.quantize_blockwise(x, None, blocksize)))
            call = (absmax, None, blocksize, dtype)
            shifted = torch.cat([codes[:1], codes])[1:]
            back = native.dequantize_blockwise(codes, *call)
            assert same(blockwise.dequantize_blockwise(shifted, *call), back)
        packed, state = blockwise.quantize_4bit(x, 64, "fp4")
        assert same(packed, native.quantize_4bit(x, 64, "fp4")[0])
        left, right = (op.dequantize_4bit(packed, state) for op in (blockwise, native))
        assert same(left, right)


@pytest.mark.parametrize("first", [16, 17], ids=["aligned", "unaligned"])
def test_nothing_is_written_beside_the_results(sycl_device: SyclDevice, first: int) -> None:
    library = sycl_device.library("blockwise_quantizer", "quantizers").handle
    room, sizes = torch.full((300,), 7, dtype=torch.uint8), torch.full((8,), 7.0)
    x, back = numbers(101, torch.float32), torch.full((140,), 7.0, dtype=torch.float16)
    codes, absmax = room[first : first + 101], sizes[2:4]
    queue, (blocksize, numel, threads) = (
        pointer(sycl_device.queue),
        map(ctypes.c_int64, (64, 101, 1)),
    )
    status = library.accel_blockwise_encode(
        *pointers(x, None, None, codes, absmax), blocksize, numel, threads, 0, queue
    )
    sycl_device.wait()
    assert status == 0
    elements = back[first : first + 101]
    status = library.accel_blockwise_decode(
        *pointers(codes, absmax, None, elements), blocksize, 2, numel, threads, 5, queue
    )
    sycl_device.wait()
    assert status == 0 and float((elements.float() - x).abs().max()) < 0.02
    for whole, size in ((room, 101), (back, 101), (sizes, 2)):
        start = 2 if whole is sizes else first
        assert bool((whole[:start] == 7).all()) and bool((whole[start + size :] == 7).all())


def pointer(address: int | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(address)


def pointers(*tensors: Tensor | None) -> list[ctypes.c_void_p]:
    return [pointer(None if one is None else one.data_ptr()) for one in tensors]
