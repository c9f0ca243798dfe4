"""Records that cost nothing to define behave as frozen dataclasses do."""

from __future__ import annotations

import copy
import pickle

import pytest

from accel.record import Record


class Point(Record):
    x: int
    y: int = 2

    def _check(self) -> None:
        if self.y < 0:
            raise ValueError("y is negative")


class Other(Record):
    x: int
    y: int = 2


def test_fields_come_by_position_and_by_name() -> None:
    assert Point.fields == ("x", "y")
    assert Point(1).as_dict() == Point(1, 2).as_dict() == Point(x=1, y=2).as_dict()
    assert repr(Point(1)) == "Point(x=1, y=2)"


def test_a_subclass_adds_its_fields() -> None:
    class Plain(Point):
        pass

    class Named(Point):
        name: str = ""

    assert Plain(1) == Plain(1, 2) != Point(1)
    assert Named.fields == ("x", "y", "name")
    assert Named(1, 2, "three").as_dict() == {"x": 1, "y": 2, "name": "three"}
    match Named(1, 2, "three"):
        case Named(x, _, name):
            assert (x, name) == (1, "three")


def test_values_are_equal_by_type_and_fields() -> None:
    assert Point(1) == Point(1, 2) != Point(1, 3)
    assert len({Point(1), Point(1, 2), Point(2)}) == 2
    assert Point(1) != Other(1)
    assert Point(1) != (1, 2)


@pytest.mark.parametrize(
    ("values", "named"),
    [((), {}), ((), {"y": 1}), ((1, 2, 3), {}), ((1,), {"x": 1}), ((1,), {"z": 1})],
)
def test_wrong_arguments_are_named(values: tuple[int, ...], named: dict[str, int]) -> None:
    with pytest.raises(TypeError, match=r"Point\(x, y\)"):
        Point(*values, **named)


def test_nothing_can_be_changed() -> None:
    point = Point(1)
    with pytest.raises(AttributeError, match="a Point is frozen"):
        point.x = 2  # type: ignore[misc]
    with pytest.raises(AttributeError, match="a Point is frozen"):
        del point.x
    assert point.replace(y=3) == Point(1, 3)
    assert point == Point(1)


def test_every_way_to_make_one_is_checked() -> None:
    with pytest.raises(ValueError, match="negative"):
        Point(1, -1)
    with pytest.raises(ValueError, match="negative"):
        Point(1).replace(y=-1)


def test_copies_and_pickles_are_equal() -> None:
    point = Point(1, 3)
    assert copy.deepcopy(point) == pickle.loads(pickle.dumps(point)) == point
