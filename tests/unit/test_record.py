"""chaoscontrol.record and chaoscontrol.choice: what they promise of a frozen dataclass and of an enumeration."""

from __future__ import annotations

import copy

import pytest

from chaoscontrol.choice import Choice
from chaoscontrol.record import Record
from chaoscontrol.values import StopKind


class Point(Record):
    x: int
    y: int = 7

    @property
    def sum(self) -> int:
        return self.x + self.y


class Positive(Record):
    value: int

    def __post_init__(self) -> None:
        if self.value <= 0:
            raise ValueError(self.value)


class Colour(Choice):
    RED = 3
    BLUE = 5

    @property
    def is_warm(self) -> bool:
        return self is Colour.RED


def test_fields_by_position_name_and_default() -> None:
    assert (Point(1).x, Point(1).y) == (1, 7)
    assert Point(1, 2) == Point(y=2, x=1) == Point(1, y=2)
    assert Point(1, 2).sum == 3
    assert repr(Point(1)) == "Point(x=1, y=7)"
    assert Point(1).as_dict() == {"x": 1, "y": 7}
    match Point(4, 5):
        case Point(x, y):
            assert (x, y) == (4, 5)


@pytest.mark.parametrize(
    ("args", "kwargs", "says"),
    [
        ((), {}, "needs a value for 'x'"),
        ((1, 2, 3), {}, "takes 2 values, 3 were given"),
        ((1,), {"x": 2}, "'x' twice"),
        ((1,), {"z": 2}, "'z' but has no such field"),
    ],
)
def test_wrong_arguments(args: tuple[int, ...], kwargs: dict[str, int], says: str) -> None:
    with pytest.raises(TypeError, match=says):
        Point(*args, **kwargs)


def test_a_record_is_a_value() -> None:
    point = Point(1, 2)
    assert point != Point(1, 3)
    assert point != (1, 2)
    assert {point: "here"}[Point(1, 2)] == "here"
    assert copy.copy(point) == copy.deepcopy(point) == point
    with pytest.raises(AttributeError, match=r"Point\.x cannot be changed"):
        point.x = 5
    with pytest.raises(AttributeError):
        point.z = 5
    with pytest.raises(AttributeError):
        del point.x
    assert point.replace(y=9) == Point(1, 9)


def test_every_way_of_making_one_checks_it() -> None:
    with pytest.raises(ValueError, match="0"):
        Positive(0)
    with pytest.raises(ValueError, match="-1"):
        Positive(1).replace(value=-1)


def test_a_choice_has_one_object_per_member() -> None:
    assert Colour(3) is Colour.RED is Colour["RED"] is copy.deepcopy(Colour.RED)
    assert list(Colour) == [Colour.RED, Colour.BLUE]
    assert (Colour.BLUE.name, Colour.BLUE.value) == ("BLUE", 5)
    assert Colour.RED.is_warm and not Colour.BLUE.is_warm
    assert Colour.RED != Colour.BLUE and Colour.RED != 3
    assert (str(Colour.RED), repr(Colour.RED)) == ("Colour.RED", "<Colour.RED: 3>")
    with pytest.raises(ValueError, match="4 is not a valid Colour"):
        Colour(4)
    with pytest.raises(KeyError):
        Colour["GREEN"]


def test_every_stop_says_what_happened() -> None:
    texts = [kind.text for kind in StopKind]
    assert len(set(texts)) == len(texts) == 13
    final = [StopKind.SHUTDOWN, StopKind.TRIPLE_FAULT, StopKind.RESET, StopKind.POWER_OFF]
    assert [kind for kind in StopKind if kind.is_final] == final
