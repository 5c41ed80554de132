"""The fingerprint of a type: what changes it, and that nothing else does."""

# Old and new ways to write a type are compared.
# ruff: noqa: UP006, UP007, UP045, ISC004, PIE796

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import itertools
import pathlib
import subprocess
import sys
import types
import typing
from typing import Any, Literal, NamedTuple, Optional, TypedDict, TypeVar, Union

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachekit._errors import ConfigurationError
from cachekit._schema import describe, fingerprint

T = TypeVar("T")
B = TypeVar("B", bound=int)
Id = typing.NewType("Id", int)


def define(source: str, **names: Any) -> Any:
    """The last name that `source` defines, each time anew, in a module of its own."""
    module = types.ModuleType(f"made_{next(_numbers)}")
    vars(module).update(names)
    sys.modules[module.__name__] = module
    header = "import dataclasses, enum, typing\nfrom typing import *\n"
    exec(header + source, vars(module))
    return list(vars(module).values())[-1]


_numbers = itertools.count()


@pytest.fixture(autouse=True)
def forget_modules():
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("made_"):
            del sys.modules[name]


def same(one: Any, *others: Any) -> bool:
    return all(describe(one) == describe(other) for other in others)


def apart(*schemas: Any) -> bool:
    return len({fingerprint(schema) for schema in schemas}) == len(schemas)


# -- annotations ----------------------------------------------------------------------


def test_a_fingerprint_has_32_bits_and_is_not_0():
    for schema in (int, str, None, dict[str, int], Any):
        assert 0 < fingerprint(schema) < 2**32


def test_zero_is_not_given(monkeypatch):
    class Zero:
        def __init__(self, *args, **kwargs): ...

        def digest(self):
            return bytes(4)

    monkeypatch.setattr("cachekit._schema.blake2b", Zero)
    assert fingerprint(int) == 1


def test_plain_types_differ():
    assert apart(
        *(int, str, bool, float, bytes, None, list, dict, tuple, set, object, Any),
        *(datetime.date, datetime.datetime, decimal.Decimal, pathlib.Path),
        *(collections.deque, collections.OrderedDict),
        *(list[int], list[str], set[int], tuple[int], tuple[int, ...], tuple[()]),
        *(tuple[int, str], tuple[str, int], dict[str, int], dict[int, str]),
        *(list[list[int]], int | None, int | str, int | str | None),
        *(Literal[1], Literal["1"], Literal[True], Literal[1, 2], Literal[None]),
        *(type[int], collections.abc.Sequence[int], collections.abc.Mapping[str, int]),
    )


def test_ways_to_write_the_same_are_the_same():
    assert same(Optional[int], Union[int, None], int | None, None | int)
    assert same(Union[int, str], Union[str, int], str | int)
    assert same(Union[int, Union[str, None]], None | str | int)
    assert same(list[int], typing.List[int])
    assert same(list, typing.List)
    assert same(tuple[()], typing.Tuple[()])
    assert same(dict[str, int], typing.Dict[str, int])
    assert same(collections.abc.Sequence[int], typing.Sequence[int])
    assert same(Literal[1, 2], Literal[2, 1], Literal[1, 2, 1])
    assert same(int, Id, typing.Annotated[int, "positive"])
    assert same(None, type(None))
    assert same(Union[list[int], typing.List[int]], list[int])


@pytest.mark.parametrize(
    "schema, named",
    [
        (5, "5"),
        (len, "len"),
        ([int], "int"),
        (lambda: 1, "lambda"),
        ("User", "User"),
        (list["User"], "User"),  # noqa: F821
        (typing.Callable[[int], str], "Callable"),
        (typing.ClassVar[int], "ClassVar"),
        (typing.Generic, "Generic"),
        (typing, "module"),
        (pytest.Item, "Item"),
        (list[pytest.Item], "pytest.*Item|Item"),
        (typing.Concatenate, "Concatenate"),
    ],
)
def test_what_has_no_shape_is_named(schema, named):
    with pytest.raises(ConfigurationError, match=named) as caught:
        fingerprint(schema)
    assert "version=" in caught.value.hint


