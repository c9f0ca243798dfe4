"""Triton kernels of quantizers in Triton's interpreter."""

from __future__ import annotations

import os

import pytest
import torch
from quantizer_cases import (
    BLOCKWISE_BITS,
    FP_BITS,
    QUANTIZER_BITS,
    blockwise_bits,
    fp_bits,
    numbers,
    quantizer_bits,
    same,
)

from accel.ops.frame.triton import TritonKernel
from accel.ops.quantizers.blockwise_quantizer import BlockwiseQuantizer
from accel.ops.quantizers.fp_quantizer import FPQuantizer
from accel.ops.quantizers.quantizer import Quantizer

# The interpreter computes by numpy, which warns of what kernels choose not to use.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


@pytest.fixture(scope="module")
def blockwise() -> BlockwiseQuantizer:
    """The op by its Triton kernels."""
    assert os.environ["TRITON_INTERPRET"] == "1"
    kernel = TritonKernel("accel.ops.quantizers.triton.blockwise_quantizer")
    made = BlockwiseQuantizer(kernel, backend="cpu")
    assert made.implementation == "portable"
    return made


def test_blockwise_has_the_bits(blockwise: BlockwiseQuantizer) -> None:
    assert blockwise_bits(blockwise) == BLOCKWISE_BITS


@pytest.mark.parametrize("numel", [1, 63, 65, 1025])
def test_blockwise_sizes(blockwise: BlockwiseQuantizer, numel: int) -> None:
    x, other = numbers(numel, torch.float16), BlockwiseQuantizer()
    for blocksize in (1, 3, 2048):
        left, right = (one.quantize_blockwise(x, None, blocksize) for one in (blockwise, other))
        assert all(map(same, left, right))
    packed, state = blockwise.quantize_4bit(x, 32, "fp4")
    assert same(packed, other.quantize_4bit(x, 32, "fp4")[0])
    assert same(blockwise.dequantize_4bit(packed, state), other.dequantize_4bit(packed, state))


def test_groups_have_the_bits() -> None:
    kernel = TritonKernel("accel.ops.quantizers.triton.quantizer")
    assert quantizer_bits(Quantizer(kernel, backend="cpu")) == QUANTIZER_BITS


def test_floats_have_the_bits() -> None:
    kernel = TritonKernel("accel.ops.quantizers.triton.fp_quantizer")
    assert fp_bits(FPQuantizer(kernel, backend="cpu")) == FP_BITS
