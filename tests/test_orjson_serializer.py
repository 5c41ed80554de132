"""OrjsonSerializer takes what JSON keeps, and refuses what it would change."""

from __future__ import annotations

import datetime
import decimal
import enum
import json
import uuid
from collections import Counter, OrderedDict, defaultdict
from typing import NamedTuple

import numpy as np
import pytest
from absent import run_without
from hypothesis import given
from hypothesis import strategies as st

from cachekit import Cache, CacheConfig, CacheMiss, DecodeError, SerializationError
from cachekit.backends import MemoryBackend
from cachekit.serializers import OrjsonSerializer

serializer = OrjsonSerializer()


class Colour(enum.Enum):
    RED = "red"


class Number(enum.IntEnum):
    ONE = 1


class Text(str):
    pass


class Pair(NamedTuple):
    left: int


def types_of(value):
    """The value with the type of everything in it."""
    if type(value) is list:
        return [types_of(item) for item in value]
    if type(value) is dict:
        return {key: types_of(item) for key, item in value.items()}
    return type(value), repr(value)


KEPT = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=30,
)


@given(KEPT)
def test_what_json_keeps_comes_back_exactly(value):
    data = serializer.serialize(value)
    twin = serializer.deserialize(memoryview(data))
    assert types_of(twin) == types_of(value)
    assert json.loads(data) == value


@pytest.mark.parametrize(
    "value",
    [
        *((1, 2), (), {1}, frozenset(), b"x", bytearray(b"x"), 1j),
        *(float("nan"), float("inf"), -float("inf"), 2**64, -(2**63) - 1),
        *({1: 2}, {None: 1}, {True: 1}, {1.5: 1}, {("a",): 1}, {Text("a"): 1}),
        *(Text("x"), Colour.RED, Number.ONE, Pair(1), OrderedDict(a=1)),
        *(Counter("a"), defaultdict(int, a=1), np.float64(1), np.int64(1)),
        *(datetime.datetime.now(), datetime.date.min, datetime.time.min),
        *(uuid.uuid4(), decimal.Decimal(1), object(), "\ud800", {"\ud800": 1}),
    ],
    ids=lambda value: f"{type(value).__name__}",
)
def test_what_json_would_change_is_refused_with_its_path(value):
    with pytest.raises(SerializationError) as caught:
        serializer.serialize({"users": [{"it": 1}, {"it": value}]})
    error = caught.value
    assert error.code == "E004"
    assert error.path.startswith("$.users[1].it")
    assert error.message.startswith("Could not serialize object of type ")
    assert error.__cause__ is None


def test_a_key_that_is_no_name_is_not_shown():
    with pytest.raises(SerializationError) as caught:
        serializer.serialize({"hunter2@example.org": (1,)})
    assert caught.value.path == "$[...]"
    assert "hunter2" not in str(caught.value)


def test_a_cycle_and_a_deep_nest_are_refused():
    cycle = []
    cycle.append(cycle)
    deep = []
    for _ in range(400):
        deep = [deep]
    for value in (cycle, deep):
        with pytest.raises(SerializationError, match="E004"):
            serializer.serialize(value)


@pytest.mark.parametrize("data", [b"", b"{", b"nul", b"\xff", b"1 2", b"[NaN]"])
def test_bytes_that_are_no_json_are_a_decode_error(data):
    with pytest.raises(DecodeError) as caught:
        serializer.deserialize(memoryview(data))
    assert caught.value.__cause__ is None


def test_the_caller_gets_a_refused_value_uncached(caplog):
    @Cache(backend=None)(name="tuple", serializer=serializer)
    def pair(x: int):
        return {"pair": (x, x)}

    assert pair(1) == pair(1) == {"pair": (1, 1)}
    assert pair.cache_info().unencodable == 2
    assert "$.pair" in caplog.text


def test_hits_are_copies_and_entries_of_others_are_misses():
    store, config = MemoryBackend(), CacheConfig(l1_enabled=False)

    def make(x: int) -> list:
        return [x]

    json_one = Cache(config, backend=store)(name="f", serializer=serializer)(make)
    plain = Cache(config, backend=store)(name="f")(make)
    assert json_one.key_for(1) == plain.key_for(1)
    json_one(1).append("changed")
    assert json_one(1) == [1]
    assert json_one.cache_info().hits == 1
    with pytest.raises(CacheMiss):
        plain.using("fresh")(1)


def test_without_the_library_one_clear_line():
    code = """
from cachekit import ConfigurationError
from cachekit.serializers import OrjsonSerializer
try:
    OrjsonSerializer()
except ConfigurationError as error:
    print(error)
"""
    assert run_without(code, "orjson") == (
        "OrjsonSerializer needs orjson, which is not installed. "
        "pip install 'cachekit[orjson]'"
    )
