"""Bad input of ``blockwise_quantizer``: refused by name, the same on every rung."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from quantizer_cases import numbers, rungs
from torch import Tensor

from accel.ops.quantizers.quant_state import QuantState


@pytest.fixture(scope="module")
def ops() -> dict[str, Any]:
    return rungs()


X = numbers(100, torch.float32)
CODES = torch.zeros(100, dtype=torch.uint8)
ONE = torch.ones(1, dtype=torch.float32)
MAP = torch.linspace(-1, 1, 256, dtype=torch.float32)


def state(**changes: Any) -> QuantState:
    given: dict[str, Any] = {"absmax": torch.ones(2), "shape": (100,), "quant_type": "nf4"}
    return QuantState(**{**given, **changes})


BYTES = torch.zeros(50, 1, dtype=torch.uint8)
BAD: dict[str, tuple[Callable[[Any], Any], type[Exception], str]] = {
    "a list": (lambda op: op.quantize_blockwise([1.0]), TypeError, "a is a list"),
    "doubles": (lambda op: op.quantize_blockwise(X.double()), TypeError, "a has dtype"),
    "integers": (lambda op: op.quantize_4bit(X.int()), TypeError, "a has dtype"),
    "complex": (lambda op: op.quantize_4bit(X + 0j), TypeError, "a has dtype"),
    "sparse": (lambda op: op.quantize_4bit(X.to_sparse()), TypeError, "a has layout"),
    "no block": (lambda op: op.quantize_blockwise(X, None, 0), ValueError, "blocksize is 0"),
    "a negative block": (
        lambda op: op.dequantize_blockwise(CODES, ONE, None, -256), ValueError, "blocksize is -256"
    ),
    "half a block": (lambda op: op.quantize_blockwise(X, None, 2.5), TypeError, "blocksize is 2.5"),
    "a yes": (lambda op: op.quantize_blockwise(X, None, True), TypeError, "blocksize is True"),
    "another block of 4 bits": (
        lambda op: op.quantize_4bit(X, 100), ValueError, "blocksize is 100"
    ),
    "another kind": (
        lambda op: op.quantize_4bit(X, 64, "int4"), ValueError, "quant_type is 'int4'"
    ),
    "a map of 16": (
        lambda op: op.quantize_blockwise(X, MAP[:16]), ValueError, "code has shape"
    ),
    "a map of halves": (
        lambda op: op.quantize_blockwise(X, MAP.half()), TypeError, "code has dtype"
    ),
    "a map by name": (
        lambda op: op.quantize_blockwise(X, "dynamic"), TypeError, "code is a str"
    ),
    "a small map back": (
        lambda op: op.dequantize_blockwise(CODES, ONE, MAP[:9]), ValueError, "code has shape"
    ),
    "signed codes": (
        lambda op: op.dequantize_blockwise(CODES.char(), ONE), TypeError, "coded has dtype"
    ),
    "too few magnitudes": (
        lambda op: op.dequantize_blockwise(CODES, ONE, None, 64), ValueError, "absmax has 1"
    ),
    "magnitudes of halves": (
        lambda op: op.dequantize_blockwise(CODES, ONE.half()), TypeError, "absmax has dtype"
    ),
    "no magnitudes": (
        lambda op: op.dequantize_blockwise(CODES, None), TypeError, "absmax is a NoneType"
    ),
    "doubles back": (
        lambda op: op.dequantize_blockwise(CODES, ONE, dtype=torch.float64), TypeError, "dtype is"
    ),
    "a type by name": (
        lambda op: op.dequantize_blockwise(CODES, ONE, dtype="float32"), TypeError, "dtype is"
    ),
    "no state": (lambda op: op.dequantize_4bit(BYTES, None), TypeError, "quant_state is a None"),
    "a state of 8 bits": (
        lambda op: op.dequantize_4bit(BYTES, state(quant_type=None)), ValueError, "quant_state has"
    ),
    "a state of other bytes": (
        lambda op: op.dequantize_4bit(BYTES[1:], state()), ValueError, "packed has 49 bytes"
    ),
    "a state of other blocks": (
        lambda op: op.dequantize_4bit(BYTES, state(blocksize=32)), ValueError, "absmax has 2"
    ),
    "a storage that does not fit": (
        lambda op: op.quantize_4bit(X[:6], quant_storage=torch.float32), ValueError, "quant_storage"
    ),
    "a storage by name": (
        lambda op: op.quantize_4bit(X, quant_storage="uint8"), TypeError, "quant_storage"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_calls_are_refused_by_name(op: Any, name: str) -> None:
    call, error, words = BAD[name]
    with pytest.raises(error, match=words):
        call(op)


def test_states_that_are_not_whole() -> None:
    packed = state().as_dict(packed=True)
    del packed["absmax"]
    with pytest.raises(ValueError, match="absmax"):
        QuantState.from_dict(packed, "cpu")
    with pytest.raises(ValueError, match="more"):
        QuantState.from_dict({**state().as_dict(), "more": 1}, "cpu")


_JSON = "quant_state.bitsandbytes__nf4"


def _text(text: bytes) -> Tensor:
    return torch.tensor([*text], dtype=torch.uint8)


@pytest.mark.parametrize(
    "text",
    [
        _text(b'{"quant_type": "nf4", "bloc'), _text(b"\xff\xfe"), _text(b""), _text(b"[1, 2]"),
        _text(b'{"a": 1}').to(torch.bfloat16), _text(b'{"a": 1}').int() * 100,
        _text(b"[" * 100_000),
    ],
    ids=["cut", "no text", "empty", "no object", "cast", "no bytes", "deep"],
)  # fmt: skip
def test_damaged_states_are_refused_by_name(text: Tensor) -> None:
    packed = {**state().as_dict(packed=True), _JSON: text}
    prefixed = {f"layer.{key}": value for key, value in packed.items()}
    match = rf"entry 'layer\.{_JSON}' .*; expected a JSON object"
    with pytest.raises(ValueError, match=match) as found:
        QuantState.from_dict(prefixed, "cpu")
    assert not isinstance(found.value, json.JSONDecodeError)


@pytest.mark.parametrize(
    "damage",
    [{"absmax": None}, {"dtype": "float33"}, {"dtype": "nn"}, {"dtype": 5}, {"blocksize": "64"},
     {"blocksize": True}, {"quant_map": [0.0]}, {"shape": 100}],
    ids=str,
)  # fmt: skip
def test_entries_of_another_kind_are_refused_by_name(damage: dict[str, Any]) -> None:
    (key,) = damage
    with pytest.raises(ValueError, match=f"entry '{key}' is "):
        QuantState.from_dict({**state().as_dict(), **damage}, "cpu")


def test_gradients_are_not_followed(op: Any) -> None:
    x = X.clone().requires_grad_()
    codes, absmax = op.quantize_blockwise(x)
    assert not codes.requires_grad
    with pytest.raises(RuntimeError, match="derivative"):
        absmax.sum().backward()


def test_memory_that_is_gone(op: Any) -> None:
    gone: Tensor = X.clone()
    gone.untyped_storage().resize_(0)
    with pytest.raises(ValueError, match="a "):
        op.quantize_blockwise(gone)
