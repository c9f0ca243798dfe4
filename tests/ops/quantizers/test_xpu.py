"""SYCL kernels of quantizers on the SYCL CPU device."""

from __future__ import annotations

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
            assert all(
                map(same, (codes, absmax), native.quantize_blockwise(x, None, blocksize))
            )
            call = (absmax, None, blocksize, dtype)
            shifted = torch.cat([codes[:1], codes])[1:]
            back = native.dequantize_blockwise(codes, *call)
            assert same(blockwise.dequantize_blockwise(shifted, *call), back)
        packed, state = blockwise.quantize_4bit(x, 64, "fp4")
        assert same(packed, native.quantize_4bit(x, 64, "fp4")[0])
        left, right = (op.dequantize_4bit(packed, state) for op in (blockwise, native))
        assert same(left, right)


def test_neighbours_keep_their_bytes(blockwise: Any) -> None:
    """Nothing is written beside the codes, the magnitudes and the elements."""
    room = torch.full((300,), 7, dtype=torch.uint8)
    x = numbers(101, torch.float32)
    for first in (16, 17):
        codes, absmax = room[first : first + 101], torch.full((8,), 7.0)
        library = blockwise._loaded
        del library  # the op allocates its results, so the library is called itself
        status = call_encode(blockwise, x, codes, absmax[2:4])
        assert status == 0
        assert bool((room[:first] == 7).all()) and bool((room[first + 101 :] == 7).all())
        assert absmax[:2].tolist() == [7.0] * 2 and absmax[4:].tolist() == [7.0] * 4
        room.fill_(7)