def test_depth_is_bounded():
    deep: Any = int
    for _ in range(5000):
        deep = list[deep]
    with pytest.raises(ConfigurationError, match="too deep"):
        fingerprint(deep)


leaves = st.sampled_from([int, str, bytes, None, Any, datetime.date, Literal["a"]])
annotations = st.recursive(
    leaves,
    lambda inner: st.one_of(
        inner.map(lambda a: list[a]),
        st.tuples(inner, inner).map(lambda a: dict[a]),
        st.lists(inner, max_size=3).map(lambda a: tuple[tuple(a)]),
        st.lists(inner, min_size=1, max_size=3).map(lambda a: Union[tuple(a)]),
    ),
)


@given(annotations, annotations)
def test_equal_annotations_are_those_with_equal_texts(one, other):
    assert fingerprint(one) == fingerprint(one)
    if one == other:
        assert describe(one) == describe(other)
    assert same(Union[one, other], Union[other, one])
    if describe(one) != describe(other):
        assert apart(list[one], list[other])


# -- dataclasses ----------------------------------------------------------------------

USER = "@dataclasses.dataclass\nclass User:\n    id: int\n    name: str\n"


@pytest.mark.parametrize(
    "source",
    [
        "@dataclasses.dataclass\nclass User:\n    name: str\n    id: int\n",
        "@dataclasses.dataclass(frozen=True)\nclass User:\n"
        "    '''Documented.'''\n    id: int = 5\n    name: str = 'x'\n",
        "@dataclasses.dataclass\nclass User:\n    id: 'int'\n    name: 'str'\n"
        "    count: ClassVar[int] = 0\n    def method(self): ...\n",
        "class Base:\n    id: int\n@dataclasses.dataclass\nclass User:\n"
        "    id: Annotated[int, 'unit']\n    name: str\n    extra: InitVar[int] = 1\n",
        "@dataclasses.dataclass\nclass Base:\n    name: str\n"
        "@dataclasses.dataclass\nclass User(Base):\n    id: int\n",
        "from __future__ import annotations\n" + USER,
    ],
)
def test_what_does_not_change_a_dataclass(source):
    if "__future__" in source:
        code = compile(source, "x", "exec")
        module = types.ModuleType("made_future")
        sys.modules["made_future"] = module
        exec("import dataclasses", vars(module))
        exec(code, vars(module))
        assert same(define(USER), module.User)
    else:
        assert same(define(USER), define(source, InitVar=dataclasses.InitVar))


@pytest.mark.parametrize(
    "source",
    [
        "@dataclasses.dataclass\nclass User:\n    id: int\n",
        "@dataclasses.dataclass\nclass User:\n    id: str\n    name: str\n",
        "@dataclasses.dataclass\nclass User:\n    id: int\n    nick: str\n",
        "@dataclasses.dataclass\nclass User:\n    id: int\n    name: Optional[str]\n",
        "@dataclasses.dataclass\nclass Person:\n    id: int\n    name: str\n",
        "class User(NamedTuple):\n    id: int\n    name: str\n",
        "class User(TypedDict):\n    id: int\n    name: str\n",
        USER + "    age: int = 0\n",
    ],
)
def test_what_changes_a_dataclass(source):
    assert apart(define(USER), define(source))


def test_a_change_deep_inside_changes_the_outside():
    source = """
@dataclasses.dataclass
class Inner:
    value: {}
@dataclasses.dataclass
class Middle:
    inner: dict[str, list[Inner]]
@dataclasses.dataclass
class Outer:
    middle: Optional[Middle]
"""
    assert apart(define(source.format("int")), define(source.format("str")))


