# SPDX-License-Identifier: MIT
"""Values of every type that the codec knows, some it refuses, and what tests do with
them."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import functools
import ipaddress
import math
import pathlib
import struct
import typing
import uuid
import zoneinfo
from typing import Any, NamedTuple, Optional, Union

from cachekit import _core
from cachekit._errors import DecodeError

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
    y: Frozen | None = None


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
    "", "a", "\0", "\x7f", "\x80", "é", "ÿ", "€", "😀", "\ud800", "a\udfffb",
    "\U0010ffff",
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
    collections.deque(), collections.deque([1, [2]], maxlen=5), collections.deque([],
    0),
    dt.date.min, dt.date.max, dt.date(2020, 2, 29),
    dt.time.min, dt.time.max, dt.time(1, 2, 3, 4, fold=1), dt.time(1, tzinfo=UTC),
    dt.time(2, tzinfo=dt.timezone(dt.timedelta(hours=1), "X")),
    dt.datetime.min, dt.datetime.max, dt.datetime(2020, 1, 2, 3, 4, 5, 6, fold=1),
    dt.datetime(2020, 1, 1, tzinfo=UTC),
    dt.datetime(2020, 1, 1, tzinfo=dt.timezone(dt.timedelta(0), "UTC")),
    dt.datetime(2020, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=-5))),
    dt.datetime(2020, 1, 1, tzinfo=dt.timezone(dt.timedelta(microseconds=-1), "")),
    dt.datetime(2020, 1, 1, tzinfo=dt.timezone(dt.timedelta(1, -1), "é\ud800")),
    *(dt.datetime(2020, 10, 25, 2, 30, fold=f, tzinfo=z) for z in ZONES for f in (0,
    1)),
    *(dt.time(2, 30, tzinfo=z) for z in ZONES),
    dt.timedelta(0), dt.timedelta.min, dt.timedelta.max, dt.timedelta(-1, 86399,
    999999),
    uuid.UUID(int=0), uuid.UUID(int=2**128 - 1), uuid.UUID(int=1 << 64),
    uuid.UUID("12345678-1234-5678-1234-567812345678"),
    D(0), D("-0"), D("1.50"), D("1E+5"), D("-1e-500"), D("NaN"), D("-sNaN123"),
    D("Infinity"),
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
    (Colour.RED, Colour), (Colour.ODD, Colour), (Colour.NAN, Colour), (Level.HIGH,
    Level),
    (Right.READ, Right), (Right.READ | Right.WRITE, Right), (Right(0), Right),
    (Word.YES, Word), ({Colour.RED: [Colour.GREEN]}, dict[Colour, list[Colour]]),
    (User("a", Address("s", Colour.RED), [User("b", Address("t", Colour.GREEN))]),
    User),
    ([Frozen(1), Frozen(2, math.nan)], list[Frozen]),
    (Frozen(1), Optional[Frozen]), (Frozen(1), Union[int, "list[Frozen]", Frozen]),  # noqa: UP045
    (Slotted([1], Slotted(2, 3)), Slotted), (Derived(3), Derived),
    (Point(1, Frozen(2)), Point), (Pair(1, [Pair(2, 3)]), Pair),
    ((1, Point(2)), tuple[int, Point]), ({"a": (Point(1),)}, dict[str, tuple[Point,
    ...]]),
    ({"title": "x", "colour": Colour.RED}, Film), (Box(Frozen(1)), Box[Frozen]),
    ([Colour.RED], typing.Annotated[list[Colour], "doc"]),
    (Level.LOW, typing.NewType("Rank", Level)), ({Frozen(1): 2}, typing.Mapping[Frozen,
    int]),
]  # fmt: skip

EVERYTHING = [(value, None) for value in PLAIN + LIBRARY] + NAMED
SMALL = [
    (value, returns)
    for value, returns in EVERYTHING
    if len(_core.encode(value, returns)) < 400
]


def name_of(item: Any) -> str:
    return repr(item)[:40]


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
    SubInt(1), SubDict(), SubStr("a"), SubDate(2020, 1, 1), SubPath("a"),
    memoryview(b"x"),
    Colour.RED, Frozen(1), Point(1), Level.LOW, Word.YES, UTC, *ZONES,
    dt.datetime(2020, 1, 1, tzinfo=Zone()), collections.defaultdict(lambda: 1),
    collections.ChainMap(), ValueError("x"), {}.keys(),
]  # fmt: skip


def decode_or_refuse(data: bytes, returns: Any = None) -> Any:
    try:
        return _core.decode(data, returns)
    except DecodeError:
        return None


def ext(code: int, content: bytes) -> bytes:
    return b"\xc9" + struct.pack(">IB", len(content), code) + content
