# SPDX-License-Identifier: MIT
"""The value codec: what comes back is equal and of the same type, or is refused."""

from __future__ import annotations

import collections
import contextlib
import copy
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import functools
import gc
import ipaddress
import math
import pathlib
import random
import struct
import subprocess
import sys
import threading
import typing
import uuid
import zoneinfo
from typing import Any, NamedTuple, Optional, Union

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachekit import _core
from cachekit._errors import DecodeError, SerializationError

UTC = dt.timezone.utc


def has_zone(key: str) -> bool:
    try:
        zoneinfo.ZoneInfo(key)
    except Exception:
        return False
    return True


ZONES = [zoneinfo.ZoneInfo(key) for key in ("Europe/Berlin", "UTC") if has_zone(key)]


class Colour(enum.Enum):
    RED = 1
    GREEN = "g"
    ODD = (1, [2])
    NAN = math.nan


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 10


class Right(enum.Flag):
    READ = 1
    WRITE = 2


class Word(str, enum.Enum):
    YES = "yes"


@dataclasses.dataclass
class Address:
    street: str
    colour: Colour


@dataclasses.dataclass
class User:
    name: str
    address: Address
    friends: list[User] = dataclasses.field(default_factory=list)

    @functools.cached_property
    def loud(self) -> str:
        return self.name.upper()


@dataclasses.dataclass(frozen=True, order=True)
class Frozen:
    x: int
    y: float = 0.5


@dataclasses.dataclass
class Slotted:
    __slots__ = ("left", "right")
    left: Any
    right: Any


@dataclasses.dataclass
class Derived:
    base: int
    double: int = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        self.double = 2 * self.base


class Point(NamedTuple):
    x: int
    y: Optional[Frozen] = None


Pair = collections.namedtuple("Pair", "first second")


class Film(typing.TypedDict):
    title: str
    colour: Colour


T = typing.TypeVar("T")


@dataclasses.dataclass
class Box(typing.Generic[T]):
    content: T


def same(left: Any, right: Any) -> bool:
    """Equal and of the same type, all the way down; NaN is NaN."""
    if type(left) is not type(right):
        return False
    if isinstance(left, float):
        return struct.pack("d", left) == struct.pack("d", right) or (
            math.isnan(left) and math.isnan(right)
        )
    if isinstance(left, complex):
        return same(left.real, right.real) and same(left.imag, right.imag)
    if isinstance(left, decimal.Decimal):
        return left.as_tuple() == right.as_tuple()
    if isinstance(left, (dt.datetime, dt.time)):
        return (
            left.replace(tzinfo=None) == right.replace(tzinfo=None)
            and left.fold == right.fold
            and type(left.tzinfo) is type(right.tzinfo)
            and str(left.tzinfo) == str(right.tzinfo)
            and left.utcoffset() == right.utcoffset()
        )
    if isinstance(left, collections.defaultdict):
        if left.default_factory is not right.default_factory:
            return False
    if isinstance(left, collections.deque):
        return left.maxlen == right.maxlen and same(list(left), list(right))
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return same(list(left), list(right)) and same(
            list(left.values()), list(right.values())
        )
    if isinstance(left, (set, frozenset)):
        key = repr
        return same(sorted(left, key=key), sorted(right, key=key))
    if dataclasses.is_dataclass(left):
        return all(
            same(getattr(left, f.name), getattr(right, f.name))
            for f in dataclasses.fields(left)
        )
    return bool(left == right)


D = decimal.Decimal
F = fractions.Fraction