TREE = """
@dataclasses.dataclass
class Leaf:
    value: {}
    parent: Optional["Tree"]
@dataclasses.dataclass
class Tree:
    left: Union["Tree", Leaf, None]
    right: Union[Leaf, None, "Tree"]
"""


def test_a_type_may_contain_itself():
    assert same(define(TREE.format("int")), define(TREE.format("int")))
    assert apart(define(TREE.format("int")), define(TREE.format("str")))


def test_a_local_class_may_contain_itself():
    @dataclasses.dataclass
    class Node:
        next: Optional[Node]

    assert fingerprint(Node)


def test_a_type_that_is_met_often_is_described_once():
    source = "@dataclasses.dataclass\nclass C0:\n    value: int\n"
    for number in range(1, 60):
        source += (
            f"@dataclasses.dataclass\nclass C{number}:\n"
            f"    one: C{number - 1}\n    two: C{number - 1}\n"
        )
    assert len(describe(define(source))) < 20_000


def test_two_classes_of_one_name_stay_apart():
    one, other = define(USER), define(USER + "    age: int = 0\n")
    assert apart(one | other, one, other)
    assert same(one | other, other | one)
    assert same(tuple[one, int], tuple[define(USER), int])


def test_generic_dataclasses_tell_their_arguments_apart():
    box = "@dataclasses.dataclass\nclass Box(Generic[T]):\n    value: T\n"
    Box = define(box, T=T)
    assert apart(Box, Box[int], Box[str], Box[list[int]])
    Ints = define("@dataclasses.dataclass\nclass C(Box[int]): ...\n", Box=Box)
    Texts = define("@dataclasses.dataclass\nclass C(Box[str]): ...\n", Box=Box)
    assert apart(Ints, Texts)
    assert apart(Box, define(box, T=B), define(box, T=TypeVar("T", int, str)))


def test_a_name_that_is_not_known_is_named():
    with pytest.raises(ConfigurationError, match="Nowhere") as caught:
        fingerprint(define("@dataclasses.dataclass\nclass A:\n    x: 'Nowhere'\n"))
    assert "A" in str(caught.value)


def test_a_name_that_means_itself_is_refused():
    with pytest.raises(ConfigurationError, match="means itself"):
        fingerprint(define("X = 'X'\n@dataclasses.dataclass\nclass A:\n    x: X\n"))


def test_what_is_no_field_is_not_looked_at():
    source = "    registry: ClassVar['Nowhere'] = None\n"
    assert same(define(USER), define(USER + source))


def test_an_alias_may_contain_itself():
    source = """
Json = Union[dict[str, "Json"], list["Json"], {}, None]
@dataclasses.dataclass
class Document:
    body: Json
"""
    assert same(define(source.format("int")), define(source.format("int")))
    assert apart(define(source.format("int")), define(source.format("str")))


# -- named tuples, dicts, enums -------------------------------------------------------


class Point(NamedTuple):
    x: int
    y: float = 0.0


def test_the_order_of_a_named_tuple_counts():
    one = define("class Point(NamedTuple):\n    x: int\n    y: float\n")
    other = define("class Point(NamedTuple):\n    y: float\n    x: int\n")
    assert same(one, Point)
    assert apart(one, other)


def test_a_named_tuple_without_annotations_holds_anything():
    assert apart(
        collections.namedtuple("P", "x y"),
        collections.namedtuple("P", "y x"),
        collections.namedtuple("P", "x"),
    )


class Movie(TypedDict):
    title: str
    year: int


def test_typed_dicts():
    title = "class Movie(TypedDict):\n    year: int\n    title: str\n"
    assert same(Movie, define(title))
    base = (
        "class Base(TypedDict):\n    title: str\nclass Movie(Base{}):\n    year: int\n"
    )
    assert same(Movie, define(base.format("")))
    assert apart(
        Movie,
        define(base.format(", total=False")),
        define(title.replace("):", ", total=False):")),
        define(title.replace("int", "str")),
    )


