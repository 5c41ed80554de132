# SPDX-License-Identifier: MIT
"""The value codec: what comes back is equal and of the same type, or is refused."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import ipaddress
import pathlib
import typing
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from value_samples import (
    EVERYTHING,
    LIBRARY,
    PLAIN,
    REFUSED,
    UTC,
    ZONES,
    Address,
    Colour,
    D,
    Derived,
    F,
    Frozen,
    Pair,
    Plain,
    Point,
    Slotted,
    User,
    name_of,
    same,
)

from cachekit import _core
from cachekit._errors import DecodeError, SerializationError


@pytest.mark.parametrize("item", EVERYTHING, ids=name_of)
def test_round_trip_keeps_value_and_type(item: tuple[Any, Any]) -> None:
    value, returns = item
    data = _core.encode(value, returns)
    assert same(_core.decode(data, returns), value)
    assert same(_core.decode(bytearray(data), returns=returns), value)


@pytest.mark.parametrize("item", EVERYTHING, ids=name_of)
def test_memory_hands_out_the_same_value_and_type(item: tuple[Any, Any]) -> None:
    value, returns = item
    _, handed, size = _core.hold(value, returns)
    assert same(handed, value)
    assert size >= 0


@pytest.mark.parametrize("value", PLAIN + LIBRARY, ids=name_of)
def test_every_type_may_be_nested(value: Any) -> None:
    nest = {"a": [value, (value, {"b": value})]}
    assert same(_core.decode(_core.encode(nest)), nest)
    assert same(_core.hold_copy(nest), nest)


@pytest.mark.parametrize(
    "value", [v for v in PLAIN + LIBRARY if v.__hash__], ids=name_of
)
def test_every_hashable_value_may_be_a_key_and_a_member(value: Any) -> None:
    if isinstance(value, D) and value.is_snan():
        pytest.skip("a signalling NaN has no hash")
    try:
        hash(value)
    except TypeError:
        pytest.skip("it holds something without a hash")
    for nest in (
        {value: 1},
        {value},
        frozenset({value}),
        collections.Counter({value: 2}),
    ):
        assert same(_core.decode(_core.encode(nest)), nest)
        assert same(_core.hold_copy(nest), nest)


def test_order_of_an_ordered_dict_survives_a_move() -> None:
    value = collections.OrderedDict([("a", 1), ("b", 2), ("c", 3)])
    value.move_to_end("a")
    assert list(_core.decode(_core.encode(value))) == ["b", "c", "a"]


def test_utc_is_the_same_object() -> None:
    value = dt.datetime(2020, 1, 1, tzinfo=UTC)
    assert _core.decode(_core.encode(value)).tzinfo is UTC


def test_shared_container_comes_back_unshared() -> None:
    inner = [1]
    for back in (
        _core.decode(_core.encode([inner, inner])),
        _core.hold_copy([inner, inner]),
    ):
        assert back == [[1], [1]]
        assert back[0] is not back[1]


def test_dataclass_is_not_constructed_again() -> None:
    value = Derived(3)
    value.double = 7
    assert _core.decode(_core.encode(value, Derived), Derived).double == 7


def test_cached_property_is_left_out() -> None:
    value = User("a", Address("s", Colour.RED))
    assert value.loud == "A"
    back = _core.decode(_core.encode(value, User), User)
    assert "loud" not in vars(back)
    assert back.loud == "A"


def test_classes_of_one_name_are_told_apart() -> None:
    first = dataclasses.make_dataclass("Twin", ["x"])
    second = dataclasses.make_dataclass("Twin", ["x"])
    first.__module__, second.__module__ = "first", "second"
    for value in (first(1), second(1)):
        data = _core.encode(value, first | second)
        assert type(_core.decode(data, first | second)) is type(value)
        with pytest.raises(DecodeError):
            _core.decode(data, first)


def test_classes_that_cannot_be_told_apart_are_refused() -> None:
    first = dataclasses.make_dataclass("Twin", ["x"])
    second = dataclasses.make_dataclass("Twin", ["x"])
    first.__module__ = second.__module__ = "same"
    with pytest.raises(SerializationError):
        _core.encode(second(1), first | second)


def test_unhashable_annotation_is_taken() -> None:
    returns = typing.Annotated[Colour, []]
    data = _core.encode(Colour.RED, returns)
    assert _core.decode(data, returns) is Colour.RED


VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.complex_numbers(),
        st.text(st.characters(exclude_categories=())),
        st.binary(),
        st.dates(),
        st.times(),
        st.datetimes(timezones=st.sampled_from([None, UTC, *ZONES])),
        st.timedeltas(),
        st.uuids(),
        st.decimals(),
        st.fractions(),
        st.ip_addresses(),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.lists(inner, max_size=5).map(tuple),
        st.lists(inner, max_size=5).map(collections.deque),
        st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=5),
        st.dictionaries(st.text(max_size=5), inner).map(collections.OrderedDict),
        st.sets(st.integers() | st.text(max_size=3), max_size=5),
        st.frozensets(st.tuples(st.integers(), st.text(max_size=3)), max_size=5),
        st.binary().map(bytearray),
    ),
    max_leaves=30,
)


@given(VALUES)
def test_any_value_round_trips(value: Any) -> None:
    assert same(_core.decode(_core.encode(value)), value)
    assert same(_core.hold_copy(value), value)


# ---- the format ---------------------------------------------------------------------

GOLDEN: list[tuple[Any, Any, str]] = [
    (None, None, "c0"),
    ([True, False, 1, -1, 1000], None, "95c3c201ffcd03e8"),
    (2**64, None, "c70901000000000000000001"),
    (-(2**64), None, "c7090100000000000000" + "00ff"),
    (1.5, None, "cb3ff8000000000000"),
    (1 + 2j, None, "d8023ff00000000000004000000000000000"),
    ("aé", None, "a361c3a9"),
    ("\ud800", None, "c70303eda080"),
    (b"ab", None, "c4026162"),
    (bytearray(b"ab"), None, "d5046162"),
    ((1, 2), None, "c70305920102"),
    (([],), None, "c900000002059190"),
    ({"a": 1, 2: None}, None, "82a1610102c0"),
    ({1}, None, "c900000002069101"),
    (frozenset({1}), None, "c900000002079101"),
    (collections.OrderedDict(a=1), None, "c9000000040881a16101"),
    (collections.defaultdict(int, a=1), None, "c900000005090281a16101"),
    (collections.Counter(a=1), None, "c9000000040a81a16101"),
    (collections.deque([1], 3), None, "c9000000030b039101"),
    (dt.date(2020, 1, 2), None, "d60c07e40102"),
    (dt.time(1, 2, 3, 4), None, "d70d0000001083000040"),
    (dt.datetime(2020, 1, 2, 3, 4, 5, 6), None, "d70e1f90443105000060"),
    (dt.datetime(2020, 1, 2, tzinfo=UTC), None, "d70e1f90440000000001"),
    (
        dt.datetime(2020, 1, 2, tzinfo=dt.timezone(dt.timedelta(hours=1), "X")),
        None,
        "c9000000120e1f9044000000000200000000d693a4006e58",
    ),
    (dt.timedelta(-1, 2, 3), None, "c70c0fffffffff0000000200000003"),
    (uuid.UUID(int=1), None, "d81000000000000000000000000000000001"),
    (D("1.50"), None, "d611312e3530"),
    (F(1, 3), None, "c900000002120103"),
    (ipaddress.ip_address("1.2.3.4"), None, "c70713312e322e332e34"),
    (pathlib.PurePosixPath("/a"), None, "d5192f61"),
    (Colour.RED, Colour, "c90000000b1fa6436f6c6f7572a3524544"),
    (Frozen(1, 0.5), Frozen,
    "c900000016" + "20" + "a646726f7a656e82a17801a179cb3fe0000000000000"),
    (Pair(1, 2), Pair, "c90000001521a45061697282a5666972737401a67365636f6e6402"),
]  # fmt: skip


@pytest.mark.parametrize("value, returns, expected", GOLDEN, ids=name_of)
def test_bytes_never_change(value: Any, returns: Any, expected: str) -> None:
    assert _core.encode(value, returns).hex() == expected
    assert same(_core.decode(bytes.fromhex(expected), returns), value)


# ---- what is refused ----------------------------------------------------------------


@pytest.mark.parametrize("value", REFUSED, ids=name_of)
@pytest.mark.parametrize("function", [_core.encode, _core.hold_copy])
def test_anything_else_is_refused(function: Any, value: Any) -> None:
    for nest in (value, [value], {"a": (value,)}):
        with pytest.raises(SerializationError) as caught:
            function(nest)
        assert caught.value.code == "E004"
        assert caught.value.message.startswith("Could not serialize object of type ")


def test_refusal_tells_type_path_and_ways_out() -> None:
    with pytest.raises(SerializationError) as caught:
        _core.encode({"users": [{"id": 1}, {"id": (1, object())}]})
    error = caught.value
    assert error.message == "Could not serialize object of type object"
    assert error.path == "$.users[1].id[1]"
    assert error.type_name == "object"
    assert "$.users[1].id[1]" in str(error.hint)
    assert "returns=" in str(error.hint)


def test_path_does_not_show_data() -> None:
    with pytest.raises(SerializationError) as caught:
        _core.encode({"secret key!": {4711: [{1}, {"x": {(9, 9): object()}}]}})
    assert caught.value.path == "$[...][...][1].x[...]"
    assert "4711" not in str(caught.value)


def test_path_through_fields_and_members() -> None:
    with pytest.raises(SerializationError) as caught:
        _core.encode(Slotted(1, Point(2, {"a": Plain()})), Slotted | Point)
    assert caught.value.path == "$.right.y.a"
    with pytest.raises(SerializationError) as caught:
        _core.encode([{Plain()}])
    assert caught.value.path == "$[0][...]"


@pytest.mark.parametrize("wrap", [lambda v: [v], lambda v: (v,), lambda v: {"a": v}])
def test_depth_is_bounded(wrap: Any) -> None:
    value: Any = None
    for _ in range(512):
        value = wrap(value)
    back = _core.decode(_core.encode(value))
    assert back == value
    assert _core.hold_copy(value) == value
    with pytest.raises(SerializationError, match="512"):
        _core.encode(wrap(value))
    with pytest.raises(SerializationError, match="512"):
        _core.hold_copy([wrap(value)])


def test_cycle_is_an_error() -> None:
    value: list[Any] = []
    value.append({"a": value})
    for function in (_core.encode, _core.hold_copy):
        with pytest.raises(SerializationError, match="holds itself"):
            function(value)


def test_repeated_doubling_is_bounded() -> None:
    value: Any = [0]
    for _ in range(60):
        value = [value, value]
    with pytest.raises(SerializationError, match="larger than the limit"):
        _core.encode(value, None, 10**6)
    with pytest.raises(SerializationError, match="larger than the limit"):
        _core.hold_copy(value, limit=10**6)


def test_encoding_stops_at_the_limit() -> None:
    value = ["x" * 100] * 100
    size = len(_core.encode(value))
    assert _core.encode(value, limit=size) == _core.encode(value)
    for limit in (size - 1, 5000, 100, 1, 0, -1):
        with pytest.raises(SerializationError, match="larger than the limit"):
            _core.encode(value, limit=limit)


def test_memory_limit_stops_the_copy() -> None:
    value = [float(i) for i in range(1000)]
    size = _core.hold(value)[2]
    assert 32_000 <= size <= 45_000
    assert _core.hold_copy(value, limit=size) == value
    with pytest.raises(SerializationError, match="larger than the limit"):
        _core.hold_copy(value, limit=size - 1)


def test_dataclass_with_other_attributes_is_refused() -> None:
    value = Derived(1)
    value.more = 2  # type: ignore[attr-defined]
    with pytest.raises(SerializationError, match="no fields"):
        _core.encode(value, Derived)


def test_dataclass_over_a_builtin_is_refused() -> None:
    @dataclasses.dataclass
    class Odd(dict):  # type: ignore[type-arg]
        x: int = 1

    with pytest.raises(SerializationError):
        _core.encode(Odd(), Odd)


def test_field_that_fails_is_chained() -> None:
    value = Slotted.__new__(Slotted)
    with pytest.raises(SerializationError) as caught:
        _core.encode([value], Slotted)
    assert isinstance(caught.value.__cause__, AttributeError)
    assert caught.value.path == "$[0]"


@pytest.mark.parametrize(
    "arguments, names",
    [((), {}), ((1, 2, 3, 4), {}), ((1,), {"what": 1}), ((1, None), {"returns": None}),
     ((1,), {"limit": "x"}), ((1,), {"limit": 2**70})],
)  # fmt: skip
def test_wrong_arguments_are_named(arguments: Any, names: Any) -> None:
    with pytest.raises((TypeError, OverflowError)):
        _core.encode(*arguments, **names)
