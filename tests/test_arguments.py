"""From a call to its key: which arguments are one, which are kept apart."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import functools
import logging
import math
import operator
import os
import pathlib
import random
import struct
import subprocess
import sys
import types
import typing
import uuid
import zoneinfo
from datetime import timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachekit import Cache, ConfigurationError, UncacheableArgument
from cachekit._core import canonical
from cachekit._signature import bind, describe

NAN = float("nan")
PARIS = zoneinfo.ZoneInfo("Europe/Paris")
ROME = zoneinfo.ZoneInfo("Europe/Rome")


class Colour(enum.Enum):
    RED = 1
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1


class Word(str, enum.Enum):
    RED = "red"


class Access(enum.Flag):
    READ = 1
    WRITE = 2


@dataclasses.dataclass
class Point:
    x: object
    y: object = 0


@dataclasses.dataclass(frozen=True)
class Fixed:
    x: object
    y: object = 0


@dataclasses.dataclass(slots=True)
class Slotted:
    x: object
    hidden: int = dataclasses.field(default=0, compare=False, repr=False)
    shared: typing.ClassVar[int] = 1


class Named(typing.NamedTuple):
    x: object
    y: object = 0


Other = collections.namedtuple("Other", "x y")


class Grown(collections.namedtuple("Grown", "x y")):
    """A named tuple with methods."""


class Keyed:
    def __init__(self, key, noise=0):
        self.key = key
        self.noise = noise

    def __cache_key__(self):
        return self.key


class Inherits(Keyed):
    pass


class Plain:
    pass


class MyInt(int):
    pass


class MyDict(dict):
    pass


class MyArgs(dict):
    def __cache_key__(self):
        return sorted(self.items())


class Zone(dt.tzinfo):
    def __init__(self, name):
        self.name = name

    def utcoffset(self, when):
        return dt.timedelta(hours=1)

    def __repr__(self):
        return f"Zone({self.name!r})"


class Method:
    @classmethod
    def make(cls):
        return cls()

    def do(self):
        return self

    class Inner:
        pass


def function():
    return 1


# ---- one value, one encoding ---------------------------------------------------------

#: No two of these are one, whatever Python's == says.
APART = [
    None,
    True,
    False,
    0,
    1,
    -1,
    127,
    128,
    255,
    -128,
    -129,
    2**31,
    2**40,
    2**48,
    2**63 - 1,
    -(2**63),
    2**63,
    -(2**63) - 1,
    2**64,
    10**30,
    -(10**30),
    0.0,
    -0.0,
    1.0,
    NAN,
    math.inf,
    -math.inf,
    0j,
    1 + 0j,
    complex(0.0, -0.0),
    complex(-0.0, 0.0),
    "",
    "a",
    "1",
    "é",
    "€",
    "\U0001f600",
    "\ud800",
    "a\0",
    "x" * 127,
    "x" * 128,
    "x" * 1000,
    b"",
    b"a",
    bytearray(b""),
    bytearray(b"a"),
    (),
    (1,),
    ((),),
    ((1,), 2),
    (1, (2,)),
    (1, 2),
    {},
    {1: 2},
    {2: 1},
    {"a": 1},
    {1: {}},
    {(1,): 1},
    {Colour.RED: 1},
    set(),
    {1},
    {(1,)},
    range(3),
    range(0, 3, 2),
    range(1, 3),
    dt.date(2024, 1, 2),
    dt.time(1, 2, 3, 4),
    dt.time(1, 2, 3, 4, fold=1),
    dt.time(1, tzinfo=timezone.utc),
    dt.time(1, tzinfo=PARIS),
    dt.datetime(2024, 1, 2),
    dt.datetime(2024, 1, 2, fold=1),
    dt.datetime(2024, 1, 2, tzinfo=timezone.utc),
    dt.datetime(2024, 1, 2, tzinfo=timezone(dt.timedelta(hours=1))),
    dt.datetime(2024, 1, 2, tzinfo=timezone(dt.timedelta(hours=1), "CET")),
    dt.datetime(2024, 1, 2, 1, tzinfo=timezone(dt.timedelta(hours=1))),
    dt.datetime(2024, 1, 2, tzinfo=PARIS),
    dt.datetime(2024, 1, 2, tzinfo=ROME),
    dt.datetime(2024, 1, 2, tzinfo=Zone("a")),
    dt.datetime(2024, 1, 2, tzinfo=Zone("b")),
    dt.timedelta(1),
    dt.timedelta(seconds=1),
    dt.timedelta(microseconds=1),
    dt.timedelta(microseconds=-1),
    uuid.UUID(int=1),
    decimal.Decimal("1"),
    decimal.Decimal("1.0"),
    decimal.Decimal("-0"),
    decimal.Decimal("0"),
    decimal.Decimal("NaN"),
    decimal.Decimal("NaN1"),
    decimal.Decimal("-NaN"),
    decimal.Decimal("sNaN"),
    decimal.Decimal("Infinity"),
    decimal.Decimal("-Infinity"),
    Colour.RED,
    Colour.BLUE,
    Level.LOW,
    Word.RED,
    Access.READ,
    Access.READ | Access.WRITE,
    pathlib.PurePosixPath("a"),
    pathlib.PurePosixPath("a/b"),
    pathlib.PureWindowsPath("a"),
    pathlib.Path("a"),
    Point(1),
    Point(2),
    Point(1, 1),
    Fixed(1),
    Slotted(1),
    Slotted(1, 2),
    Named(1),
    Other(1, 0),
    Grown(1, 0),
    Keyed(1),
    Keyed("1"),
    Inherits(1),
    MyArgs(a=1),
    int,
    Plain,
    Keyed,
    Method.Inner,
    Colour,
    function,
    len,
    math.sqrt,
    str.lower,
    Method.make,
    Method.do,
    operator.itemgetter,
]


def test_different_values_have_different_bytes():
    seen = {}
    for value in APART:
        other = seen.setdefault(canonical(value), value)
        assert other is value, f"{other!r} and {value!r} are one"


#: Each group is one value.
ONE = [
    [[1, 2], (1, 2)],
    [[], ()],
    [{1, 2}, {2, 1}, frozenset({1, 2})],
    [set(), frozenset()],
    [{"a": 1, "b": 2}, {"b": 2, "a": 1}],
    [{1: [1]}, {1: (1,)}],
    [NAN, -NAN, math.inf - math.inf, struct.unpack("<d", b"\1\0\0\0\0\0\xf8\xff")[0]],
    [
        dt.datetime(2024, 1, 2, tzinfo=timezone.utc),
        dt.datetime(2024, 1, 2, tzinfo=timezone(dt.timedelta(0))),
    ],
    [pathlib.Path("a//b/"), pathlib.Path("a/b"), pathlib.Path("a") / "b"],
    [uuid.UUID(int=7), uuid.UUID("00000000-0000-0000-0000-000000000007")],
    [Keyed(1, noise=1), Keyed(1, noise=2)],
    [Keyed([1]), Keyed((1,))],
    [Point([1]), Point((1,))],
    [Access.READ | Access.WRITE, Access(3)],
    [10**30, int("1" + "0" * 30)],
    [b"ab", bytes(memoryview(b"ab"))],
    ["ab", "".join(["a", "b"]), "abc€"[:2]],
]


@pytest.mark.parametrize("group", ONE, ids=repr)
def test_the_same_value_has_the_same_bytes(group):
    assert len({canonical(value) for value in group}) == 1


def test_two_nan_keys_of_a_dict_are_ordered_by_their_values():
    first, second = float("nan"), float("nan")
    assert canonical({first: 1, second: 2}) == canonical({first: 2, second: 1})
    assert canonical({first: 1, second: 2}) != canonical({first: 1, second: 1})


def test_order_of_large_dicts_and_sets_leaves_no_trace():
    items = [(f"key {i}", i) for i in range(200)]
    shuffled = random.Random(1).sample(items, len(items))
    assert canonical(dict(items)) == canonical(dict(shuffled))
    assert canonical(set(items)) == canonical(set(shuffled))


# ---- structure decides ---------------------------------------------------------------

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-300, 300)
    | st.floats()
    | st.complex_numbers()
    | st.text(st.characters(exclude_categories=()), max_size=8)
    | st.binary(max_size=8)
)
hashable = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4).map(tuple) | st.frozensets(inner, max_size=4)
    ),
    max_leaves=8,
)
values = st.recursive(
    scalars | st.binary(max_size=8).map(bytearray),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.sets(hashable, max_size=4)
        | st.dictionaries(hashable, inner, max_size=4)
    ),
    max_leaves=12,
)


def bits(number):
    return "nan" if number != number else struct.pack("<d", number)


def structure(value):
    """The value as nested tuples of which == tells what a key tells apart."""
    kind = type(value)
    if kind in (list, tuple):
        return ("list", *map(structure, value))
    if kind in (set, frozenset):
        return ("set", frozenset(collections.Counter(map(structure, value)).items()))
    if kind is dict:
        pairs = ((structure(k), structure(v)) for k, v in value.items())
        return ("dict", frozenset(collections.Counter(pairs).items()))
    if kind is float:
        return ("float", bits(value))
    if kind is complex:
        return ("complex", bits(value.real), bits(value.imag))
    return (kind.__name__, bytes(value) if kind is bytearray else value)


@given(values, values)
def test_bytes_are_equal_exactly_when_structures_are(one, other):
    assert (canonical(one) == canonical(other)) == (structure(one) == structure(other))


small = st.recursive(
    st.sampled_from([None, True, 1, 1.0, 0, 0.0, -0.0, "", "1", b"1", 2**40]),
    lambda inner: st.lists(inner, max_size=2) | st.lists(inner, max_size=2).map(tuple),
    max_leaves=4,
)


@given(st.lists(small, max_size=4), st.lists(small, max_size=4))
def test_sequences_of_near_equal_values_are_told_apart(one, other):
    assert (canonical(one) == canonical(other)) == (structure(one) == structure(other))


@given(st.integers(), st.integers())
def test_every_int_has_bytes_of_its_own(one, other):
    assert (canonical(one) == canonical(other)) == (one == other)


# ---- limits --------------------------------------------------------------------------


def nested(depth, inner=1.5):
    for _ in range(depth):
        inner = [inner]
    return inner


@pytest.mark.parametrize("leaf", [1, 1.5, None, "a", b"a"])
def test_64_containers_deep_is_accepted_and_65_is_not(leaf):
    canonical(nested(64, leaf))
    with pytest.raises(UncacheableArgument, match="more than 64 deep"):
        canonical(nested(65, leaf))


def test_cycles_are_refused():
    items = []
    items.append(items)
    table = {}
    table["self"] = table
    point = Point(1)
    point.x = point
    for value in (items, table, point, Keyed(items)):
        with pytest.raises(UncacheableArgument, match="holds itself"):
            canonical(value)


def test_long_keys_are_replaced_by_their_digest():
    assert len(canonical("x" * 1000)) > 1000
    assert len(canonical("x" * 5000)) == 33
    assert canonical("x" * 5000) != canonical("x" * 5001)
    assert canonical("x" * 5000) == canonical("x" * 5000)


def test_list_that_shrinks_while_it_is_read_is_an_error_and_no_crash():
    class Shrinks:
        def __cache_key__(self):
            del items[:]
            return 1

    items = [Shrinks(), 2, 3]
    with pytest.raises(RuntimeError, match="changed"):
        canonical(items)


def test_dict_that_changes_while_it_is_read_is_an_error_and_no_crash():
    class Swaps:
        def __cache_key__(self):
            for key in list(table):
                del table[key]
            for _ in range(len(items)):
                table[object()] = 1
            return 1

    for size in (2, 40):
        items = range(size)
        table = dict.fromkeys(items, Swaps())
        with pytest.raises((RuntimeError, UncacheableArgument)):
            canonical(table)


# ---- what is refused -----------------------------------------------------------------


class Nowhere(dt.tzinfo):
    def utcoffset(self, when):
        return None


def local_class():
    class Local:
        pass

    @dataclasses.dataclass
    class LocalPoint:
        x: int

    class LocalEnum(enum.Enum):
        A = 1

    return Local, LocalPoint(1), LocalEnum.A


REFUSED = [
    (MyInt(1), "not treated as a plain int"),
    (MyDict(), "not treated as a plain dict"),
    (collections.OrderedDict(), "not treated as a plain dict"),
    (collections.defaultdict(list), "not treated as a plain dict"),
    (type("T", (tuple,), {})(), "not treated as a plain tuple"),
    (type("D", (dt.datetime,), {})(2024, 1, 1), "not treated as a plain datetime"),
    (type("P", (type(pathlib.Path()),), {})("a"), "not treated as a plain pathlib"),
    (object(), "object has no canonical bytes"),
    (Plain(), "Plain has no canonical bytes"),
    (..., "ellipsis has no canonical bytes"),
    (memoryview(b"a"), "memoryview has no canonical bytes"),
    (iter([]), "list_iterator has no canonical bytes"),
    (types, "module has no canonical bytes"),
    (lambda: 1, "a lambda"),
    (functools.partial(len), "functools.partial"),
    ([].append, "not found under its name"),
    (Plain().__init__, "not found under its name"),
    (Method().do, "bound to an object"),
    (dt.datetime(2024, 1, 1, tzinfo=Nowhere()), "time zone"),
    *((value, "inside a function") for value in local_class()),
    (dataclasses.make_dataclass("Made", "x")(1), "not found under its name"),
    (collections.namedtuple("Lost", "x")(1), "not found under its name"),
]


@pytest.mark.parametrize(
    ("value", "reason"), REFUSED, ids=[str(i) for i in range(len(REFUSED))]
)
def test_anything_else_is_refused_with_the_reason(value, reason):
    for within in (value, [value], {"key": value}, Point(value)):
        with pytest.raises(UncacheableArgument, match=reason):
            canonical(within)


def test_subclass_of_a_dataclass_is_not_taken_for_it():
    class More(Point):
        pass

    with pytest.raises(UncacheableArgument):
        canonical(More(1))


def test_named_tuple_with_further_attributes_is_refused():
    grown = Grown(1, 2)
    canonical(grown)
    grown.more = 3
    with pytest.raises(UncacheableArgument, match="more than its fields"):
        canonical(grown)


def test_dataclass_without_one_of_its_fields_is_refused():
    point = Point(1)
    del point.x
    with pytest.raises(UncacheableArgument, match="lacks one of its fields"):
        canonical(point)


def test_cache_key_may_be_on_a_class_made_inside_a_function():
    class Local:
        def __cache_key__(self):
            return 1

    assert canonical(Local()) == canonical(Local())
    with pytest.raises(UncacheableArgument, match="inside a function"):
        canonical(Local)  # the class itself is not asked for the key of its instances


def test_cache_key_goes_before_what_the_object_is():
    @dataclasses.dataclass
    class Local:
        x: object

        def __cache_key__(self):
            return 1

    assert canonical(Local(object())) == canonical(Local(2))


def test_cache_key_of_a_metaclass_is_for_classes():
    class Meta(type):
        def __cache_key__(cls):
            return cls.__name__

    class Local(metaclass=Meta):
        pass

    canonical(Local)
    with pytest.raises(UncacheableArgument):
        canonical(Local())


def test_cache_key_that_cannot_be_called_is_refused():
    class Local:
        __cache_key__ = None

    with pytest.raises(UncacheableArgument, match="cannot be called"):
        canonical(Local())


def test_exception_of_cache_key_passes_through():
    class Local:
        def __cache_key__(self):
            raise LookupError("no key")

    with pytest.raises(LookupError, match="no key"):
        canonical(Local())


def test_class_found_under_its_name_later_is_accepted_then(monkeypatch):
    Late = dataclasses.make_dataclass("Late", "x")
    Late.__module__ = __name__
    with pytest.raises(UncacheableArgument):
        canonical(Late(1))
    monkeypatch.setitem(globals(), "Late", Late)
    canonical(Late(1))


# ---- NumPy ---------------------------------------------------------------------------


def test_numpy_values_are_told_apart_by_type_shape_and_bytes():
    np = pytest.importorskip("numpy")
    apart = [
        1,
        1.0,
        True,
        "a",
        b"a",
        np.int32(1),
        np.int64(1),
        np.float32(1),
        np.float64(1),
        np.bool_(True),
        np.str_("a"),
        np.bytes_(b"a"),
        np.complex128(1),
        np.datetime64("2024-01-01"),
        np.datetime64("2024-01-01", "s"),
        np.timedelta64(1, "s"),
        np.array(1),
        np.array([1]),
        np.array([[1]]),
        np.array([1], dtype="i4"),
        np.array([1], dtype=">i8"),
        np.array([1, 2, 3, 4]),
        np.array([[1, 2], [3, 4]]),
        np.zeros((0, 2)),
        np.zeros((2, 0)),
        np.array([(1, 2)], dtype=[("a", "i4"), ("b", "i4")]),
        np.array([(1, 2)], dtype=[("a", "i4"), ("c", "i4")]),
        np.array([(1, 2)], dtype=[("a", "i4"), ("b", "i4")])[0],
        np.float64,
        np.float32,
        np.sin,
    ]
    assert len({canonical(value) for value in apart}) == len(apart)
    square = np.arange(6).reshape(2, 3)
    assert canonical(square.T) == canonical(square.T.copy())
    assert canonical(square[:, ::2]) == canonical(np.array([[0, 2], [3, 5]]))


def test_numpy_values_that_are_more_than_bytes_are_refused():
    np = pytest.importorskip("numpy")
    refused = [
        np.array([object()]),
        np.array([(1, None)], dtype=[("a", "i4"), ("b", "O")]),
        np.ma.array([1], mask=[True]),
        np.array([1]).view(np.recarray),
        np.random.default_rng(1),
    ]
    for value in refused:
        with pytest.raises(UncacheableArgument):
            canonical(value)


# ---- across processes ----------------------------------------------------------------

_STABLE = """
import collections, dataclasses, datetime, decimal, enum, pathlib, uuid, zoneinfo
from cachekit._core import canonical
@dataclasses.dataclass
class P: x: object
class E(enum.Enum): A = "a"
class K:
    def __cache_key__(self): return {"b", "a"}