def test_required_keys_of_typed_dicts():
    from typing_extensions import NotRequired, Required

    source = "class Movie(TypedDict{}):\n    title: {}\n    year: {}\n"
    names = {"NotRequired": NotRequired, "Required": Required}
    plain = define(source.format(", total=False", "Required[str]", "int"), **names)
    for title, year in [
        ("str", "NotRequired[int]"),
        ("str", "'NotRequired[int]'"),
        ("str", "Annotated[NotRequired[int], 5]"),
    ]:
        assert same(plain, define(source.format("", title, year), **names))
    assert apart(plain, Movie)


class Color(enum.Enum):
    RED = 1
    GREEN = "g"
    CRIMSON = 1


def test_enums():
    source = "class Color(enum.Enum):\n    GREEN = 'g'\n    RED = 1\n    CRIMSON = 1\n"
    assert same(Color, define(source))
    assert apart(
        Color,
        define(source.replace("= 1", "= 2")),
        define(source.replace("= 1", "= '1'")),
        define(source.replace("CRIMSON", "ROSE")),
        define(source.replace("Color(", "Colour(")),
        define(source + "    BLUE = 3\n"),
        Literal[Color.RED],
        Literal[Color.GREEN],
    )


def test_enums_with_odd_values():
    assert fingerprint(define("class E(enum.Enum):\n    A = (1, 'x')\n    B = None\n"))
    assert fingerprint(define("class E(enum.Flag):\n    A = 1\n    B = 2\n    C = 3\n"))
    with pytest.raises(ConfigurationError, match="E.*object"):
        fingerprint(define("class E(enum.Enum):\n    A = object()\n"))


def test_classes_of_the_standard_library_stand_for_themselves():
    import http

    # It has other members in other versions of Python.
    assert "TEAPOT" not in describe(http.HTTPStatus)


def test_a_module_of_ours_may_be_called_like_one_of_the_library(tmp_path):
    (tmp_path / "profile.py").write_text("import dataclasses\n" + USER)
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import profile\n"
        "from cachekit._schema import describe\nprint(describe(profile.User))"
    )
    assert run(sys.executable, "-c", code).rstrip("\n") == describe(define(USER))


class Plain:
    id: int


def test_a_plain_class_cannot_be_described():
    with pytest.raises(ConfigurationError, match=r"test_schema\.Plain"):
        fingerprint(dict[str, Plain])


# -- other libraries ------------------------------------------------------------------


def test_structs():
    msgspec = pytest.importorskip("msgspec")
    source = "class User(msgspec.Struct{}):\n    id: int\n    name: str = 'x'\n"

    def make(options="", source=source):
        return define(source.format(options), msgspec=msgspec)

    swapped = "class User(msgspec.Struct{}):\n    name: str\n    id: int\n"
    assert same(make(), make(", frozen=True"), make(source=swapped))
    assert apart(
        make(),
        make(", array_like=True"),
        make(", array_like=True", swapped),
        make(", tag=True"),
        make(", tag='other'"),
        make(", tag_field='kind'"),
        make(", rename='upper'"),
        make(source=source.replace("int", "str")),
        make(source=source + "    next: Optional['User'] = None\n"),
        define(USER),
    )


