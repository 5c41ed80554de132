"""What memory or the store holds and cannot be handed out is a miss, never an error."""

from __future__ import annotations

import dataclasses
import logging

import pytest
from basic_store import BasicStore

from cachekit import Cache, CacheConfig, CacheMiss, SerializationError
from cachekit.backends import MemoryBackend
from cachekit.serializers import PickleSerializer


class OneWay(Exception):
    """Pickles, and does not unpickle."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__("one way")


class Narrowing:
    """Gives lists back for tuples."""

    name = "narrowing"

    def serialize(self, value):
        return repr(list(value)).encode()

    def deserialize(self, data):
        return eval(bytes(data))


class Fickle:
    """Reads until told not to."""

    name = "fickle"
    works = True

    def serialize(self, value):
        return str(value).encode()

    def deserialize(self, data):
        if not self.works:
            raise ValueError("no more")
        return int(bytes(data))


def test_a_value_that_does_not_come_back_is_not_cached():
    @Cache(backend=None)(name="one way", serializer=PickleSerializer())
    def one_way(number: int):
        return OneWay(number, 2)

    assert isinstance(one_way(1), OneWay)
    assert isinstance(one_way(1), OneWay)
    assert one_way.cache_info().unencodable == 2


def test_a_serializer_that_changes_the_type_is_not_trusted():
    @Cache(backend=None)(name="narrowing", serializer=Narrowing())
    def pair(number: int):
        return (number, 2)

    assert pair(1) == pair(1) == (1, 2)
    assert pair.cache_info()[:2] == (0, 2)

    @Cache(backend=None)(
        name="narrowing", serializer=Narrowing(), fallback_enabled=False
    )
    def strict(number: int):
        return (number, 2)

    with pytest.raises(SerializationError, match="another type"):
        strict(1)


def test_an_entry_that_cannot_be_read_any_more_is_replaced():
    serializer, runs = Fickle(), []

    @Cache(backend=None)(name="fickle", serializer=serializer)
    def number(x: int) -> int:
        runs.append(x)
        return x

    assert number(1) == number(1) == 1
    serializer.works = False
    assert number(1) == 1
    assert runs == [1, 1]
    with pytest.raises(CacheMiss):
        number.using("fresh")(1)


@dataclasses.dataclass
class Point:
    x: int


def test_an_entry_of_a_class_that_the_reader_does_not_know_is_left_alone():
    store = MemoryBackend()

    @Cache(CacheConfig(l1_enabled=False), backend=store)(name="point", returns=Point)
    def writer(x: int):
        return Point(x)

    @Cache(CacheConfig(l1_enabled=False), backend=store)(name="point")
    def reader(x: int):
        raise AssertionError

    assert writer(1) == Point(1)
    with pytest.raises(CacheMiss):
        reader.using("fresh")(1)
    assert writer(1) == Point(1)
    assert writer.cache_info().l2_hits == 1


def test_parameters_may_have_any_name():
    @Cache(backend=None)(name="names")
    def named(fn: int, cls: int = 0, self: int = 0, value: int = 0) -> int:
        return fn + cls + self + value

    arguments = {"fn": 1, "cls": 2, "self": 3, "value": 4}
    assert named(**arguments) == named.peek(**arguments) == 10
    assert named.entry(**arguments).value == 10
    assert named.key_for(**arguments) == named.key_for(1, 2, 3, 4)
    named.put(5, **arguments)
    assert named(**arguments) == 5
    assert named.refresh(**arguments) == 10
    named.invalidate(**arguments)
    assert named.entry(**arguments) is None


def test_nothing_is_found_or_stored_while_switched_off():
    cache, runs = Cache(backend=None), []

    @cache(name="off")
    def number(x: int) -> int:
        runs.append(x)
        return x

    assert number(1) == 1
    with cache.disabled():
        number.put(7, 1)
        assert number.entry(1) is None
        assert number.refresh(1) == 1
        with pytest.raises(CacheMiss):
            number.peek(1)
    assert number.peek(1) == 1
    assert runs == [1, 1]


def test_calls_that_memory_cannot_answer_are_told_at_debug(caplog):
    with caplog.at_level(logging.DEBUG, "cachekit"):

        @Cache(backend=None)(name="told")
        def number(x: int) -> int:
            return x

        number(424242)
        number(424242)
    told = [record for record in caplog.records if record.event == "call"]
    assert [record.action for record in told] == ["return_ran"]
    assert told[0].function == "told"
    assert "424242" not in caplog.text


def test_a_serializer_of_ones_own_gets_a_tuple_as_it_is():
    @Cache(backend=None)(name="pickled tuple", serializer=PickleSerializer())
    def pair(number: int):
        return (number, {"two": (2,)})

    assert pair(1) == pair(1) == (1, {"two": (2,)})
    assert pair.cache_info()[:2] == (1, 1)


@pytest.mark.parametrize("nonsense", [b"data", (b"data",), ("text", 1), (1, 2, 3)])
def test_a_backend_that_answers_nonsense_counts_as_failing(nonsense, caplog):
    class Nonsense(BasicStore):
        address = f"a store that answers {nonsense!r}"  # records are made once for each

        def read(self, key, timeout):
            return nonsense

    @Cache(CacheConfig(l1_enabled=False), backend=Nonsense())(name="nonsense")
    def number(x: int) -> int:
        return x

    assert number(1) == 1
    assert number.cache_info().errors == 1
    assert number.cache_info().misses == 0
    assert any(record.event == "store_failed" for record in caplog.records)