def f(): pass
value = [1, -5, 2**80, 1.5, "text", "\\ud800", {"a", "b", "c", "d"},
    {"x": 1, "y": {"z": {1, "2"}}}, P({"k", "l"}), E.A, K(), f, P, len,
    datetime.datetime(2024, 1, 1, tzinfo=zoneinfo.ZoneInfo("Europe/Paris")),
    decimal.Decimal("1.50"), pathlib.Path("a"), uuid.UUID(int=1), range(3)]
for item in value + [value]:
    print(canonical(item).hex())
"""


def test_bytes_are_the_same_in_every_process(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(_STABLE)
    outputs = set()
    path = ":".join(filter(None, sys.path))
    for seed in ("0", "1", "random"):
        done = subprocess.run(
            [sys.executable, str(program)],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=True,
        )
        outputs.add(done.stdout)
    imported = subprocess.run(
        [sys.executable, "-c", "import program"],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{path}"},
        capture_output=True,
        text=True,
        check=True,
    )
    outputs.add(imported.stdout)
    assert len(outputs) == 1


# ---- signatures ----------------------------------------------------------------------


def test_description_of_every_kind_of_parameter():
    def f(a, b=2, /, c=3, *rest, d, e=5, **more):
        pass

    assert describe(f, ("a", "*rest", "more")) == (
        (
            ("a", None, False, True),
            ("b", 2, True, False),
            ("c", 3, True, False),
            ("d", None, False, False),
            ("e", 5, True, False),
        ),
        2,
        3,
        True,
        True,
        True,
        True,
        False,
    )


def test_ignore_that_names_no_parameter_is_an_error_that_names_the_nearest():
    def f(session, value):
        pass

    with pytest.raises(ConfigurationError, match="Did you mean 'session'"):
        describe(f, ("sesion",))
    with pytest.raises(ConfigurationError, match="It takes: session, value"):
        describe(f, ("qqq",))


def test_callables_that_are_no_functions_are_described():
    class Add:
        def __call__(self, a, *, b=1):
            return a + b

    expected = ((("a", None, False, False), ("b", 1, True, False)), 0, 1)
    assert describe(Add(), ())[:3] == expected
    assert describe(functools.partial(lambda z, a, *, b=1: 0, 1), ())[:3] == expected
    assert describe(len, ())[:3] == ((("obj", None, False, False),), 1, 1)
    assert describe(max, ())[3:5] == (True, True)  # tells nothing: anything goes


MISFITS = [
    ((), {}),
    ((1, 2, 3, 4), {}),
    ((1, 2), {"a": 1, "c": 1}),
    ((1,), {"b": 1, "z": 2}),
    ((1,), {"c": 1, "p": 1}),
    ((), {"p": 1, "a": 1}),
]


def just_bind(f, /, *args, **kwargs):
    bind(f, args, kwargs)


@pytest.mark.parametrize(("args", "kwargs"), MISFITS)
def test_misfit_raises_what_the_function_raises(args, kwargs):
    def one(p, /, a, b=1):
        raise AssertionError

    def two(p, /, a=1, *, c):
        raise AssertionError

    one.__qualname__ = "some.name"
    for f in (one, two):
        cached = Cache(backend=None)(f)
        texts = []
        for call in (f, functools.partial(just_bind, f), cached, cached.key_for):
            with pytest.raises(TypeError) as raised:
                call(*args, **kwargs)
            assert type(raised.value) is TypeError
            texts.append(str(raised.value))
        assert len(set(texts)) == 1


def test_misfit_goes_before_an_argument_without_bytes():
    @Cache(backend=None)
    def f(a, b):
        pass

    with pytest.raises(TypeError, match="missing 1 required positional argument: 'b'"):
        f(object())


# ---- binding -------------------------------------------------------------------------

SHAPES = [
    lambda: (),
    lambda a: (a,),
    lambda a, b=1: (a, b),
    lambda a, /, b=1, *, c=2: (a, b, c),
    lambda a=0, *rest: (a, rest),
    lambda a, *rest, c=2, **more: (a, rest, c, more),
    lambda *, a, b=1: (a, b),
    lambda a, /, **more: (a, more),
    lambda *rest, **more: (rest, more),
]
arguments = st.tuples(
    st.lists(st.integers(0, 2), max_size=3),
    st.dictionaries(st.sampled_from("abcd"), st.integers(0, 2), max_size=3),
)


@given(st.sampled_from(SHAPES), arguments, arguments)
def test_calls_are_one_exactly_when_the_function_receives_the_same(shape, one, other):
    cached = Cache(backend=None)(shape)
    received, keys = [], []
    for args, kwargs in (one, other):
        try:
            received.append(shape(*args, **kwargs))
        except TypeError as error:
            received.append(str(error))
        try:
            keys.append(cached._key(*args, **kwargs))
        except TypeError as error:
            keys.append(str(error))
            assert keys[-1] == received[-1]
    assert (keys[0] == keys[1]) == (received[0] == received[1])


# ---- calls ---------------------------------------------------------------------------


@pytest.fixture
def cache():
    return Cache(backend=None)


@pytest.fixture
def warnings(caplog):
    caplog.set_level(logging.WARNING, logger="cachekit")
    return lambda: [record.getMessage() for record in caplog.records]


def counted(cache, function, **options):
    """The function decorated, and the list of its runs."""
    runs = []

    @functools.wraps(function)
    def run(*args, **kwargs):
        runs.append((args, kwargs))
        return function(*args, **kwargs)

    run.__name__ = function.__name__
    return cache(run, **options), runs


def runs_of(cache, function, calls, **options):
    cached, runs = counted(cache, function, **options)
    for call in calls:
        call(cached)
    return len(runs)


def test_ways_to_write_one_call_are_one_entry(cache):
    def f(a, b=2, *, c=3):
        return a

    calls = [
        lambda f: f(1),
        lambda f: f(a=1),
        lambda f: f(1, 2),
        lambda f: f(1, b=2),
        lambda f: f(b=2, a=1),
        lambda f: f(1, c=3),
        lambda f: f(1, 2, c=3),
    ]
    assert runs_of(cache, f, calls) == 1
    apart = [lambda f: f(1), lambda f: f(1, 3), lambda f: f(1, c=4)]
    assert runs_of(cache, f, apart) == 3


def test_equal_numbers_of_different_types_are_different_calls(cache):
    def f(a):
        return a

    calls = [lambda f, a=a: f(a) for a in (1, 1.0, True, 0.0, -0.0, NAN, -NAN) * 2]
    assert runs_of(cache, f, calls) == 6


def test_extra_arguments_are_part_of_the_key(cache):
    def f(a, *rest, **more):
        return a

    apart = [
        lambda f: f(1),
        lambda f: f(1, 2),
        lambda f: f(1, (2,)),
        lambda f: f(1, 2, 3),
        lambda f: f(1, b=2),
        lambda f: f(1, rest=2),
        lambda f: f(1, b=2, c=3),
    ]
    assert runs_of(cache, f, apart * 2) == len(apart)
    assert runs_of(cache, f, [lambda f: f(1, b=2, c=3), lambda f: f(1, c=3, b=2)]) == 1


def test_positional_only_name_may_come_again_in_the_extra_keywords(cache):
    def f(a, /, **more):
        return (a, more)

    cached, runs = counted(cache, f)
    assert cached(1, a=2) == cached(1, a=2) == (1, {"a": 2})
    assert cached(2, a=1) == (2, {"a": 1})
    assert len(runs) == 2


def test_wrapper_of_any_arguments_is_bound_as_what_it_wraps(cache):
    def f(a, b=2):
        return a

    assert runs_of(cache, f, [lambda f: f(1), lambda f: f(a=1), lambda f: f(1, 2)]) == 1


def test_wrapper_that_adds_an_argument_is_cached_too(cache):
    runs = []

    def f(session, a):
        runs.append(a)
        return a

    @functools.wraps(f)
    def with_session(*args, **kwargs):
        return f("session", *args, **kwargs)

    cached = cache(with_session)
    assert [cached(1), cached(1), cached(2), cached(a=1), cached(a=1)] == [
        1,
        1,
        2,
        1,
        1,
    ]
    assert runs == [1, 2, 1]
    with pytest.raises(TypeError, match=r"f\(\) missing"):
        cached()


def test_sentinel_default_is_one_with_the_same_object_passed(cache):
    missing = object()

    def f(a=missing):
        return a is missing

    cached = cache(f)
    assert cached() is True
    assert cached(missing) is True
    assert cached(a=missing) is True
    assert cached.cache_info().misses == 1
    assert cached(None) is False
    with pytest.raises(UncacheableArgument):
        cached(object())


def test_mutable_default_is_read_at_each_call(cache):
    items = []

    def f(a=items):
        return len(a)

    cached = cache(f)
    assert cached() == 0
    items.append(1)
    assert cached() == 1


def test_uncacheable_argument_names_parameter_and_ways_out(cache):
    @cache
    def f(a, *rest, b=1, **more):
        pass

    calls = {
        "'a'": lambda: f(object()),
        r"'\*args'": lambda: f(1, object()),
        "'b'": lambda: f(1, b=[object()]),
        r"'\*\*kwargs'": lambda: f(1, c={"x": object()}),
    }
    for name, call in calls.items():
        with pytest.raises(UncacheableArgument, match=f"argument {name}") as raised:
            call()
        assert isinstance(raised.value, TypeError)
        for way_out in ("key=", "ignore=", "__cache_key__", 'on_uncacheable="call"'):
            assert way_out in str(raised.value)


def test_on_uncacheable_call_calls_through_and_warns_once(cache, warnings):
    runs = []

    @cache(on_uncacheable="call")
    def f(a):
        runs.append(a)
        return 1

    assert f(object()) == f(object()) == 1
    assert len(runs) == 2
    assert len(warnings()) == 1
    assert "cannot be part of a key" in warnings()[0]
    assert f(1) == f(1) == 1
    assert len(runs) == 3


def test_key_replaces_the_arguments_only(cache):
    @cache(key=lambda user: user["id"])
    def f(user):
        return user["name"]

    @cache(key=lambda user: user["id"])
    def g(user):
        return "g"

    assert f({"id": 1, "name": "a", "lock": object()}) == "a"
    assert f({"id": 1, "name": "b", "lock": object()}) == "a"
    assert f({"id": 2, "name": "c", "lock": object()}) == "c"
    assert g({"id": 1}) == "g"


def test_key_that_has_no_bytes_is_uncacheable(cache):
    @cache(key=lambda a: object())
    def f(a):
        pass

    with pytest.raises(UncacheableArgument, match="the result of key="):
        f(1)


def test_full_key_is_the_name_of_get_and_set(cache):
    @cache(full_key=lambda number: f"product:{number}")
    def f(number):
        return number

    assert f(1) == 1
    assert cache.get("product:1") == 1
    cache.set("product:2", 22)
    assert f(2) == 22
    cache.delete("product:1")
    assert cache.get("product:1") is None


def test_ignored_parameters_are_no_part_of_the_key(cache):
    @cache(ignore=("db", "*rest", "more"))
    def f(db, a, *rest, **more):
        return a

    assert f(object(), 1) == 1
    assert f(object(), 1, object(), x=object()) == 1
    assert f(object(), 2) == 2
    assert f.cache_info().misses == 2


class Service:
    def __init__(self, number):
        self.number = number

    def __cache_key__(self):
        return self.number


def test_methods_are_told_apart_by_their_object(cache):
    class Bound(Service):
        @cache
        def get(self, a):
            return (self.number, a)

        @classmethod
        @cache(key=lambda cls, a: (cls.__name__, a))
        def name(cls, a):
            return (cls.__name__, a)

        @staticmethod
        @cache
        def plain(a):
            return a

    class Derived(Bound):
        pass

    assert Bound(1).get(5) == (1, 5)
    assert Bound(1).get(5) == (1, 5)
    assert Bound(2).get(5) == (2, 5)
    assert Bound.get(Bound(1), 5) == (1, 5)
    assert Bound.get.cache_info()[:2] == (2, 2)
    assert Bound.name(1) == ("Bound", 1)
    assert Derived.name(1) == ("Derived", 1)
    assert Bound.plain(1) == Bound(1).plain(1) == 1


class Importable:
    shared = Cache(backend=None)

    @classmethod
    @shared
    def name(cls):
        return cls.__name__


class Below(Importable):
    pass


def test_classes_make_class_methods_work():
    assert Importable.name() == "Importable"
    assert Below.name() == "Below"
    assert Importable.name() == "Importable"
    assert Importable.name.cache_info().misses == 2


def test_self_without_bytes_is_judged_at_the_first_call(cache):
    @dataclasses.dataclass
    class Table:
        name: str

        @cache
        def rows(self):
            return 1

        @cache(ignore=("self",))
        def version(self):
            return 2

    assert Table("a").version() == 2
    with pytest.raises(UncacheableArgument, match="'self'"):
        Table("a").rows()


def test_a_cached_function_is_an_argument_by_its_identity(cache):
    def make(number):
        @cache
        def inner(a):
            return a + number

        return inner

    one, two = make(1), make(2)
    assert canonical(one) == canonical(make(1))
    assert canonical(one) != canonical(two)

    @cache
    def apply(f, a):
        return f(a)

    assert apply(one, 1) == 2
    assert apply(two, 1) == 3


# ---- local ---------------------------------------------------------------------------


class Equal:
    def __init__(self, value):
        self.value = value

    def __eq__(self, other):
        return isinstance(other, Equal) and self.value == other.value

    def __hash__(self):
        return hash(self.value)


class Child(Equal):
    pass


def test_local_accepts_any_object(cache):
    @cache.local
    def f(a):
        return object()

    for value in (object(), Plain(), lambda: 1, [Plain()], MyDict(a=1), iter([])):
        assert f(value) is f(value)
    assert f.cache_info()[:2] == (6, 6)


def test_local_tells_objects_with_equality_by_it_and_others_by_identity(cache):
    @cache.local
    def f(a):
        return object()

    assert f(Equal(1)) is f(Equal(1))
    assert f(Equal(1)) is not f(Equal(2))
    assert f(Equal(1)) is not f(Child(1))
    one, two = Plain(), Plain()
    assert f(one) is f(one)
    assert f(one) is not f(two)
    assert f(1) is not f(1.0)


def test_local_entry_of_a_dead_object_is_never_anothers(cache):
    @cache.local
    def f(a):
        return object()

    for _ in range(100):
        f(Plain())
    assert f.cache_info().misses == 100


def test_local_lets_go_of_objects_told_by_identity(cache):
    import weakref

    @cache.local
    def f(a):
        return 1

    thing, kept = Plain(), Equal(1)
    gone, held = weakref.ref(thing), weakref.ref(kept)
    f(thing)
    f(kept)
    del thing, kept
    assert gone() is None
    assert held() is not None
    f.cache_clear()
    assert held() is None