PLAIN: list[Any] = [
    None, True, False,
    0, 1, -1, 127, 128, 255, 256, 65535, 65536, -32, -33, -128, -129, -32769,
    2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1, -(2**64),
    10**100, -(10**100), 1 << 5000, -(1 << 4999),
    0.0, -0.0, 1.5, math.inf, -math.inf, math.nan, 5e-324, 1.7976931348623157e308,
    1j, complex(-0.0, math.nan), complex(math.inf, -0.0),
    "", "a", "\0", "\x7f", "\x80", "é", "ÿ", "€", "😀", "\ud800", "a\udfffb", "\U0010ffff",
    "x" * 31, "x" * 32, "x" * 255, "x" * 256, "x" * 65535, "x" * 65536, "é" * 40000,
    "x" * 5000 + "é", "€" * 30000,
    b"", b"\0", b"x" * 255, b"x" * 256, b"x" * 70000,
    bytearray(), bytearray(b"ab"), bytearray(300),
    [], [[]], [1, [2, [3]]], list(range(20)), [None] * 70000,
    (), (1,), ((),), (1, "a", None, 2.5, True), tuple(range(40)), ("x" * 300, 1),
    (1, [2], {3: (4,)}), tuple("abc" for _ in range(32)), ("y" * 245, 1, 2),
    {}, {"a": 1}, {1: 2, "1": 3, (1, 2): 4, None: 5, 1.5: 6, b"x": 7}, {"": {"": {}}},
    {frozenset({1, (2,)}): "x"}, {i: str(i) for i in range(70000)},
    {"__datetime__": True, "value": "2020"}, {"x" * 40: 1, "é": 2, "\ud800": 3},
    {math.nan: 1, float("nan"): 2},
    set(), {1, 2.5, "a", None, (1, 2), frozenset({3})}, frozenset(), frozenset({1, ()}),
]  # fmt: skip

LIBRARY: list[Any] = [
    collections.OrderedDict([("b", 1), ("a", [2])]), collections.OrderedDict(),
    collections.defaultdict(list, {"a": [1]}), collections.defaultdict(None, {1: 2}),
    collections.defaultdict(int), collections.defaultdict(frozenset),
    collections.Counter("abracadabra"), collections.Counter({"a": -1, "b": 2.5}),
    collections.deque(), collections.deque([1, [2]], maxlen=5), collections.deque([], 0),
    dt.date.min, dt.date.max, dt.date(2020, 2, 29),
    dt.time.min, dt.time.max, dt.time(1, 2, 3, 4, fold=1), dt.time(1, tzinfo=UTC),
    dt.time(2, tzinfo=dt.timezone(dt.timedelta(hours=1), "X")),
    dt.datetime.min, dt.datetime.max, dt.datetime(2020, 1, 2, 3, 4, 5, 6, fold=1),
    dt.datetime(2020, 1, 1, tzinfo=UTC),
    dt.datetime(2020, 1, 1, tzinfo=dt.timezone(dt.timedelta(0), "UTC")),
    dt.datetime(2020, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=-5))),
    dt.datetime(2020, 1, 1, tzinfo=dt.timezone(dt.timedelta(microseconds=-1), "")),
    dt.datetime(2020, 1, 1, tzinfo=dt.timezone(dt.timedelta(1, -1), "é\ud800")),
    *(dt.datetime(2020, 10, 25, 2, 30, fold=f, tzinfo=z) for z in ZONES for f in (0, 1)),
    *(dt.time(2, 30, tzinfo=z) for z in ZONES),
    dt.timedelta(0), dt.timedelta.min, dt.timedelta.max, dt.timedelta(-1, 86399, 999999),
    uuid.UUID(int=0), uuid.UUID(int=2**128 - 1), uuid.UUID(int=1 << 64),
    uuid.UUID("12345678-1234-5678-1234-567812345678"),
    D(0), D("-0"), D("1.50"), D("1E+5"), D("-1e-500"), D("NaN"), D("-sNaN123"), D("Infinity"),
    D("-Infinity"), D("123456789" * 50), D((0, (1,), 999999)),
    F(0), F(1, 3), F(-(10**50), 7), F(5),
    ipaddress.ip_address("0.0.0.0"), ipaddress.ip_address("1.2.3.4"),
    ipaddress.ip_address("::"), ipaddress.ip_address("fe80::1%eth0"),
    ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("2001:db8::/32"),
    ipaddress.ip_interface("10.1.2.3/8"), ipaddress.ip_interface("fe80::1/64"),
    ipaddress.ip_interface("fe80::1%eth0/64"),
    pathlib.PurePosixPath(""), pathlib.PurePosixPath("/a/../b"), pathlib.PurePath("a"),
    pathlib.PurePosixPath("//a/b"), pathlib.PurePosixPath("a\udcffb"),
    pathlib.PureWindowsPath(r"C:\x\y"), pathlib.PureWindowsPath("c:a"),
    pathlib.Path("/etc"), pathlib.Path("é"),
]  # fmt: skip

