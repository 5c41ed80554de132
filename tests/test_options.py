# SPDX-License-Identifier: MIT
"""The keywords of the decorator: ranges, presets, what follows the configuration."""

from __future__ import annotations

import decimal
import enum
from datetime import timedelta

import pytest

from cachekit._checks import NEVER_NS, UNSET
from cachekit._config import CacheConfig
from cachekit._errors import ConfigurationError, NotBuiltYet
from cachekit._options import OPTIONS, PRESETS, FunctionOptions, judge_ttl
from cachekit._types import NEVER, CacheInfo, Entry, Invalidation, Strategy

KEY = "ab" * 32
YEAR = 365.25 * 86400
BY_NAME = {option.name: option for option in OPTIONS}


class Colour(enum.Enum):
    RED = 1


class Backend:
    def read(self): ...

    def write(self): ...

    def delete(self): ...


class Serializer:
    name = "mine"

    def serialize(self, value): ...

    def deserialize(self, data): ...


def by_size(value):
    return 5


BACKEND = Backend()
SERIALIZER = Serializer()

# For every built keyword of @cache: what is accepted, and what becomes of it.
ACCEPTED = {
    "ttl": [(60, 60.0), (0.001, 0.001), (timedelta(minutes=1), 60.0), (NEVER, NEVER)]
    + [(100 * YEAR, 100 * YEAR), (by_size, by_size), (None, UNSET)],
    "stale_ttl": [(60, 60.0), (timedelta(seconds=1), 1.0), (None, None)],
    "serve_stale_on_error": [(True, True)],
    "ttl_jitter": [(0.1, 0.1), (0, 0.0), (0.5, 0.5), (None, UNSET)],
    "negative_ttl": [(0, 0.0), (5, 5.0), (NEVER, NEVER), (None, None)],
    "cache_if": [(bool, bool), (None, None)],
    "namespace": [("shop", "shop"), (None, UNSET)],
    "name": [("get user", "get user"), (None, None)],
    "key": [(by_size, by_size), (None, None)],
    "full_key": [(by_size, by_size), (None, None)],
    "ignore": [("db", ("db",)), (["a", "b"], ("a", "b")), ({"a"}, ("a",)), ((), ())]
    + [("**kwargs", ("**kwargs",))],
    "on_uncacheable": [("call", "call"), ("raise", "raise")],
    "strategy": [("fresh", Strategy.FRESH), (Strategy.BYPASS, Strategy.BYPASS)],
    "single_flight": [(False, False)],
    "single_flight_timeout": [(5, 5.0)],
    "fallback_enabled": [(False, False), (None, UNSET)],
    "l1_enabled": [(False, False), (None, UNSET)],
    "l1_ttl": [(5, 5.0), (None, UNSET)],
    "backend": [(None, None), ("redis://h", "redis://h"), (BACKEND, BACKEND)],
    "serializer": [(SERIALIZER, SERIALIZER), (None, None)],
    "returns": [(Colour, Colour), (list[Colour], list[Colour]), ((int, None),) * 2],
    "compress_min": [(0, 0), (None, UNSET)],
    "max_value_size": [(1000, 1000), (None, UNSET)],
    "tags": [(["b", "a"], ("a", "b")), ({"a"}, ("a",)), ([], ()), (by_size, by_size)],
    "version": [(0, 0), (2**32 - 1, 2**32 - 1), (None, None)],
    "schema": [(Colour, Colour), (list[int], list[int]), (None, None)],
    "distributed_lock": [(True, True), (False, False)],
    "fence_ttl": [(60, 60.0), (0.05, 0.05)],
    "early_refresh": [(True, True)],
    "hard_timeout": [(1, 1.0), (timedelta(seconds=1), 1.0), (None, None)],
    "coherence": [("tracking", "tracking"), ("pubsub", "pubsub")],
    "master_key": [(KEY, KEY), (None, None)],
    "tenant": [("acme", "acme"), (by_size, by_size), (None, None)],
    "fail_closed": [(True, True), (None, None)],
    "interop": [("get_user", "get_user"), ("a.b-c", "a.b-c"), (None, None)],
}

