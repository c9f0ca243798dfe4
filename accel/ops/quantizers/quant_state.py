"""`QuantState`: the data that decodes a quantized tensor, in bitsandbytes' form."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from accel.ops.quantizers.codes import QUANT_TYPES, four_bit
from accel.ops.quantizers.reference import values_on

_PACKED = "quant_state.bitsandbytes__"
_NESTED = ("nested_absmax", "nested_quant_map", "nested_blocksize", "nested_dtype", "nested_offset")
_NEEDED = ("absmax", "blocksize", "dtype", "quant_type", "shape")
_KINDS: tuple[tuple[tuple[str, ...], tuple[type, ...], str], ...] = (
    (("absmax", "nested_absmax", "nested_quant_map"), (Tensor,), "a tensor"),
    (("quant_map",), (Tensor, type(None)), "a tensor or None"),
    (("blocksize", "nested_blocksize"), (int,), "an int"),
    (("dtype", "nested_dtype"), (str,), "a name"),
    (("nested_offset",), (int, float), "a number"),
    (("shape",), (list, tuple, type(None)), "a list of ints"),
)
"""What entries have to be, and how an error says so."""


class QuantState:
    """The state of 4-bit codes, or of the statistics of compressed ones.

    Args:
        absmax: the largest magnitude of each block, float32; if compressed, uint8 codes of them.
        shape: the tensor's shape.
        code: the value of each code; default for 4-bit codes: those of `quant_type`.
        blocksize: elements of a block.
        quant_type: ``"nf4"`` or ``"fp4"``; ``None`` for the state of statistics.
        dtype: the tensor's element type.
        offset: if compressed, the float32 scalar that was subtracted from all magnitudes.
        state2: if compressed, the state of the codes of the magnitudes.
    """

    def __init__(
        self,
        absmax: Tensor,
        shape: Sequence[int] | None = None,
        code: Tensor | None = None,
        blocksize: int = 64,
        quant_type: str | None = None,
        dtype: torch.dtype = torch.float32,
        offset: Tensor | None = None,
        state2: QuantState | None = None,
    ) -> None:
        self.absmax = absmax
        self.shape = None if shape is None else torch.Size(shape)
        self.blocksize = blocksize
        self.quant_type = quant_type
        self.dtype = dtype
        self.offset = offset
        self.state2 = state2
        self._code = code

    @property
    def nested(self) -> bool:
        """True if the magnitudes are compressed."""
        return self.state2 is not None

    @property
    def code(self) -> Tensor | None:
        """The value of each code, on the state's device; ``None`` for the dynamic map."""
        if self._code is None and self.quant_type is not None:
            return values_on(four_bit(self.quant_type).values, self.absmax.device)
        return self._code

    def as_dict(self, packed: bool = False) -> dict[str, Any]:
        """Return the state as bitsandbytes' ``QuantState.as_dict`` does.

        Args:
            packed: whether all values are tensors, as safetensors needs them; other values are
                stored as JSON in the bytes of a tensor.
        """
        found: dict[str, Any] = {
            "quant_type": self.quant_type,
            "absmax": self.absmax,
            "blocksize": self.blocksize,
            "quant_map": self.code,
            "dtype": str(self.dtype).removeprefix("torch."),
            "shape": None if self.shape is None else tuple(self.shape),
        }
        if self.state2 is not None and self.offset is not None:
            code = self.state2.code
            found |= {
                "nested_absmax": self.state2.absmax,
                "nested_blocksize": self.state2.blocksize,
                "nested_quant_map": None if code is None else code.clone(),
                "nested_dtype": str(self.state2.dtype).removeprefix("torch."),
                "nested_offset": self.offset.item(),
            }
        if not packed or self.quant_type is None:
            return found
        tensors = {key: value for key, value in found.items() if isinstance(value, Tensor)}
        others = {key: value for key, value in found.items() if key not in tensors}
        text = torch.tensor([*json.dumps(others).encode()], dtype=torch.uint8, device="cpu")
        return {**tensors, _PACKED + self.quant_type: text}

    @classmethod
    def from_dict(cls, qs_dict: Mapping[str, Any], device: torch.device | str) -> QuantState:
        """Return a state from the result of `as_dict`, here or in bitsandbytes.

        Keys may have prefixes.

        Raises:
            ValueError: an entry is missing, damaged, or does not belong to a state.
        """
        found = _unpacked(qs_dict)
        nested = "nested_absmax" in found
        missing = [key for key in (*_NEEDED, *_NESTED[: 5 * nested]) if key not in found]
        unknown = sorted({*found} - {*_NEEDED, *_NESTED, "quant_map"})
        if missing or unknown:
            raise ValueError(
                f"The quantization state lacks {missing} and has the unknown entries {unknown}; "
                f"pass all of a state's entries, and no others."
            )
        if found["quant_type"] not in QUANT_TYPES:
            raise ValueError(f"quant_type is {found['quant_type']!r}; expected one of nf4, fp4.")
        _check_kinds(found)
        inner = offset = None
        if nested:
            offset = torch.tensor(found["nested_offset"], dtype=torch.float32, device=device)
            inner = cls(
                found["nested_absmax"].to(device),
                code=found["nested_quant_map"].to(device),
                blocksize=found["nested_blocksize"],
                dtype=_dtype(found, "nested_dtype"),
            )
        code = found.get("quant_map")
        return cls(
            found["absmax"].to(device),
            found["shape"],
            None if code is None else code.to(device),
            found["blocksize"],
            found["quant_type"],
            _dtype(found, "dtype"),
            offset,
            inner,
        )


def _unpacked(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return entries by the last part of their names, including those in the bytes of a tensor."""
    found: dict[str, Any] = {}
    for key, value in given.items():
        last = key.rpartition(".")[2]
        if last.startswith("bitsandbytes__") and isinstance(value, Tensor):
            found |= _entries(key, value)
        else:
            found[last] = value
    return found


def _entries(key: str, text: Tensor) -> dict[str, Any]:
    """Return the entries in the bytes of a tensor; raises `ValueError` naming its key."""
    try:
        entries = json.loads(bytes(text.cpu().tolist()).decode())
        problem = f"are a JSON {type(entries).__name__}"
    except (TypeError, ValueError, RecursionError) as error:
        entries, problem = None, f"are no JSON: {error}"
    if not isinstance(entries, dict):
        raise ValueError(
            f"The bytes in the quantization state's entry {key!r} {problem}; expected a JSON "
            f"object. The entry is damaged, or was cast to another type: restore it as it was "
            f"saved."
        )
    return entries


def _check_kinds(found: Mapping[str, Any]) -> None:
    """Raise `ValueError` naming an entry of another kind than `as_dict` returns."""
    for keys, kinds, expected in _KINDS:
        for key in keys:
            value = found.get(key)
            if key in found and (isinstance(value, bool) or not isinstance(value, kinds)):
                raise ValueError(
                    f"The quantization state's entry {key!r} is a {type(value).__name__}; expected "
                    f"{expected}. It is damaged: restore it as it was saved."
                )


def _dtype(found: Mapping[str, Any], key: str) -> torch.dtype:
    """Return the type that an entry names; raises `ValueError` if there is none."""
    named = getattr(torch, found[key], None)
    if not isinstance(named, torch.dtype):
        raise ValueError(
            f"The quantization state's entry {key!r} is {found[key]!r}, which is no type of "
            f"torch's; expected a name such as 'bfloat16'."
        )
    return named