NAMED: list[tuple[Any, Any]] = [
    (Colour.RED, Colour), (Colour.ODD, Colour), (Colour.NAN, Colour), (Level.HIGH, Level),
    (Right.READ, Right), (Right.READ | Right.WRITE, Right), (Right(0), Right),
    (Word.YES, Word), ({Colour.RED: [Colour.GREEN]}, dict[Colour, list[Colour]]),
    (User("a", Address("s", Colour.RED), [User("b", Address("t", Colour.GREEN))]), User),
    ([Frozen(1), Frozen(2, math.nan)], list[Frozen]),
    (Frozen(1), Optional[Frozen]), (Frozen(1), Union[int, "list[Frozen]", Frozen]),
    (Slotted([1], Slotted(2, 3)), Slotted), (Derived(3), Derived),
    (Point(1, Frozen(2)), Point), (Pair(1, [Pair(2, 3)]), Pair),
    ((1, Point(2)), tuple[int, Point]), ({"a": (Point(1),)}, dict[str, tuple[Point, ...]]),
    ({"title": "x", "colour": Colour.RED}, Film), (Box(Frozen(1)), Box[Frozen]),
    ([Colour.RED], typing.Annotated[list[Colour], "doc"]),
    (Level.LOW, typing.NewType("Rank", Level)), ({Frozen(1): 2}, typing.Mapping[Frozen, int]),
]  # fmt: skip

EVERYTHING = [(value, None) for value in PLAIN + LIBRARY] + NAMED
SMALL = [
    (value, returns)
    for value, returns in EVERYTHING
    if len(_core.encode(value, returns)) < 400
]


def name_of(item: Any) -> str:
    return repr(item)[:40]


# ---- round trips --------------------------------------------------------------------


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


@pytest.mark.parametrize("value", [v for v in PLAIN + LIBRARY if v.__hash__], ids=name_of)
def test_every_hashable_value_may_be_a_key_and_a_member(value: Any) -> None:
    if isinstance(value, D) and value.is_snan():
        pytest.skip("a signalling NaN has no hash")
    try:
        hash(value)
    except TypeError:
        pytest.skip("it holds something without a hash")
    for nest in ({value: 1}, {value}, frozenset({value}), collections.Counter({value: 2})):
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
        data = _core.encode(value, Union[first, second])
        assert type(_core.decode(data, Union[first, second])) is type(value)
        with pytest.raises(DecodeError):
            _core.decode(data, first)


def test_classes_that_cannot_be_told_apart_are_refused() -> None:
    first = dataclasses.make_dataclass("Twin", ["x"])
    second = dataclasses.make_dataclass("Twin", ["x"])
    first.__module__ = second.__module__ = "same"
    with pytest.raises(SerializationError):
        _core.encode(second(1), Union[first, second])


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
    (Frozen(1, 0.5), Frozen, "c900000016" + "20" + "a646726f7a656e82a17801a179cb3fe0000000000000"),
    (Pair(1, 2), Pair, "c90000001521a45061697282a5666972737401a67365636f6e6402"),
]  # fmt: skip


@pytest.mark.parametrize("value, returns, expected", GOLDEN, ids=name_of)
def test_bytes_never_change(value: Any, returns: Any, expected: str) -> None:
    assert _core.encode(value, returns).hex() == expected
    assert same(_core.decode(bytes.fromhex(expected), returns), value)


# ---- what is refused ----------------------------------------------------------------


class SubInt(int):
    pass


class SubDict(dict):  # type: ignore[type-arg]
    pass


class SubStr(str):
    pass


class SubDate(dt.date):
    pass


class SubPath(type(pathlib.Path())):  # type: ignore[misc]
    pass


class Zone(dt.tzinfo):
    def utcoffset(self, when: Any) -> dt.timedelta:
        return dt.timedelta(0)


class Plain:
    pass