# For the same: what is refused, and how.
REFUSED = {
    "ttl": {
        ValueError: [0, -1, True, False, float("nan"), float("inf"), -float("inf")]
        + [0.0009, 100 * YEAR + 1, timedelta(0), timedelta(-1), timedelta.max],
        TypeError: ["60", b"1", [1], 1j, decimal.Decimal(1), int, object()],
    },
    "stale_ttl": {ValueError: [0, -1, True], TypeError: ["1", NEVER, by_size]},
    "serve_stale_on_error": {TypeError: [1, None, "yes"]},
    "ttl_jitter": {ValueError: [-0.1, 0.6, True, float("nan")], TypeError: ["0.1"]},
    "negative_ttl": {ValueError: [-1, 0.0001, True, False], TypeError: ["0", by_size]},
    "cache_if": {TypeError: [True, "x"]},
    "namespace": {ValueError: ["", "a b", "x" * 65, "{a}"], TypeError: [1]},
    "name": {ValueError: [""], TypeError: [1]},
    "key": {TypeError: ["user:{id}", 1]},
    "full_key": {TypeError: ["user"]},
    "ignore": {ValueError: ["a b", ["a", "a"], [""]], TypeError: [1, [1], {"a": 1}]},
    "on_uncacheable": {ValueError: ["skip"], TypeError: [None, 1]},
    "strategy": {ValueError: ["fast"], TypeError: [1, None]},
    "single_flight": {TypeError: [0, None]},
    "single_flight_timeout": {ValueError: [0, -1, True], TypeError: [None, "1", NEVER]},
    "fallback_enabled": {TypeError: [0]},
    "l1_enabled": {TypeError: [1]},
    "l1_ttl": {ValueError: [0, -1], TypeError: ["1", NEVER]},
    "backend": {ValueError: ["http://h", "x"], TypeError: [3, object(), Backend]},
    "serializer": {TypeError: ["pickle", Serializer, object()]},
    "returns": {TypeError: [3, Colour.RED]},
    "compress_min": {ValueError: [-1, True], TypeError: [1.0]},
    "max_value_size": {ValueError: [0, 2**30], TypeError: ["1"]},
    "tags": {ValueError: [[""], ["a\n"], ["x" * 201], [5]], TypeError: ["a", 5, None]},
    "version": {ValueError: [-1, 2**32, True], TypeError: ["1", 1.0]},
    "schema": {ConfigurationError: [3, "Colour", Colour.RED]},
    "distributed_lock": {TypeError: [None, 1]},
    "fence_ttl": {ValueError: [0, True], TypeError: [None, "1", NEVER]},
    "early_refresh": {TypeError: [None, 1]},
    "hard_timeout": {ValueError: [0, True], TypeError: ["1", NEVER]},
    "coherence": {ValueError: ["none"], TypeError: [None, 1]},
    "master_key": {ConfigurationError: ["short"]},
    "tenant": {ValueError: [""], TypeError: [5]},
    "fail_closed": {TypeError: [1]},
    "interop": {ValueError: ["", "Get", "a:b", "a..b"], TypeError: [1, b"get"]},
}

# Keywords that mean nothing without another.
NEEDY = {
    "stale_if_error_ttl": [(60, 60.0), (None, 86400.0)],
    "stale_on": [(OSError, (OSError,)), ((OSError, KeyError), (OSError, KeyError))],
    "stale_retry": [(0.5, 0.5)],
    "soft_timeout": [(1, 1.0), (None, None)],
}
NEEDY_REFUSED = {
    "stale_if_error_ttl": {ValueError: [0, True], TypeError: ["1", NEVER]},
    "stale_on": {
        ValueError: [BaseException, KeyboardInterrupt, ()],
        TypeError: ["OSError", OSError(), None],
    },
    "stale_retry": {ValueError: [0, -1], TypeError: [None]},
    "soft_timeout": {ValueError: [0, True], TypeError: ["1", NEVER]},
}


def of(preset: str = "", **given: object) -> FunctionOptions:
    return FunctionOptions.of(preset, given)


def flat(table):
    return [(name, *case) for name, cases in table.items() for case in cases]


def flat_refused(table):
    return [
        (name, kind, value)
        for name, kinds in table.items()
        for kind, values in kinds.items()
        for value in values
    ]


def test_the_tables_of_this_file_cover_every_keyword():
    tested = {*ACCEPTED, *NEEDY, "encryption", "max_entries"}
    assert tested == {option.name for option in OPTIONS if not option.preset_only}
    assert set(REFUSED) == set(ACCEPTED) and set(NEEDY_REFUSED) == set(NEEDY)


