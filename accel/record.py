"""`Record`: a frozen record whose definition costs next to nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

if TYPE_CHECKING:
    from typing_extensions import Self, dataclass_transform
else:

    def dataclass_transform(**_: bool) -> Any:
        """Stand in for the decorator, which is for type checkers: Python has it from 3.11 on."""
        return lambda cls: cls


@dataclass_transform(frozen_default=True)
class Record:
    """Base of records: a subclass's annotations are the fields, its attributes their defaults.

    Equal and hashed by type and fields. It replaces ``dataclass`` and ``NamedTuple`` in modules
    of a first load, which generate code for 0.2 to 0.6 ms per class.

    Attributes:
        fields: names of the fields, in the order of the constructor's arguments.
    """

    fields: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        cls.fields = (*dict.fromkeys((*cls.fields, *cls.__annotations__)),)
        setattr(cls, "__match_args__", cls.fields)  # noqa: B010 - type checkers refuse the plain form

    def __init__(self, *values: Any, **named: Any) -> None:
        given = dict(zip(self.fields, values, strict=False))
        unknown = named.keys() - (set(self.fields) - given.keys())
        given |= named
        missing = [one for one in self.fields if one not in given and not hasattr(self, one)]
        if unknown or missing or len(values) > len(self.fields):
            raise TypeError(
                f"{type(self).__name__}({', '.join(self.fields)}): missing {missing}, unknown or "
                f"given twice {sorted(unknown)}, {len(values)} values by position."
            )
        self.__dict__.update(given)
        self._check()

    def _check(self) -> None:
        """Raise `ValueError` if the values do not go together; for subclasses."""

    def replace(self, **changes: Any) -> Self:
        """Return a copy with other values for some fields."""
        return type(self)(**self.as_dict() | changes)

    def as_dict(self) -> dict[str, Any]:
        """Return the fields by name; a new dict, the same values."""
        return {field: getattr(self, field) for field in self.fields}

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self.as_dict() == other.as_dict()

    def __hash__(self) -> int:
        return hash(tuple(self.as_dict().values()))

    def __repr__(self) -> str:
        shown = ", ".join(f"{field}={value!r}" for field, value in self.as_dict().items())
        return f"{type(self).__name__}({shown})"

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"cannot assign to {name!r}: a {type(self).__name__} is frozen")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"cannot delete {name!r}: a {type(self).__name__} is frozen")