REFUSED = [
    object(), Plain(), Plain, len, iter([]), range(3), NotImplemented, ..., slice(1),
    SubInt(1), SubDict(), SubStr("a"), SubDate(2020, 1, 1), SubPath("a"), memoryview(b"x"),
    Colour.RED, Frozen(1), Point(1), Level.LOW, Word.YES, UTC, *ZONES,
    dt.datetime(2020, 1, 1, tzinfo=Zone()), collections.defaultdict(lambda: 1),
    collections.ChainMap(), ValueError("x"), {}.keys(),
]  # fmt: skip


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
        _core.encode(Slotted(1, Point(2, {"a": Plain()})), Union[Slotted, Point])
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
        _core.hold_copy(value)


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


# ---- hostile bytes ------------------------------------------------------------------


def decode_or_refuse(data: bytes, returns: Any = None) -> Any:
    try:
        return _core.decode(data, returns)
    except DecodeError:
        return None


@pytest.mark.parametrize("item", SMALL, ids=name_of)
def test_truncated_and_extended_bytes_are_refused(item: tuple[Any, Any]) -> None:
    value, returns = item
    data = _core.encode(value, returns)
    for cut in range(len(data)):
        with pytest.raises(DecodeError):
            _core.decode(data[:cut], returns)
    with pytest.raises(DecodeError):
        _core.decode(data + b"\xc0", returns)


@pytest.mark.parametrize("item", SMALL, ids=name_of)
def test_changed_bytes_give_a_value_or_an_error(item: tuple[Any, Any]) -> None:
    value, returns = item
    data = bytearray(_core.encode(value, returns))
    chance = random.Random(len(data))
    for at in range(len(data)):
        old = data[at]
        for new in {0, 0x7F, 0x80, 0xFF, old ^ 1, old ^ 0x80, chance.randrange(256)}:
            data[at] = new
            decode_or_refuse(bytes(data), returns)
        data[at] = old


@given(st.binary(max_size=64))
def test_random_bytes_give_a_value_or_an_error(data: bytes) -> None:
    decode_or_refuse(data)


@given(st.integers(1, 33), st.binary(max_size=40))
def test_random_extensions_give_a_value_or_an_error(code: int, content: bytes) -> None:
    decode_or_refuse(b"\xc7" + bytes([len(content), code]) + content, Union[User, Pair])


def test_every_input_of_two_bytes() -> None:
    for number in range(65536):
        decode_or_refuse(number.to_bytes(2, "big"))


def ext(code: int, content: bytes) -> bytes:
    return b"\xc9" + struct.pack(">IB", len(content), code) + content


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\xc1", b"\x81\x90\x01", b"\x82\x01\x01\x01\x01", b"\x82\x01\x01\xc3\x01",
        b"\xdd\xff\xff\xff\xff", b"\xdf\x7f\xff\xff\xff", b"\xc6\xff\xff\xff\xffx",
        b"\x91" * 513 + b"\xc0", b"\xa1\xff", b"\xa2\xed\xa0", b"\xa3\xed\xa0\x80",
        ext(0, b""), ext(99, b""), ext(0xFF, b"\0\0\0\0"), ext(1, b""), ext(2, b"\0"),
        ext(3, b"\xff"), ext(5, b"\x01"), ext(5, b"\x90\x90"), ext(6, b"\x91\x90"),
        ext(6, b"\x92\x01\x01"), ext(7, b"\x92\x01\xc3"), ext(8, b"\x90"),
        ext(9, b"\xcc\xff\x80"), ext(9, b"\xff\x80"), ext(11, b"\x01\x92\x01\x02"),
        ext(11, b"\xff\x90"), ext(11, ext(2, b"\0" * 16) + b"\x90"),
        ext(12, b"\0\0\x01\x01"), ext(12, b"\x07\xe4\x0d\x01"), ext(12, b"\x07\xe4\x02\x1f"),
        ext(13, b"\xff" * 8), ext(14, b"\xff" * 8), ext(14, b"\0" * 8), ext(14, b"\0" * 7),
        ext(14, bytes.fromhex("1f90440000000002") + b"\x7f" + b"\xff" * 7),
        ext(14, bytes.fromhex("1f90440000000003") + b"../../etc/passwd"),
        ext(14, bytes.fromhex("1f90440000000003") + b"Nowhere/Land"),
        ext(14, bytes.fromhex("1f90440000000004")),
        ext(15, b"\x7f" + b"\xff" * 3 + b"\0" * 8), ext(15, b"\0" * 4 + b"\xff" * 8),
        ext(16, b"\0" * 15), ext(17, b""), ext(17, b"x"), ext(17, b" 1"), ext(17, b"1_0"),
        ext(17, b"1e9999999999999999999"), ext(17, b"1E"), ext(17, b"--1"), ext(17, b"NaNx"),
        ext(18, b"\x01\x00"), ext(18, b"\x01\xff"), ext(18, b"\x01\xa1x"), ext(18, b"\x01"),
        ext(19, b"1.2.3.4.5"), ext(19, b"9" * 600), ext(21, b"10.0.0.1/8"), ext(25, b"\xff"),
        ext(31, b"\xa1X\xa1Y"), ext(32, b"\xa1X\x80"), ext(33, b"\xa1X\x80"), ext(32, b""),
    ],
    ids=lambda data: data[:24].hex(),
)  # fmt: skip
def test_impossible_values_are_refused(data: bytes) -> None:
    with pytest.raises(DecodeError):
        _core.decode(data)