# -- one keyword ----------------------------------------------------------------------


@pytest.mark.parametrize("name, value, expected", flat(ACCEPTED))
def test_keyword_is_taken(name, value, expected):
    taken = getattr(of(**{name: value}), name)
    assert taken == expected
    assert type(taken) is type(expected)


@pytest.mark.parametrize("name, value, expected", flat(NEEDY))
def test_keyword_of_stale_if_error_is_taken(name, value, expected):
    options = of(serve_stale_on_error=True, **{name: value})
    assert getattr(options, name) == expected


@pytest.mark.parametrize(
    "name, kind, value", flat_refused(REFUSED) + flat_refused(NEEDY_REFUSED)
)
def test_refused_value_names_the_keyword_and_what_is_accepted(name, kind, value):
    given = {"serve_stale_on_error": True} if name in NEEDY else {}
    given[name] = value
    with pytest.raises((TypeError, ValueError)) as caught:
        FunctionOptions.of("", given)
    assert isinstance(caught.value, kind)
    message = str(caught.value)
    if kind is ConfigurationError:  # says why in words of its own
        assert message.startswith((f"{name}=", "E002: "))
        return
    assert message.startswith(f"{name} ")
    if not isinstance(value, str) or name != "backend":
        assert BY_NAME[name].check.accepted in message


def test_refused_value_is_one_sentence():
    with pytest.raises(ValueError) as caught:
        of(ttl=0)
    assert str(caught.value) == (
        "ttl must be a number of seconds or a timedelta, from 0.001 s to 100 years, or "
        "cachekit.NEVER, or a callable of the result, or None for the configured "
        "default, not 0"
    )


def test_class_in_place_of_an_instance_is_told():
    with pytest.raises(TypeError, match=r"give an instance: Serializer\(\)"):
        of(serializer=Serializer)


@pytest.mark.parametrize(
    "given, message",
    [
        ("tll", "@cache takes no keyword 'tll'; did you mean 'ttl'?"),
        ("timeout", "did you mean"),
        ("serve_stale", "did you mean 'serve_stale_on_error'"),
        ("zzz", "it takes: backend, "),
        ("references", "takes no keyword 'references'"),
        ("enable_circuit_breaker", "takes no keyword 'enable_circuit_breaker'"),
    ],
)
def test_unknown_keyword_names_the_nearest(given, message):
    with pytest.raises(TypeError) as caught:
        of(**{given: 1})
    assert message in str(caught.value)


def test_backend_url_password_is_in_no_message():
    with pytest.raises(ValueError) as caught:
        of(backend="redis://:hunter2@h:x")
    assert "hunter2" not in str(caught.value)


def test_options_are_immutable():
    with pytest.raises(AttributeError):
        of().ttl = 3


# -- keywords together ----------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        {"stale_if_error_ttl": 60},
        {"stale_on": OSError},
        {"stale_retry": 2},
        {"soft_timeout": 2},
        {"serve_stale_on_error": True, "soft_timeout": 2, "hard_timeout": 2},
        {"single_flight": False, "single_flight_timeout": 5},
        {"l1_enabled": False, "l1_ttl": 5},
        {"l1_enabled": False, "backend": None},
        {"key": by_size, "full_key": by_size},
        {"key": by_size, "ignore": "a"},
        {"full_key": by_size, "ignore": "a"},
    ],
)
def test_combination_that_would_be_ignored_is_refused(given):
    with pytest.raises(ValueError) as caught:
        of(**given)
    assert any(name in str(caught.value) for name in given)


def test_preset_may_supply_what_another_keyword_needs():
    assert of("production", stale_retry=2).stale_retry == 2.0
    with pytest.raises(ValueError, match="single_flight"):
        of("minimal", single_flight_timeout=5)


# -- what is known and not built ------------------------------------------------------


def test_empty_list_of_tags_is_no_tags():
    assert of(tags=[]).tags == ()


def test_topology_as_backend_is_not_built():
    with pytest.raises(NotBuiltYet, match=r"redis\+cluster"):
        of(backend="redis+cluster://h:1")


# -- encryption -----------------------------------------------------------------------


