"""The annotation, or `returns=`, names the types that values are read back into."""

from __future__ import annotations

import dataclasses
import enum
from typing import NamedTuple

import pytest

from cachekit import Cache, SerializationError

cache = Cache(backend=None)


@dataclasses.dataclass
class Point:
    x: int
    y: int


class Colour(enum.Enum):
    RED = "red"


class Pair(NamedTuple):
    left: int
    right: int


def _hits_with_the_same(function):
    first, second = function(1), function(1)
    assert first == second
    assert type(first) is type(second)
    assert function.cache_info()[:2] == (1, 1)
    return second


def test_the_annotation_names_the_type():
    @cache(name="annotated")
    def point(x: int) -> Point:
        return Point(x, 2)

    @cache(name="annotated inside")
    def points(x: int) -> dict[str, list[Point]] | None:
        return {"all": [Point(x, 2)]}

    @cache(name="annotated enum")
    def colour(x: int) -> Colour:
        return Colour.RED

    assert _hits_with_the_same(point) == Point(1, 2)
    assert type(_hits_with_the_same(points)["all"][0]) is Point
    assert _hits_with_the_same(colour) is Colour.RED


def test_returns_wins_over_the_annotation():
    @cache(name="returns", returns=Pair)
    def pair(x: int) -> tuple:
        return Pair(x, 2)

    assert _hits_with_the_same(pair).left == 1


def test_returns_takes_several_types():
    @cache(name="several", returns=(Point, Colour))
    def either(x: int):
        return Point(x, x) if x else Colour.RED

    assert _hits_with_the_same(either) == Point(1, 1)
    assert either(0) is either(0) is Colour.RED


def test_without_either_the_value_is_not_cached():
    @Cache(backend=None)(name="neither", fallback_enabled=False)
    def point(x: int):
        return Point(x, 2)

    with pytest.raises(SerializationError, match="E004"):
        point(1)


def test_an_annotation_that_cannot_be_evaluated_says_nothing():
    @cache(name="unknown")
    def number(x: int) -> Unknown:  # noqa: F821
        return x

    assert _hits_with_the_same(number) == 1


def test_plain_annotations_change_nothing():
    @cache(name="plain")
    def anything(x: int) -> dict:
        return {"tuple": (x,)}

    assert _hits_with_the_same(anything) == {"tuple": (1,)}