def test_only_named_classes_are_made() -> None:
    data = _core.encode(Frozen(1), Frozen)
    for returns in (None, Pair, list[Pair], "Frozen"):
        with pytest.raises(DecodeError, match="names"):
            _core.decode(data, returns)


def test_other_kind_of_class_is_refused() -> None:
    sources = [(Colour.RED, Colour), (Frozen(1), Frozen), (Point(1), Point)]
    for value, returns in sources:
        data = bytearray(_core.encode(value, returns))
        for code in (31, 32, 33):
            if data[5] != code:
                changed = data[:5] + bytes([code]) + data[6:]
                with pytest.raises(DecodeError):
                    _core.decode(changed, returns)


def test_changed_class_is_a_decode_error() -> None:
    old = dataclasses.make_dataclass("Item", ["a", "b"])
    new = dataclasses.make_dataclass("Item", ["a", "c"])
    short = dataclasses.make_dataclass("Item", ["a"])
    data = _core.encode(old(1, 2), old)
    for returns in (new, short):
        with pytest.raises(DecodeError, match="changed"):
            _core.decode(data, returns)


def test_too_many_items_are_refused() -> None:
    empty = b"\xdd" + struct.pack(">I", 2**23) + b"\xc0" * 2**23
    with pytest.raises(DecodeError, match="too many items"):
        _core.decode(b"\x93" + empty + empty + b"\x01")


def test_long_digits_take_linear_time() -> None:
    huge = 1 << 8_000_000
    assert _core.decode(_core.encode(huge)) == huge
    digits = b"\xdb" + b"9" * 100
    decode_or_refuse(digits)
    number = _core.decode(ext(17, b"9" * 1_000_000))
    assert number.adjusted() == 999_999
    assert _core.decode(ext(18, _core.encode(huge) + _core.encode(huge + 1))).numerator == huge


def test_nesting_inside_extensions_is_bounded() -> None:
    for code, before in ((5, b"\x91"), (11, b"\xc0\x91"), (9, b"\x00\x81\x01"), (8, b"\x81\x01")):
        data = b"\xc0"
        for _ in range(5000):
            data = ext(code, before + data)
        with pytest.raises(DecodeError):
            _core.decode(data)
    for code, before in ((18, b""), (11, b""), (9, b""), (31, b""), (29, b""), (30, b"")):
        data = b"\x01"
        for _ in range(20000):
            data = ext(code, before + data)
        with pytest.raises(DecodeError):
            _core.decode(data)


def test_decoding_runs_under_a_quiet_decimal_context() -> None:
    with decimal.localcontext() as context:
        context.clear_traps()
        context.prec = 2
        value = D("1.23456789")
        assert _core.decode(_core.encode(value)) == value
        with pytest.raises(DecodeError):
            _core.decode(ext(17, b"bad"))