def test_opting_out_of_encryption_is_taken():
    assert of(encryption=False).encryption is False
    assert of().encryption is None


SECURE = [("secure", {}), ("", {"encryption": True})]


@pytest.mark.parametrize("preset, given", SECURE, ids=["preset", "keyword"])
def test_encryption_without_a_key_is_e001(preset, given):
    with pytest.raises(ConfigurationError) as caught:
        of(preset, **given)
    assert caught.value.code == "E001"


@pytest.mark.parametrize("preset, given", SECURE, ids=["preset", "keyword"])
def test_encryption_with_a_bad_key_is_e002(preset, given, monkeypatch):
    monkeypatch.setenv("CACHEKIT_MASTER_KEY", "abcd1234")
    with pytest.raises(ConfigurationError) as caught:
        of(preset, **given)
    assert caught.value.code == "E002"
    assert "abcd1234" not in str(caught.value)


def test_encryption_with_a_good_key_is_taken(monkeypatch):
    monkeypatch.setenv("CACHEKIT_MASTER_KEY", KEY)
    assert of("secure").encryption is True
    assert of(encryption=True).encryption is True
    monkeypatch.delenv("CACHEKIT_MASTER_KEY")
    assert of("secure", master_key=KEY).encryption is True
    config = CacheConfig(master_key=KEY)
    assert FunctionOptions.of("secure", {}, config).encryption is True


def test_key_of_the_keyword_is_judged_first(monkeypatch):
    monkeypatch.setenv("CACHEKIT_MASTER_KEY", KEY)
    with pytest.raises(ConfigurationError) as caught:
        of("secure", master_key="short")
    assert caught.value.code == "E002"


def test_unknown_keyword_is_told_before_the_key_is_asked_for():
    with pytest.raises(TypeError, match="did you mean 'ttl'"):
        of("secure", tll=3)


# -- what is left to the configuration ------------------------------------------------

FOLLOWS = {
    "ttl": ("default_ttl", 7, 7.0),
    "ttl_jitter": ("ttl_jitter", 0.2, 0.2),
    "namespace": ("namespace", "shop", "shop"),
    "fallback_enabled": ("fallback_enabled", False, False),
    "l1_enabled": ("l1_enabled", False, False),
    "l1_ttl": ("l1_ttl", 3, 3.0),
    "compress_min": ("compress_min", 5, 5),
    "max_value_size": ("max_value_size", 50, 50),
    "enable_circuit_breaker": ("enable_circuit_breaker", False, False),
    "connection_retries": ("connection_retries", 9, 9),
}


def test_every_keyword_that_follows_is_listed():
    assert set(FOLLOWS) == {o.name for o in OPTIONS if o.follows is not None}


@pytest.mark.parametrize("name", FOLLOWS)
def test_keyword_that_is_left_out_follows_the_configuration(name):
    field, value, expected = FOLLOWS[name]
    options = of()
    assert getattr(options, name) is UNSET and not options.resolved
    resolved = options.resolve(CacheConfig(**{field: value}))
    assert getattr(resolved, name) == expected
    assert resolved.resolved


@pytest.mark.parametrize(
    "given", [{"ttl": 3}, {"l1_ttl": 2}, {"namespace": "own"}, {"compress_min": 1}]
)
def test_keyword_wins_over_the_configuration(given):
    config = CacheConfig(default_ttl=9, l1_ttl=9, namespace="shop", compress_min=9)
    ((name, value),) = given.items()
    assert getattr(of(**given).resolve(config), name) == value


def test_everything_is_decided_after_resolve():
    options = of().resolve(CacheConfig())
    undecided = [o.name for o in OPTIONS if getattr(options, o.name) is UNSET]
    assert undecided == ["backend"]


def test_false_of_the_configuration_is_not_taken_for_unset():
    config = CacheConfig(ttl_jitter=0, fallback_enabled=False)
    resolved = of().resolve(config)
    assert (resolved.ttl_jitter, resolved.fallback_enabled) == (0.0, False)


# -- times ----------------------------------------------------------------------------