def test_models():
    pydantic = pytest.importorskip("pydantic")
    source = "class User(pydantic.BaseModel):\n    id: int\n    name: str = 'x'\n"
    names = {"pydantic": pydantic, "Field": pydantic.Field}

    def make(source=source):
        return define(source, **names)

    assert same(
        make(),
        make("class User(pydantic.BaseModel):\n    name: str\n    id: int\n"),
        make(source.replace("int", "Annotated[int, Field(gt=0, description='no')]")),
    )
    assert apart(
        make(),
        make(source.replace("int", "str")),
        make(source.replace("int", "Annotated[int, Field(alias='ID')]")),
        make(source + "    next: Optional['User'] = None\n"),
        make(source + "    link: pydantic.HttpUrl\n"),
        define(USER),
    )
    box = "class Box(pydantic.BaseModel, Generic[T]):\n    value: T\n"
    Box = define(box, T=T, **names)
    assert apart(Box, Box[int], Box[str])
    root = "class Ids(pydantic.RootModel[{}]): ...\n"
    assert apart(make(root.format("list[int]")), make(root.format("list[str]")))
    with pytest.raises(ConfigurationError, match="User"):
        fingerprint(make(source + "    next: 'Nowhere'\n"))


def test_neither_library_is_imported_for_it():
    code = """if True:
        import sys
        import dataclasses
        from cachekit._schema import fingerprint
        @dataclasses.dataclass
        class A:
            x: int
        fingerprint(A)
        assert not {"pydantic", "msgspec"} & set(sys.modules)
    """
    subprocess.run([sys.executable, "-c", code], check=True)


# -- everywhere the same --------------------------------------------------------------

EVERYTHING = """
import dataclasses, datetime, decimal, enum, pathlib, collections, uuid, ipaddress
import fractions, zoneinfo
import typing
from typing import *

T = TypeVar("T")

class Color(enum.IntFlag):
    RED = enum.auto()
    BLUE = enum.auto()
    BOTH = RED | BLUE

class Point(NamedTuple):
    x: int
    y: Optional[float] = None

class Movie(TypedDict, total=False):
    title: str
    tags: set[str]

Json = Union[dict[str, "Json"], List["Json"], str, int, None]

@dataclasses.dataclass
class Box(Generic[T]):
    value: T
    others: tuple[T, ...] = ()

@dataclasses.dataclass
class Node:
    point: Point
    movie: "Movie"
    color: Literal[Color.RED, "none", 1, True, None, b"x"]
    children: Dict[str, "Node"]
    where: pathlib.Path
    pure: pathlib.PurePosixPath
    when: Union[datetime.datetime, datetime.date, datetime.timedelta]
    price: decimal.Decimal
    part: fractions.Fraction
    zone: zoneinfo.ZoneInfo
    id: uuid.UUID
    ip: ipaddress.IPv4Address
    many: collections.Counter[str]
    box: Box[int]
    boxes: typing.Sequence[Box[str]]
    json: Json
    anything: Any
    empty: Tuple[()]
    new: NewType("Id", int)
    nothing: None = None

from cachekit._schema import describe, fingerprint
print(fingerprint(Node), describe(Node))
"""


def run(python: Any, *arguments: str, seed: str = "0") -> str:
    result = subprocess.run(
        [str(python), *arguments],
        capture_output=True,
        text=True,
        env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(filter(None, sys.path))},
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_other_processes_agree(tmp_path):
    (tmp_path / "shop.py").write_text(EVERYTHING)
    texts = {run(sys.executable, "-c", EVERYTHING, seed=seed) for seed in "123"}
    texts.add(run(sys.executable, str(tmp_path / "shop.py")))
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import shop"
    texts.add(run(sys.executable, "-c", code))
    assert len(texts) == 1


def test_versions_of_python_agree():
    """The number is what Python 3.10 made of it."""
    assert int(run(sys.executable, "-c", EVERYTHING).split()[0]) == 2617700096


@pytest.mark.skipif(sys.version_info < (3, 12), reason="no type statement")
def test_type_statements():
    source = "type Json = dict[str, Json] | list[Json] | {} | None"
    assert same(define(source.format("int")), define(source.format("int")))
    assert apart(define(source.format("int")), define(source.format("str")))
    with pytest.raises(ConfigurationError, match="Nowhere"):
        fingerprint(define("type A = list[Nowhere]"))
    box = define("@dataclasses.dataclass\nclass Box[T]:\n    value: T")
    assert apart(box, box[int], box[str])
