"""Pydantic models and msgspec structs that the annotation or `returns=` names."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import math
import subprocess
import sys
import uuid
from typing import Generic, TypeVar

import msgspec
import pydantic
import pytest

from cachekit import (
    Cache,
    CacheConfig,
    CacheMiss,
    DecodeError,
    SerializationError,
    _core,
)
from cachekit.backends import MemoryBackend

T = TypeVar("T")


class Colour(enum.Enum):
    RED = "red"


class Address(pydantic.BaseModel):
    street: str
    tags: set[int] = {1}


class User(pydantic.BaseModel):
    id: int = pydantic.Field(alias="userId")
    born: datetime.date = datetime.date(2000, 1, 1)
    balance: decimal.Decimal = decimal.Decimal("1.50")
    colour: Colour = Colour.RED
    home: Address | None = None
    others: list[Address] = []
    points: tuple[int, ...] = ()
    site: pydantic.HttpUrl = "http://example.org/"
    sites: list[pydantic.AnyUrl] = []
    note: int = None  # a default that its own field would not take


class Node(pydantic.BaseModel):
    children: list[Node] = []


class Page(pydantic.BaseModel, Generic[T]):
    items: list[T]


class Names(pydantic.RootModel[list[str]]):
    pass


class Open(pydantic.BaseModel, extra="allow"):
    a: int


class Aliased(pydantic.BaseModel):
    either: int = pydantic.Field(validation_alias=pydantic.AliasChoices("one", "two"))


class Point(msgspec.Struct, frozen=True):
    x: int
    y: float = 0.0


class Shape(
    msgspec.Struct,
    rename="camel",
    tag=True,
    omit_defaults=True,
    forbid_unknown_fields=True,
):
    first_point: Point
    at: datetime.datetime
    id: uuid.UUID
    price: decimal.Decimal
    colour: Colour = Colour.RED
    points: dict[int, Point] = {}
    ids: set[int] = set()
    data: bytes = b""
    pair: tuple[int, str] = (1, "a")


class Row(msgspec.Struct, array_like=True):
    a: int
    b: list[Point] = []


class Loose(msgspec.Struct, eq=False):
    a: int


@dataclasses.dataclass
class Both:
    user: User
    point: Point


def turn(value, returns):
    return _core.decode(_core.encode(value, returns), returns)


def home():
    return Address(street="here", tags={1, 2})


USERS = [
    User(userId=1),
    User(userId=2, home=home(), others=[home(), home()], points=(1, 2)),
    User(userId=3, site="https://a.example/x", sites=["http://b.example/"]),
]
SHAPE = Shape(
    Point(1, 2.5),
    datetime.datetime(2024, 5, 1, tzinfo=datetime.timezone.utc),
    uuid.UUID(int=5),
    decimal.Decimal("1.50"),
    points={1: Point(3)},
    ids={1, 2},
    data=b"\0",
)


@pytest.mark.parametrize(
    "value, returns",
    [
        *((user, User) for user in USERS),
        (USERS, list[User]),
        (None, User | None),
        ({"a": [USERS[1]]}, dict[str, list[User]]),
        (Node(children=[Node(), Node(children=[Node()])]), Node),
        (Page[Address](items=[home()]), Page[Address]),
        (Names(["a"]), Names),
        (Open(a=1, b=(1, {2})), Open),
        (Aliased(two=3), Aliased),
        (Point(1, 2.5), Point),
        (Point(1), Point | User),
        (SHAPE, Shape),
        ([SHAPE, None], list[Shape | None]),
        (Row(1, [Point(2)]), Row),
        (Both(USERS[1], Point(1)), Both),
    ],
    ids=lambda part: type(part).__name__ if not isinstance(part, type) else "",
)
def test_comes_back_equal_and_of_its_class(value, returns):
    twin = turn(value, returns)
    assert twin == value
    assert type(twin) is type(value)


def test_what_was_set_and_what_was_left_to_its_default_is_kept():
    twin = turn(USERS[1], User)
    assert twin.model_fields_set == USERS[1].model_fields_set
    assert twin.home.model_fields_set == {"street", "tags"}
    assert twin.model_dump(exclude_unset=True) == USERS[1].model_dump(
        exclude_unset=True
    )


def test_nan_is_itself():
    class Measured(pydantic.BaseModel):
        one: float
        more: list[float]

    twin = turn(Measured(one=math.nan, more=[math.nan]), Measured)
    assert math.isnan(twin.one) and math.isnan(twin.more[0])


def test_a_struct_without_equality_comes_back():
    assert turn(Loose(3), Loose).a == 3


def test_the_wire_holds_plain_data_and_names_the_class():
    data = _core.encode(Point(1, 2.5), Point)
    assert b"Point" in data and b"\xa1x\x01" in data
    assert b"pickle" not in data and b"msgspec" not in data


# -- what would not come back ---------------------------------------------------------


class Hashed(pydantic.BaseModel):
    password: str

    @pydantic.field_validator("password")
    @classmethod
    def hashed(cls, value):
        return value + "!"


class Secret(pydantic.BaseModel):
    password: pydantic.SecretStr


class Private(pydantic.BaseModel):
    a: int = 1
    _b: int = pydantic.PrivateAttr(0)


class Sub(Address):
    more: int = 1


class SubPoint(Point):
    z: int = 0


class Holder(msgspec.Struct):
    point: Point


def changed_private():
    made = Private()
    made._b = 5
    return made


@pytest.mark.parametrize(
    "value, returns",
    [
        (Hashed(password="hunter2"), Hashed),
        (Secret(password="hunter2"), Secret),
        (changed_private(), Private),
        (Sub(street="x"), Address),
        (Address.model_construct(street=5), Address),
        (Address.model_construct(), Address),
        (Point(1.5), Point),
        (Point("hunter2"), Point),
        (Holder(SubPoint(1)), Holder),
        (Address(street="hunter2"), None),
        (Point(1), None),
        (Point(1), Address),
    ],
    ids=[
        *("a validator that changes", "a secret", "a private attribute", "a subclass"),
        *("of another type", "without fields", "a float", "text", "a struct below"),
        *("a model nobody named", "a struct nobody named", "another class"),
    ],
)
def test_what_would_not_come_back_is_e004_with_its_path(value, returns):
    with pytest.raises(SerializationError) as caught:
        _core.encode({"users": [value]}, returns and dict[str, list[returns]])
    error = caught.value
    assert error.code == "E004"
    assert error.path.startswith("$.users[0]")
    assert "hunter2" not in str(error) and error.__cause__ is None


def test_a_field_that_cannot_be_stored_is_named():
    class Holds(pydantic.BaseModel, arbitrary_types_allowed=True):
        handle: object

    with pytest.raises(SerializationError) as caught:
        _core.encode([Holds(handle=object())], list[Holds])
    assert caught.value.path == "$[0].handle"


# -- changed and hostile bytes --------------------------------------------------------


def test_a_class_whose_fields_have_changed_does_not_read_the_old_ones():
    def first():
        class Thing(pydantic.BaseModel):
            a: int

        class Other(msgspec.Struct):
            a: int

        return Thing, Other

    def second():
        class Thing(pydantic.BaseModel):
            a: int
            b: int = 0

        class Other(msgspec.Struct):
            a: int
            b: int = 0

        return Thing, Other

    for old, new in zip(first(), second(), strict=True):
        old.__qualname__ = new.__qualname__ = old.__name__
        data = _core.encode(old(a=1), old)
        assert _core.decode(data, old).a == 1
        with pytest.raises(DecodeError):
            _core.decode(data, new)


def test_stored_data_is_validated_and_never_shown():
    data = _core.encode(Address(street="hunter2"), Address)
    wrong = data.replace(b"\xa7hunter2", b"\x97hunter2", 1)  # a list in place of text
    with pytest.raises(DecodeError) as caught:
        _core.decode(wrong, Address)
    assert "hunter" not in str(caught.value) and caught.value.__cause__ is None


@pytest.mark.parametrize("value", [USERS[1], SHAPE, Row(1, [Point(2)]), Names(["a"])])
def test_every_flip_is_a_value_of_the_class_or_a_decode_error(value):
    returns = type(value)
    data = bytearray(_core.encode(value, returns))
    for at in range(len(data)):
        for bit in range(8):
            data[at] ^= 1 << bit
            try:
                _core.decode(bytes(data), returns)
            except DecodeError as error:
                assert error.__cause__ is None
            data[at] ^= 1 << bit
    for end in range(len(data)):
        with pytest.raises(DecodeError):
            _core.decode(bytes(data[:end]), returns)


def extension(code: int, name: bytes, content: bytes) -> bytes:
    content = bytes([0xA0 | len(name)]) + name + content
    return b"\xc9" + len(content).to_bytes(4, "big") + bytes([code]) + content


@pytest.mark.parametrize("code", [31, 32, 33, 34])
@pytest.mark.parametrize("name", [b"Address", b"Point", b"Both", b"Colour", b"None"])
@pytest.mark.parametrize("content", [b"", b"\xc0", b"\x80\x90", b"\x81\xa1a\x01\x90"])
def test_a_name_under_the_code_of_another_kind_is_refused(code, name, content):
    returns = Address | Point | Both | Colour
    with pytest.raises(DecodeError):
        _core.decode(extension(code, name, content), returns)


def test_models_inside_models_count_as_depth():
    data = b"\xc0"
    for _ in range(20_000):
        data = extension(34, b"Names", data)
    with pytest.raises(DecodeError):
        _core.decode(data, Names)
    deep = Node()
    for _ in range(600):
        deep = Node.model_construct(children=[deep])
    with pytest.raises(SerializationError):
        _core.encode(deep, Node)


# -- as the results of functions ------------------------------------------------------


def test_functions_hand_out_copies_from_memory_and_from_the_store():
    store = MemoryBackend()

    def users(n: int) -> list[User]:
        return [User(userId=i, home=home()) for i in range(n)]

    def cached(memory: bool):
        config = CacheConfig(l1_enabled=memory)
        return Cache(config, backend=store)(name="users")(users)

    one, two = cached(True), cached(False)
    one(2)[0].home.street = "changed"
    one(2)[1].home.tags.clear()
    expected = users(2)
    assert one(2) == two(2) == expected
    assert one.cache_info().l1_hits == 2 and two.cache_info().l2_hits == 1
    assert one(2)[0] is not one(2)[0]


def test_returns_names_what_no_annotation_does():
    cache = Cache(backend=None)

    @cache(name="named", returns=(Point, Address))
    def either(x: int):
        return Point(x) if x else home()

    @cache(name="unnamed")
    def neither(x: int):
        return Point(x)

    for x in (0, 1):
        assert either(x) == either(x)
    assert either.cache_info().hits == 2
    assert neither(1) == neither(1)
    assert neither.cache_info().unencodable == 2


def test_a_reader_that_does_not_name_the_class_misses():
    store, config = MemoryBackend(), CacheConfig(l1_enabled=False)

    @Cache(config, backend=store)(name="point", returns=Point)
    def writer(x: int):
        return Point(x)

    @Cache(config, backend=store)(name="point")
    def reader(x: int):
        raise AssertionError

    writer(1)
    with pytest.raises(CacheMiss):
        reader.using("fresh")(1)
    assert writer.using("fresh")(1) == Point(1)


def test_neither_library_is_imported_by_cachekit():
    code = (
        "import sys; from cachekit import Cache\n"
        "@Cache(backend=None)(name='f')\n"
        "def f(x: int) -> list[int]: return [x]\n"
        "f(1); f(1)\n"
        "print(sorted({'pydantic', 'msgspec'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