def test_times_come_in_nanoseconds_too():
    options = of(
        ttl=1.5,
        stale_ttl=2,
        serve_stale_on_error=True,
        stale_if_error_ttl=timedelta(seconds=3),
        stale_retry=0.5,
        negative_ttl=4,
        single_flight_timeout=5,
        l1_ttl=6,
    )
    assert options.ttl_ns == 1_500_000_000
    assert options.stale_ttl_ns == 2_000_000_000
    assert options.stale_if_error_ttl_ns == 3_000_000_000
    assert options.stale_retry_ns == 500_000_000
    assert options.negative_ttl_ns == 4_000_000_000
    assert options.single_flight_timeout_ns == 5_000_000_000
    assert options.l1_ttl_ns == 6_000_000_000


def test_times_that_are_left_out_in_nanoseconds():
    options = of().resolve(CacheConfig())
    assert options.ttl_ns == 3600 * 10**9
    assert options.stale_ttl_ns == 0
    assert options.stale_if_error_ttl_ns == 0
    assert options.stale_retry_ns == 10**9
    assert options.negative_ttl_ns is None
    assert options.single_flight_timeout_ns == 60 * 10**9
    assert options.l1_ttl_ns == NEVER_NS


def test_ttl_that_is_no_number_in_nanoseconds():
    assert of(ttl=NEVER).ttl_ns == NEVER_NS == 2**63 - 1
    assert of(ttl=by_size).ttl_ns is None
    assert of(negative_ttl=0).negative_ttl_ns == 0


def test_stale_if_error_lasts_a_day_unless_told():
    assert of(serve_stale_on_error=True).stale_if_error_ttl_ns == 86400 * 10**9


@pytest.mark.parametrize(
    "value, expected",
    [(5, 5.0), (timedelta(hours=1), 3600.0), (NEVER, NEVER), (None, None)],
)
def test_lifetime_outside_the_tables_is_judged_alike(value, expected):
    assert judge_ttl(value) == expected


@pytest.mark.parametrize(
    "value, kind",
    [(0, ValueError), (True, ValueError), ("5", TypeError), (by_size, TypeError)],
)
def test_bad_lifetime_outside_the_tables_names_the_argument(value, kind):
    with pytest.raises(kind, match="^ttl must be a number of seconds"):
        judge_ttl(value)


# -- presets --------------------------------------------------------------------------

PRESET_VALUES = {
    "": {},
    "minimal": {
        "enable_circuit_breaker": False,
        "connection_retries": 0,
        "single_flight": False,
    },
    "production": {
        "ttl_jitter": 0.1,
        "serve_stale_on_error": True,
        "distributed_lock": True,
    },
    "dev": {"backend": None, "debug": True, "fallback_enabled": False},
    "test": {"backend": None, "ttl": NEVER, "fallback_enabled": False},
    "local": {"backend": None, "ttl": NEVER, "references": True},
}


@pytest.mark.parametrize("preset", PRESET_VALUES)
def test_preset_is_what_it_says(preset):
    options = of(preset).resolve(CacheConfig())
    plain = of().resolve(CacheConfig())
    for option in OPTIONS:
        if option.name == "stale_if_error_ttl":
            continue  # follows serve_stale_on_error
        expected = PRESET_VALUES[preset].get(option.name, getattr(plain, option.name))
        assert getattr(options, option.name) == expected, option.name


def test_every_preset_is_tested_and_documented():
    assert set(PRESET_VALUES) | {"secure"} == set(PRESETS)
    for preset in PRESETS.values():
        assert preset.doc and preset.__doc__ == preset.doc
    assert "one run at a time across processes" in PRESETS["production"].doc


@pytest.mark.parametrize(
    "preset, given, expected",
    [
        ("minimal", {"single_flight": True}, True),
        ("production", {"ttl_jitter": 0}, 0.0),
        ("production", {"serve_stale_on_error": False}, False),
        ("dev", {"fallback_enabled": True}, True),
        ("dev", {"backend": "redis://h"}, "redis://h"),
        ("test", {"ttl": 5}, 5.0),
        ("test", {"ttl": None}, UNSET),
        ("local", {"ttl": 5}, 5.0),
    ],
)
def test_keyword_overrides_the_preset(preset, given, expected):
    ((name, _),) = given.items()
    assert getattr(of(preset, **given), name) == expected


# -- @cache.local ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", sorted({o.name for o in OPTIONS if not o.preset_only and not o.local})
)
def test_local_takes_nothing_of_stores_and_bytes(name):
    with pytest.raises(TypeError) as caught:
        of("local", **{name: BY_NAME[name].default})
    assert (
        f"@cache.local keeps references in this process and takes no {name!r}"
        in str(caught.value)
    )


