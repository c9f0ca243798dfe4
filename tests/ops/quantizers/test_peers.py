"""bitsandbytes' formats, as recorded from it and beside its own functions if it is installed."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from quantizer_cases import TYPES, numbers, rungs, same
from torch import Tensor

from accel.ops.quantizers.codes import QUANT_TYPES, dynamic_map, four_bit
from accel.ops.quantizers.quant_state import QuantState

# Made by bitsandbytes 0.50.2 on a CPU, of RAMP in blocks of 32.
RAMP = torch.arange(-32, 32, dtype=torch.float32) ** 3 / 1000
RECORDED: dict[str, list[int]] = {
    "nf4": [
        0, 17, 18, 34, 51, 68, 69, 85, 102, 102, 103, 119, 119, 119, 119, 119, 119, 119, 119, 119,
        119, 120, 136, 136, 153, 154, 171, 188, 205, 222, 238, 255
    ],
    "fp4": [
        187, 170, 170, 221, 220, 207, 255, 238, 238, 153, 153, 153, 153, 153, 0, 0, 8, 136, 129,
        17, 17, 17, 17, 102, 102, 103, 116, 68, 85, 34, 34, 51
    ],
    "dynamic": [
        0, 6, 12, 18, 23, 28, 32, 37, 41, 44, 48, 51, 53, 56, 58, 60, 62, 63, 69, 75, 80, 85, 88,
        91, 94, 96, 102, 107, 110, 113, 118, 123, 131, 132, 136, 142, 145, 148, 154, 159, 161, 164,
        167, 171, 176, 181, 188, 191, 193, 195, 197, 200, 202, 205, 209, 212, 216, 221, 225, 230,
        236, 242, 248, 255
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def ops() -> dict[str, Any]:
    return rungs()


@pytest.fixture(scope="module")
def peer() -> Any:
    logging.disable(logging.WARNING)
    functional = pytest.importorskip("bitsandbytes.functional")
    logging.disable(logging.NOTSET)
    return functional


def test_the_codes_that_were_recorded(op: Any) -> None:
    for kind in QUANT_TYPES:
        packed, state = op.quantize_4bit(RAMP, 32, kind)
        recorded = torch.tensor(RECORDED[kind], dtype=torch.uint8)
        # fp4 has two codes of 0.
        assert kind == "fp4" or torch.equal(packed.flatten(), recorded)
        assert torch.equal(state.absmax, RAMP.view(2, 32).abs().amax(1))
        assert torch.equal(op.dequantize_4bit(recorded, state), op.dequantize_4bit(packed, state))
    recorded = torch.tensor(RECORDED["dynamic"], dtype=torch.uint8)
    codes, absmax = op.quantize_blockwise(RAMP, blocksize=32)
    assert never_further(op, RAMP, codes, recorded, absmax, 32)
    assert (codes != recorded).nonzero().flatten().tolist() == [24, 27, 32]
    assert op.dequantize_blockwise(codes, absmax, blocksize=32)[32] == 0


def never_further(
    op: Any, x: Tensor, codes: Tensor, theirs: Tensor, absmax: Tensor, blocksize: int
) -> bool:
    """Whether codes are as near as bitsandbytes', some of which are next to the nearest."""
    ours, other = (
        (op.dequantize_blockwise(one, absmax, None, blocksize).double() - x.double()).abs()
        for one in (codes, theirs)
    )
    return bool((ours <= other * (1 + 1e-5)).all())


def test_a_state_there_and_back(op: Any) -> None:
    for compress in (False, True):
        for packed in (False, True):
            x = numbers(40 * 64, torch.bfloat16).view(40, 64)
            codes, state = op.quantize_4bit(x, 64, "fp4", compress)
            kept = state.as_dict(packed=packed)
            assert not packed or all(isinstance(one, Tensor) for one in kept.values())
            prefixed = {f"layer.weight.{key}": value for key, value in kept.items()}
            again = QuantState.from_dict(prefixed, "cpu")
            assert len(prefixed) == len(kept), "what is given stays as it is"
            assert (again.shape, again.dtype) == (x.shape, torch.bfloat16)
            assert same(op.dequantize_4bit(codes, again), op.dequantize_4bit(codes, state))


def test_storage_of_another_type(op: Any) -> None:
    x = numbers(128, torch.float32)
    codes, state = op.quantize_4bit(x)
    stored, _ = op.quantize_4bit(x, quant_storage=torch.bfloat16)
    assert stored.shape == (32, 1) and stored.dtype == torch.bfloat16
    assert same(op.dequantize_4bit(stored, state), op.dequantize_4bit(codes, state))
    matrix = QuantState(state.absmax, (8, 16), quant_type="nf4")
    row = op.dequantize_4bit(codes.t(), matrix)
    assert same(row, op.dequantize_4bit(codes, matrix).t())


def test_the_peers_maps(peer: Any) -> None:
    assert torch.equal(torch.tensor(dynamic_map(), dtype=torch.float32), peer.create_dynamic_map())
    for kind in QUANT_TYPES:
        ours = torch.tensor(four_bit(kind).values, dtype=torch.float32)
        assert torch.equal(ours, peer.get_4bit_type(kind, device="cpu"))


@pytest.mark.parametrize("dtype", TYPES)
def test_beside_the_peer(peer: Any, op: Any, dtype: torch.dtype) -> None:
    x = numbers(64 * 256, dtype).view(64, 256)
    for kind in QUANT_TYPES:
        for compress in (False, True):
            theirs, their_state = peer.quantize_4bit(x, None, None, 64, compress, kind)
            ours, our_state = op.quantize_4bit(x, 64, kind, compress)
            if kind == "nf4":
                assert torch.equal(ours, theirs)
            if not compress:
                assert torch.equal(our_state.absmax, their_state.absmax)
            for codes, state in ((ours, our_state), (theirs, their_state)):
                assert same(op.dequantize_4bit(codes, state), peer.dequantize_4bit(codes, state))
            read = peer.QuantState.from_dict(our_state.as_dict(packed=True), torch.device("cpu"))
            assert same(peer.dequantize_4bit(ours, read), op.dequantize_4bit(ours, our_state))
            written = QuantState.from_dict(their_state.as_dict(packed=True), "cpu")
            back = op.dequantize_4bit(theirs, written)
            assert same(back, peer.dequantize_4bit(theirs, their_state))
    theirs, state = peer.quantize_blockwise(x, blocksize=256)
    codes, absmax = op.quantize_blockwise(x)
    assert torch.equal(absmax, state.absmax)
    assert never_further(op, x, codes, theirs, absmax, 256)
    assert float((codes != theirs).float().mean()) < 0.02
    back = op.dequantize_blockwise(theirs, state.absmax, dtype=dtype)
    assert same(back, peer.dequantize_blockwise(theirs, state))
