"""``version`` and ``schema``: programs of before and after a change, side by side.

They share a store and do not take each other's entries out of it in turns.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from driver import Driver, Work, each_driver  # noqa: F401
from servers import RedisServer


@dataclasses.dataclass
class Before:
    name: str


@dataclasses.dataclass
class After:
    name: str
    price: int


@pytest.fixture
def driver(each_driver: Driver) -> Driver:  # noqa: F811
    return each_driver


@pytest.fixture
def elsewhere() -> Iterator[Driver]:
    driver = Driver()
    yield driver
    driver.close()


class Place:
    """Watches who is in the entry's place."""

    def __init__(self, server: RedisServer, work: Work) -> None:
        self.server, self.key = server, work.cached.key_for(1)
        self.changes = 0
        self.holds: bytes | None = None

    def look(self) -> None:
        holds = self.server.call("GET", self.key)
        self.changes += holds != self.holds
        self.holds = holds

    def age(self, seconds_left: int) -> None:
        """Let time pass, for all who use the store."""
        self.server.call("PEXPIRE", self.key, seconds_left * 1000)


Pair = Callable[..., tuple[Work, Work]]


@pytest.fixture
def pair(driver: Driver, elsewhere: Driver, redis_server: RedisServer) -> Pair:
    """The function of two programs; the options tell them apart."""

    def make(one: dict[str, Any], two: dict[str, Any], l1: bool) -> tuple[Work, Work]:
        works = (
            by.work(
                by.cache(redis_server.url, l1_enabled=l1), name="f", ttl=600, **options
            )
            for by, options in ((driver, one), (elsewhere, two))
        )
        first, second = works
        return first, second

    return make


#: What tells the two apart, the one that has the place first.
VERSIONS = ({"version": 1}, {"version": 2})
SCHEMAS = ({"schema": Before}, {"schema": After})
APART = pytest.mark.parametrize(
    ("one", "two"),
    [
        VERSIONS,
        VERSIONS[::-1],
        SCHEMAS,
        ({}, {"version": 0}),
        ({}, {"schema": After}),
        ({"schema": After}, {}),
        ({"version": 1, "schema": Before}, {"version": 2, "schema": After}),
    ],
    ids=["1-2", "2-1", "A-B", "none-0", "none-B", "B-none", "1A-2B"],
)


@APART
@pytest.mark.parametrize("l1", [True, False], ids=["both", "store"])
def test_neither_sees_the_entries_of_the_other(
    pair: Pair, one: Any, two: Any, l1: bool
) -> None:
    first, second = pair(one, two, l1)
    first.answer, second.answer = (lambda n: "first"), (lambda n: "second")
    for _ in range(5):
        assert first(1) == "first"
        assert second(1) == "second"


@APART
def test_they_do_not_take_the_place_in_turns(
    pair: Pair, redis_server: RedisServer, one: Any, two: Any
) -> None:
    first, second = pair(one, two, True)
    place = Place(redis_server, first)
    for _ in range(10):
        first(1)
        place.look()
        second(1)
        place.look()
    assert place.changes <= 2
    # Who may not store keeps its value in memory.
    assert (first.runs, second.runs) == (1, 1)


def test_without_memory_only_one_of_them_runs_each_time(
    pair: Pair, redis_server: RedisServer
) -> None:
    first, second = pair(*VERSIONS, False)
    place = Place(redis_server, first)
    for _ in range(10):
        first(1)
        place.look()
        second(1)
        place.look()
    assert place.changes <= 2
    assert (first.runs, second.runs) == (10, 1)


def test_the_same_is_shared(pair: Pair) -> None:
    for options in (*VERSIONS, *SCHEMAS):
        first, second = pair(options, options, False)
        first.invalidate(1)
        first(1), second(1)
        assert (first.runs, second.runs) == (1, 0)


def test_a_schema_is_what_it_looks_like(pair: Pair) -> None:
    """Two classes of the same fields in two programs are one schema."""
    namespace: dict[str, Any] = {}
    source = (
        "import dataclasses\n@dataclasses.dataclass\nclass Before:\n    name: str\n"
    )
    exec(source, {**namespace, "__name__": Before.__module__}, namespace)
    first, second = pair({"schema": Before}, {"schema": namespace["Before"]}, False)
    first(1), second(1)
    assert (first.runs, second.runs) == (1, 0)


@pytest.mark.parametrize("kind", ["call", "refresh", "put", "BYPASS", "INVALIDATE"])
def test_the_lower_version_leaves_the_place_however_it_comes(
    pair: Pair, redis_server: RedisServer, kind: str
) -> None:
    lower, higher = pair(*VERSIONS, False)
    higher(1)
    place = Place(redis_server, lower)
    place.look()
    ways: dict[str, Callable[[], Any]] = {
        "call": lambda: lower(1),
        "refresh": lambda: lower.refresh(1),
        "put": lambda: lower.put("lower", 1),
        "BYPASS": lambda: lower.using("BYPASS")(1),
        "INVALIDATE": lambda: lower.using("INVALIDATE")(1),
    }
    ways[kind]()
    assert higher(1) == {"n": 1, "run": 1 if kind != "INVALIDATE" else 2}


def test_what_is_put_by_the_lower_is_in_its_memory(pair: Pair) -> None:
    lower, higher = pair(*VERSIONS, True)
    higher(1)
    lower.put("lower", 1)
    assert lower(1) == "lower"
    assert lower.runs == 0


def test_the_higher_version_takes_the_place_at_once(
    pair: Pair, redis_server: RedisServer
) -> None:
    lower, higher = pair(*VERSIONS, False)
    lower(1), higher(1), higher(1)
    assert higher.runs == 1
    lower(1)
    assert lower.runs == 2
    assert higher(1) == {"n": 1, "run": 1}


def test_another_schema_takes_it_after_half_of_the_fresh_period(
    pair: Pair, redis_server: RedisServer
) -> None:
    first, second = pair(*SCHEMAS, False)
    first(1)
    place = Place(redis_server, first)
    place.look()
    place.age(310)
    second(1)
    place.look()
    assert place.changes == 1
    assert first(1) == {"n": 1, "run": 1}
    place.age(290)
    second(1)
    place.look()
    assert place.changes == 2
    second(1)
    assert (first.runs, second.runs) == (1, 2)


def test_a_place_that_was_invalidated_is_free(
    pair: Pair, redis_server: RedisServer
) -> None:
    lower, higher = pair(*VERSIONS, False)
    higher(1)
    lower.invalidate(1)
    lower(1), lower(1)
    assert lower.runs == 1


def test_a_place_of_an_invalidated_function_is_free(pair: Pair) -> None:
    lower, higher = pair(*VERSIONS, False)
    higher(1)
    lower.invalidate_all()
    lower(1), lower(1)
    assert lower.runs == 1


def test_a_place_that_is_free_by_the_time_of_the_claim_is_taken(
    pair: Pair, redis_server: RedisServer
) -> None:
    """The higher version was there at the read, and is gone before the fill."""
    lower, higher = pair(*VERSIONS, False)
    higher(1)
    lower.before = lambda: None
    lower(1)
    lower.refresh(1)
    higher.invalidate(1)
    lower.refresh(1)
    lower(1)
    assert lower.runs == 3


@pytest.mark.parametrize("version", [-1, 2**32, 1.5, "1", True])
def test_what_is_no_version(driver: Driver, version: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        driver.work(driver.cache(None), version=version)