@pytest.mark.parametrize(
    "given",
    [
        {"ttl": 5, "max_entries": 10, "name": "x"},
        {"key": by_size},
        {"ignore": "db", "cache_if": bool, "negative_ttl": 0},
        {"stale_ttl": 5, "serve_stale_on_error": True, "stale_retry": 2},
        {"single_flight": False, "strategy": "bypass", "on_uncacheable": "call"},
    ],
)
def test_local_takes_what_memory_can_do(given):
    options = of("local", **given)
    assert set(options.given) == set(given)


@pytest.mark.parametrize("value", [0, -1, True])
def test_bound_in_entries_is_at_least_one(value):
    with pytest.raises(ValueError, match="^max_entries "):
        of("local", max_entries=value)


def test_bound_in_entries_belongs_to_local():
    with pytest.raises(TypeError, match=r"@cache\.local.*l1_max_entries"):
        of(max_entries=5)
    assert of("local", max_entries=5).max_entries == 5


def test_unknown_keyword_of_local_names_it():
    with pytest.raises(TypeError, match=r"@cache\.local takes no keyword 'max_entrys'"):
        of("local", max_entrys=5)


# -- small public types ---------------------------------------------------------------


@pytest.mark.parametrize("name", ["fresh", "FRESH", "Fresh"])
def test_strategy_is_parsed_in_any_case(name):
    assert Strategy.parse(name) is Strategy.FRESH


def test_never_is_one_object_everywhere():
    import copy
    import pickle

    assert copy.deepcopy(NEVER) is NEVER
    assert pickle.loads(pickle.dumps(NEVER)) is NEVER
    assert repr(NEVER) == "cachekit.NEVER"


def test_entry_is_immutable_and_compares_by_its_fields():
    entry = Entry({"a": 1}, "memory", 1.5, 2.5)
    with pytest.raises(AttributeError):
        entry.value = 3
    with pytest.raises(AttributeError):
        del entry.value
    assert entry == Entry({"a": 1}, "memory", 1.5, 2.5, False, None)
    assert entry != Entry({"a": 1}, "store", 1.5, 2.5)
    assert entry != 1
    assert hash(Entry(1, "memory", 1.5, None)) == hash(Entry(1, "memory", 1.5, None))
    match entry:
        case Entry(value, tier, age):
            assert (value, tier, age) == ({"a": 1}, "memory", 1.5)


def test_repr_of_an_entry_shows_no_value():
    assert repr(Entry("hunter2", "memory", 1.5, None)) == (
        "Entry(<str>, tier='memory', age=1.5, remaining_ttl=None, stale=False, "
        "stale_reason=None)"
    )


def test_public_types_survive_pickle():
    import pickle

    info = CacheInfo(*range(15))
    for value in (
        Strategy.FRESH,
        Invalidation.QUEUED,
        info,
        Entry(1, "memory", 0.0, 1),
    ):
        twin = pickle.loads(pickle.dumps(value))
        assert twin == value and type(twin) is type(value)
    assert pickle.loads(pickle.dumps(Strategy.FRESH)) is Strategy.FRESH


def test_cache_info_begins_as_that_of_functools():
    import functools

    ours = CacheInfo._fields
    theirs = functools.lru_cache(lambda: 1).cache_info()._fields
    assert ours[:4] == theirs
    assert ours[4:] == (
        *("l1_hits", "l2_hits", "stale_hits", "errors", "coalesced", "evictions"),
        *("loads", "load_seconds", "bytes", "unencodable", "oversized"),
    )


def test_cache_info_for_type_checkers_has_the_same_fields():
    import ast
    import inspect

    import cachekit._types as types

    (typed,) = (
        node
        for node in ast.walk(ast.parse(inspect.getsource(types)))
        if isinstance(node, ast.ClassDef) and node.name == "CacheInfo"
    )
    names = [n.target.id for n in typed.body if isinstance(n, ast.AnnAssign)]
    assert names == list(CacheInfo._fields)


def test_repr_of_options_shows_objects_by_their_type():
    assert repr(of(name="x", serializer=SERIALIZER)) == (
        "<options of @cache(name='x', serializer=an object of type Serializer)>"
    )