def test_decode_error_does_not_show_data() -> None:
    with pytest.raises(DecodeError) as caught:
        _core.decode(b"\xa9secret123\xff")
    assert "secret" not in str(caught.value)
    with pytest.raises(DecodeError) as caught:
        _core.decode(b"\xa9secret12\xff")
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None and caught.value.__context__ is None


def test_decode_wants_bytes() -> None:
    with pytest.raises(TypeError):
        _core.decode("text")


# ---- memory -------------------------------------------------------------------------

IMMUTABLE = [
    None, True, 5, 10**30, 1.5, 1j, "text", b"bytes", D("1.5"), dt.date(2020, 1, 1),
    dt.datetime(2020, 1, 1, tzinfo=UTC), dt.time(1), dt.timedelta(1), uuid.UUID(int=5),
    (1, "a", (2, (D(1),))), (), frozenset({1, ("a", frozenset({b"x"}))}),
    *(dt.datetime(2020, 1, 1, tzinfo=zone) for zone in ZONES),
]  # fmt: skip


@pytest.mark.parametrize("value", IMMUTABLE, ids=name_of)
def test_immutable_value_is_the_same_object(value: Any) -> None:
    kind, handed, _ = _core.hold(value)
    assert kind == "reference"
    assert handed is value


@pytest.mark.parametrize(
    "value, kind",
    [
        ({"a": 1}, "dict"), ({}, "dict"), ([1, "a", (2, 3)], "list"), ({1, 2}, "set"),
        ({"a": [1]}, "copy"), ([[1], {2}, {3: 4}], "copy"), (([1],), "copy"),
        ({"a": {"b": ([1], 2)}}, "copy"), (bytearray(b"x"), "bytes"), ([bytearray()], "bytes"),
        (collections.OrderedDict(a=1), "bytes"), ({"a": collections.deque()}, "bytes"),
        (pathlib.PurePath("a"), "bytes"), ({F(1, 2): [1]}, "bytes"), ({(F(1),)}, "bytes"),
    ],
)  # fmt: skip
def test_containers_are_copied(value: Any, kind: str) -> None:
    before = copy.deepcopy(value)
    held, handed, _ = _core.hold(value)
    assert held == kind
    assert same(handed, before)
    assert handed is not value


def test_copy_is_deep_for_containers_and_shares_leaves() -> None:
    leaf = ("x" * 100, D("1.5"))
    value = {"list": [leaf, {"set": {leaf}}], "tuple": (leaf, [leaf]), "flat": (1, leaf)}
    handed = _core.hold_copy(value)
    handed["list"][1]["set"].add(1)
    handed["list"].append(2)
    handed["tuple"][1].clear()
    handed["new"] = 1
    assert value == {
        "list": [leaf, {"set": {leaf}}], "tuple": (leaf, [leaf]), "flat": (1, leaf)
    }  # fmt: skip
    assert handed["list"][0] is leaf
    assert handed["flat"] is value["flat"]


