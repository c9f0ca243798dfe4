"""Schemas in torch's own notation, read without torch."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from inspect import Parameter, Signature
from typing import Any

from accel.record import Record

KINDS = frozenset({"Tensor", "int", "SymInt", "float", "bool", "str", "ScalarType"})
_HEAD = re.compile(r"\s*(?P<name>[a-z_]\w*)\s*\((?P<arguments>.*)\)\s*->\s*(?P<returns>.+?)\s*")
_TYPE = re.compile(
    r"(?P<kind>[A-Za-z]+)(?:\((?P<alias>[a-z])(?P<written>!)?\))?(?P<listed>\[\])?(?P<optional>\?)?"
)
_NAME = re.compile(r"(?P<name>[A-Za-z_]\w*)(?:\s*=\s*(?P<default>.+))?")
_DEFAULTS: Mapping[str, tuple[type, ...]] = {
    "int": (int,),
    "SymInt": (int,),
    "float": (int, float),
    "bool": (bool,),
    "str": (str,),
}
_WORDS: Mapping[str, Any] = {"None": None, "True": True, "False": False}


class Kind(Record):
    """The type of an argument or of a result.

    Attributes:
        name: one of `KINDS`.
        listed: whether it is a list.
        optional: whether it may be ``None``.
        alias: the letter that it has in common with values that share its memory, or ``""``.
        written: whether the call writes it.
    """

    name: str
    listed: bool = False
    optional: bool = False
    alias: str = ""
    written: bool = False

    @property
    def is_tensor(self) -> bool:
        """True for a tensor or a list of tensors."""
        return self.name == "Tensor"


class Argument(Record):
    """One argument of a schema.

    Attributes:
        name: its name.
        kind: its type.
        default: its default, or `Parameter.empty`.
        by_name: whether it is given by name only.
    """

    name: str
    kind: Kind
    default: Any = Parameter.empty
    by_name: bool = False


class Schema(Record):
    """A function's name, arguments and results.

    Attributes:
        name: the function's name.
        arguments: in order.
        returns: types of the results, in order.
        text: the schema as it was written.
    """

    name: str
    arguments: tuple[Argument, ...]
    returns: tuple[Kind, ...]
    text: str

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all arguments."""
        return tuple(argument.name for argument in self.arguments)

    @property
    def tensors(self) -> tuple[Argument, ...]:
        """The arguments that are tensors, or lists of tensors."""
        return tuple(argument for argument in self.arguments if argument.kind.is_tensor)

    @property
    def written(self) -> tuple[Argument, ...]:
        """The arguments that the call writes."""
        return tuple(argument for argument in self.arguments if argument.kind.written)

    @property
    def is_view(self) -> bool:
        """True if a result shares the memory of an argument."""
        return any(kind.alias for kind in self.returns)

    def signature(self) -> Signature:
        """Return the signature that Python binds arguments by."""
        return Signature(
            [
                Parameter(
                    one.name,
                    Parameter.KEYWORD_ONLY if one.by_name else Parameter.POSITIONAL_OR_KEYWORD,
                    default=one.default,
                )
                for one in self.arguments
            ]
        )

    def split(self, args: Sequence[Any]) -> tuple[list[Any], dict[str, Any]]:
        """Split arguments in the schema's order into positional and keyword arguments."""
        pairs = [*zip(self.arguments, args, strict=True)]
        by_name = {one.name: value for one, value in pairs if one.by_name}
        return [value for one, value in pairs if not one.by_name], by_name

    def bind(self, args: tuple[Any, ...], named: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return every argument in order; the dispatcher leaves out what equals a default."""
        given = dict(zip(self.names, args, strict=False)) | dict(named)
        return tuple(given.get(one.name, one.default) for one in self.arguments)


def parse(text: str) -> Schema:
    """Return a schema, such as ``"silu_mul(Tensor gate, Tensor up) -> Tensor"``.

    Raises:
        ValueError: it is malformed, or has a type that is not supported; the message shows the
            part.
    """
    head = _HEAD.fullmatch(text)
    if head is None:
        raise ValueError(f"The schema {text!r} is not of the form 'name(arguments) -> returns'.")
    arguments = tuple(_arguments(head["arguments"], text))
    names = [argument.name for argument in arguments]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"The schema {text!r} has two arguments named {twice[0]!r}.")
    returns = head["returns"]
    if returns.startswith("(") and returns.endswith(")"):
        returns = returns[1:-1]
    results = tuple(_kind(part.split()[0], text) for part in _split(returns))
    for kind in results:
        if not kind.is_tensor or kind.optional or (kind.listed and not kind.alias):
            raise ValueError(f"The schema {text!r} returns something other than tensors.")
    return Schema(head["name"], arguments, results, text)


def _arguments(text: str, schema: str) -> Iterator[Argument]:
    by_name = needs_default = False
    for part in _split(text):
        if part == "*":
            by_name, needs_default = True, False
            continue
        kind_text, _, rest = part.partition(" ")
        named = _NAME.fullmatch(rest.strip())
        if named is None:
            raise ValueError(f"The schema {schema!r}: {part!r} is not of the form 'type name'.")
        kind = _kind(kind_text, schema)
        default = Parameter.empty
        if named["default"] is not None:
            default = _default(named["default"], kind, part, schema)
            needs_default = True
        elif needs_default:
            raise ValueError(
                f"The schema {schema!r}: {part!r} needs a default, since an argument before it has "
                f"one."
            )
        yield Argument(named["name"], kind, default, by_name)


def _kind(text: str, schema: str) -> Kind:
    found = _TYPE.fullmatch(text)
    if found is None or found["kind"] not in KINDS or (found["alias"] and text[:6] != "Tensor"):
        known = ", ".join(sorted(KINDS))
        raise ValueError(
            f"The schema {schema!r}: the type {text!r} is not supported. Known: {known}; each may "
            f"be optional. 'Tensor(a!)' is written, 'Tensor(a)' shared."
        )
    if found["listed"] and found["kind"] not in ("Tensor", "int", "SymInt", "float"):
        raise ValueError(f"The schema {schema!r}: {text!r} has no C form; lists are of tensors, "
                         f"ints or floats.")  # fmt: skip
    return Kind(
        found["kind"],
        listed=bool(found["listed"]),
        optional=bool(found["optional"]),
        alias=found["alias"] or "",
        written=bool(found["written"]),
    )


def _default(text: str, kind: Kind, part: str, schema: str) -> Any:
    if text in _WORDS:
        value = _WORDS[text]
    else:
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            value = ...
    fits = kind.optional if value is None else isinstance(value, _DEFAULTS.get(kind.name, ()))
    if not fits or (isinstance(value, bool) and kind.name != "bool"):
        raise ValueError(f"The schema {schema!r}: the default of {part!r} is no {kind.name}.")
    return float(value) if kind.name == "float" and value is not None else value


def _split(text: str) -> Iterator[str]:
    """Yield the parts between commas outside of brackets and strings."""
    depth, quote, start = 0, "", 0
    for at, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        elif letter in "([":
            depth += 1
        elif letter in ")]":
            depth -= 1
        elif letter == "," and not depth:
            yield text[start:at].strip()
            start = at + 1
    last = text[start:].strip()
    if last or start:
        yield last