@pytest.mark.no_sanitizer
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_copies_are_charged_what_they_take() -> None:
    """The charge is honest: what the process grows by is within a quarter of it."""
    script = """
import gc
from cachekit import _core
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096
def make(i):
    return {"id": i * 1000, "name": f"name {i}", "mail": f"user{i}@example.com",
            "score": i * 0.5, "on": True, "tags": [f"a{i}", f"b{i}"], "none": None,
            "at": (i + 500, f"x{i}"), "more": {"k": f"v{i}"}, "bytes": b"x%d" % i}
held = [_core.hold_copy(make(i)) for i in range(1000)]
gc.collect(); gc.disable()
before, charged = resident(), 0
for i in range(1000, 21000):
    kind, handed, size = _core.hold(make(i))
    held.append(handed)
    charged += size
grown = resident() - before
print(grown, charged)
assert grown <= 1.25 * charged, (grown, charged)
assert charged <= 1.5 * grown, (grown, charged)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_shared_singletons_are_free() -> None:
    for value in (None, True, 0, 256, -5, "", "a", b"", (), sys.intern("a_name_of_sorts")):
        assert _core.sizeof(value) == 0
    assert _core.sizeof(1000) == 32
    assert _core.sizeof("x" * 1000) >= 1000
    assert _core.sizeof([1.5] * 10) >= 10 * 8 + 10 * 24


def test_size_of_what_holds_itself_is_bounded() -> None:
    value: list[Any] = []
    value += [value, value]
    assert _core.sizeof(value) > 0


# ---- care ---------------------------------------------------------------------------


def blocks_grown(work: Any) -> int:
    """Blocks that 600 runs leave behind, beyond what the first ones keep for reuse."""
    for _ in range(30):
        work()
    gc.collect()
    before = sys.getallocatedblocks()
    for _ in range(600):
        work()
    gc.collect()
    return sys.getallocatedblocks() - before


@pytest.mark.no_sanitizer
@pytest.mark.parametrize("item", SMALL, ids=name_of)
def test_round_trip_leaks_nothing(item: tuple[Any, Any]) -> None:
    value, returns = item
    data = _core.encode(value, returns)

    def work() -> None:
        _core.decode(_core.encode(value, returns), returns)
        _core.hold_copy(value, returns)
        decode_or_refuse(data[:-1], returns)
        decode_or_refuse(data[:-1] + b"\xc1", returns)

    assert blocks_grown(work) < 400


@pytest.mark.no_sanitizer
@pytest.mark.parametrize("value", REFUSED, ids=name_of)
def test_refusal_leaks_nothing(value: Any) -> None:
    def work() -> None:
        for function in (_core.encode, _core.hold_copy):
            with contextlib.suppress(SerializationError):
                function({"a": [(value,)]})

    assert blocks_grown(work) < 400


def test_containers_may_change_while_they_are_read() -> None:
    """Another thread changes them; any outcome but a crash or a torn copy will do."""
    value: dict[str, Any] = {}
    items: list[Any] = []
    stop = threading.Event()

    def change() -> None:
        chance = random.Random(1)
        while not stop.is_set():
            value[str(chance.randrange(50))] = pathlib.PurePath(str(chance.random()))
            value.pop(str(chance.randrange(50)), None)
            items.append(pathlib.PurePath("x"))
            if len(items) > 40:
                del items[:]

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(1500):
            for function in (_core.encode, _core.hold_copy):
                with contextlib.suppress(SerializationError):
                    function({"a": value, "b": items})
    finally:
        stop.set()
        thread.join()
        sys.setswitchinterval(interval)


def test_import_stays_cheap() -> None:
    script = (
        "import sys; from cachekit import _core\n"
        "_core.decode(_core.encode({'a': [1, (2,), {3}, b'', 1.5, None]}))\n"
        "_core.hold_copy({'a': [1]})\n"
        "heavy = {'numpy', 'decimal', 'fractions', 'ipaddress', 'pathlib', 'uuid',\n"
        "         'zoneinfo', 'dataclasses', 'typing', 'datetime', 'asyncio'}\n"
        "bare = set(sys.argv[1].split(','))\n"
        "print(sorted((heavy & set(sys.modules)) - bare))"
    )
    bare = subprocess.run(
        [sys.executable, "-c", "import sys, cachekit; print(','.join(sys.modules))"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", script, bare], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


# ---- NumPy --------------------------------------------------------------------------


def numpy_values() -> list[Any]:
    np = pytest.importorskip("numpy")
    return [
        np.float64(1.5), np.float32(-0.0), np.float16(1), np.int8(-3), np.uint64(2**64 - 1),
        np.bool_(True), np.complex64(1j), np.str_("aé"), np.bytes_(b"x"),
        np.datetime64("2020-01-01"), np.datetime64("NaT"), np.timedelta64(3, "ns"),
        np.datetime64("2020-01-01T00:00", "25s"),
        np.arange(10), np.arange(12.0).reshape(3, 4), np.arange(24).reshape(2, 3, 4),
        np.asfortranarray(np.arange(12.0).reshape(3, 4)), np.array(3.0), np.zeros((0, 3)),
        np.zeros((2, 0, 5), dtype="i2"), np.array([True, False]), np.array(["a", "bcé"]),
        np.array([b"a", b"bc"]), np.array(["2020-01-01", "NaT"], dtype="M8[us]"),
        np.arange(4, dtype=">i4"), np.arange(20)[::2], np.arange(20).reshape(4, 5)[:, 1:3],
        np.arange(5)[::-1], np.array([np.nan, np.inf]), np.array([], dtype="U5"),
    ]  # fmt: skip


def test_numpy_values_round_trip() -> None:
    np = pytest.importorskip("numpy")
    for value in numpy_values():
        for back in (
            _core.decode(_core.encode(value)),
            _core.decode(_core.encode([value]))[0],
            _core.hold_copy(value),
        ):
            assert type(back) is type(value)
            assert back.dtype == value.dtype and back.dtype.str == value.dtype.str
            assert back.shape == value.shape
            assert back.tobytes() == value.tobytes()
            if type(value) is np.ndarray:
                assert back.flags.writeable and back.flags.owndata and back.flags.aligned
                if value.flags.f_contiguous or value.flags.c_contiguous:
                    assert back.flags.f_contiguous == value.flags.f_contiguous
                    assert back.flags.c_contiguous == value.flags.c_contiguous


def test_numpy_scalar_may_be_a_key() -> None:
    np = pytest.importorskip("numpy")
    back = _core.decode(_core.encode({np.int64(3): 1}))
    assert [type(key) for key in back] == [np.int64]


def test_other_numpy_values_are_refused() -> None:
    np = pytest.importorskip("numpy")
    values = [
        np.array([object()]), np.zeros(2, dtype=[("a", "i4")]), np.zeros(2, dtype="V4"),
        np.zeros(2, dtype=[("a", "i4")])[0], np.ma.array([1]), np.dtype("i4"),
        np.rec.array([(1, 2)]),
    ]  # fmt: skip
    for value in values:
        for function in (_core.encode, _core.hold_copy):
            with pytest.raises(SerializationError):
                function(value)


def test_array_over_the_limit_is_refused_before_it_is_copied() -> None:
    np = pytest.importorskip("numpy")
    with pytest.raises(SerializationError, match="larger than the limit"):
        _core.encode(np.zeros(10**6), limit=10**6)


def test_hostile_arrays_are_refused() -> None:
    pytest.importorskip("numpy")
    pack = _core.encode

    def array(dtype: Any, order: Any, shape: Any, data: Any) -> bytes:
        return ext(30, pack(dtype) + pack(order) + pack(shape) + pack(data))

    assert _core.decode(array("<i4", 0, [2], b"\0" * 8)).tolist() == [0, 0]
    for data in (
        array("<i4", 0, [3], b"\0" * 8), array("<i4", 0, [2**62, 2**62], b"\0" * 8),
        array("<i4", 0, [-1], b""), array("<i4", 0, [0, 2**63], b""),
        array("<i4", 2, [2], b"\0" * 8), array("<i4", 0, [True], b"\0" * 4),
        array("|O8", 0, [1], b"\0" * 8), array("|V8", 0, [1], b"\0" * 8), array("O", 0, [], b""),
        array("<i4,<i4", 0, [1], b"\0" * 8), array("(2,)i4", 0, [1], b"\0" * 8),
        array("<i3", 0, [1], b"\0" * 3), array("|b1", 0, [1], b"\x02"),
        array("<U1", 0, [1], b"\xff" * 4), array(">U1", 0, [1], b"\0\x11\0\0"),
        array("<U99999999999", 0, [0], b""), array("<M8[xx]", 0, [1], b"\0" * 8),
        array("<i4", 0, [1] * 33, b"\0" * 4), array("", 0, [], b""), array(5, 0, [], b""),
        array("<i4", 0, [2], "text"), array("<i4", 0, 2, b"\0" * 8),
        ext(29, pack("<i4") + pack(b"\0")), ext(29, pack("|O8") + pack(b"\0" * 8)),
    ):  # fmt: skip
        with pytest.raises(DecodeError):
            _core.decode(data)


def test_changed_bytes_of_arrays_give_a_value_or_an_error() -> None:
    chance = random.Random(7)
    for value in numpy_values():
        data = bytearray(_core.encode(value))
        for at in range(len(data)):
            old = data[at]
            for new in (0, 0xFF, old ^ 1, chance.randrange(256)):
                data[at] = new
                decode_or_refuse(bytes(data))
            data[at] = old
