"""The in-process tier: one budget, what it hands out, and what it keeps alive."""

from __future__ import annotations

import datetime
import decimal
import gc
import subprocess
import sys
import uuid
import weakref
from collections import Counter, OrderedDict, defaultdict, deque
from pathlib import Path
from typing import Any

import pytest

from cachekit import Cache, CacheConfig

MEGABYTE = 1024 * 1024


@pytest.fixture
def cache() -> Cache:
    return Cache(backend=None)


def stats(cache: Cache) -> dict[str, int]:
    assert cache._memory is not None
    return cache._memory.stats()


# -- the budget -----------------------------------------------------------------

FILL = """if True:
    import gc, sys
    from cachekit import Cache, CacheConfig

    budget = 16 * 1024 * 1024
    cache = Cache(CacheConfig(l1_max_size_mb=16), backend=None)

    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4096

    @cache
    def row(number):
        return {f"field {number} {at}": number * 1000 + at for at in range(10)}

    @cache
    def same_keys(number):
        return {f"field {at}": f"value {number} {at}" for at in range(10)}

    function = {"row": row, "same_keys": same_keys}[sys.argv[1]]
    for number in range(-300, 0):
        function(number)
    cache.clear()
    gc.collect()
    before = resident()
    number = 0
    while cache._memory.stats()["evictions"] == 0:
        function(number)
        number += 1
    for more in range(number):
        function(number + more)
    gc.collect()
    grown = resident() - before
    stats = cache._memory.stats()
    print(grown / budget, stats["bytes"] / budget, stats["entries"])
"""


@pytest.mark.no_sanitizer
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("function", ["row", "same_keys"])
def test_the_process_grows_by_little_more_than_the_budget(function: str) -> None:
    result = subprocess.run(
        [sys.executable, "-c", FILL, function],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    grown, charged, entries = map(float, result.stdout.split())
    assert charged <= 1
    assert charged > 0.9
    assert entries > 1000
    assert grown <= 1.25, f"grew by {grown:.2f} x the budget"
    assert grown >= 0.5, f"grew by {grown:.2f} x the budget: does it count too much?"


def test_one_budget_for_all_functions_and_namespaces() -> None:
    cache = Cache(CacheConfig(l1_max_size_mb=1), backend=None)
    functions = [
        cache(namespace=f"space{at}", name=f"load{at}")(lambda number: "x" * 5000)
        for at in range(4)
    ]
    for number in range(200):
        for function in functions:
            function(number)
    held = stats(cache)
    assert held["max_bytes"] == MEGABYTE
    assert 0.8 * MEGABYTE < held["bytes"] <= MEGABYTE
    infos = [function.cache_info() for function in functions]
    assert sum(info.bytes for info in infos) <= held["bytes"]
    assert sum(info.currsize for info in infos) == held["entries"] < 800
    assert sum(info.evictions for info in infos) == held["evictions"] > 0
    cache._memory.check()  # type: ignore[union-attr]


def test_two_caches_have_two_budgets() -> None:
    one, other = Cache(backend=None), Cache(backend=None)
    one(lambda: 1)()
    other(lambda: 1)()
    assert one._memory is not other._memory


def test_a_value_that_takes_too_much_room_is_not_kept() -> None:
    cache = Cache(CacheConfig(l1_max_size_mb=1), backend=None)

    @cache
    def text(size: int) -> str:
        return "x" * size

    text(MEGABYTE // 10)
    assert text.cache_info().currsize == 0
    text(MEGABYTE // 40)
    assert text.cache_info().currsize == 1


def test_a_bound_in_entries() -> None:
    cache = Cache(CacheConfig(l1_max_entries=10), backend=None)

    @cache
    def double(number: int) -> int:
        return 2 * number

    @cache
    def triple(number: int) -> int:
        return 3 * number

    for number in range(100):
        assert (double(number), triple(number)) == (2 * number, 3 * number)
        assert stats(cache)["entries"] <= 10
    info = double.cache_info()
    assert info.maxsize == 10
    assert info.currsize + triple.cache_info().currsize == 10


def test_a_local_bound_has_a_table_of_its_own(cache: Cache) -> None:
    @cache.local(max_entries=3)
    def few(number: int) -> int:
        return number

    @cache.local
    def many(number: int) -> int:
        return number

    for number in range(50):
        few(number), many(number)
    assert few.cache_info().maxsize == 3
    assert few.cache_info().currsize == 3
    assert few.cache_info().evictions == 47
    assert many.cache_info().currsize == 50
    assert stats(cache)["entries"] == 50
    cache.clear()
    assert many.cache_info().currsize == few.cache_info().currsize == 0


def test_what_is_used_often_stays() -> None:
    cache = Cache(CacheConfig(l1_max_entries=100), backend=None)
    runs: Counter[int] = Counter()

    @cache
    def load(number: int) -> int:
        runs[number] += 1
        return number

    for number in range(2000):
        load(number)
        for hot in range(10):
            load(-hot)
    assert max(runs[-hot] for hot in range(1, 10)) <= 2


# -- what a hit hands out -------------------------------------------------------------

SHARED: list[Any] = [
    None,
    True,
    12345678901234567890,
    1.5,
    "text of some length",
    b"bytes of some length",
    decimal.Decimal("1.10"),
    datetime.date(2024, 2, 29),
    datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.timezone.utc),
    datetime.timedelta(seconds=3),
    uuid.UUID(int=7),
    (1, "two", (3.0, b"four")),
    frozenset(["a", "b"]),
]

COPIED: list[Any] = [
    [1, 2],
    {"a": 1},
    {1, 2},
    [[1], {"a": [2]}],
    {"a": {"b": {"c": []}}},
    ([1], 2),
    bytearray(b"abc"),
    OrderedDict(a=[1]),
    defaultdict(list, a=[1]),
    Counter("aab"),
    deque([1, [2]], maxlen=3),
]


def type_name(value: Any) -> str:
    return f"{type(value).__name__}-{value!r}"[:40]


@pytest.mark.parametrize("value", SHARED, ids=type_name)
def test_immutable_values_are_the_same_object(cache: Cache, value: Any) -> None:
    cached = cache(lambda: value)
    assert cached() is value
    assert cached() is value


@pytest.mark.parametrize("value", COPIED, ids=type_name)
def test_containers_are_copied(cache: Cache, value: Any) -> None:
    cached = cache(lambda: value)
    cached()
    first, second = cached(), cached()
    assert first == second == value
    assert type(first) is type(second) is type(value)
    assert first is not second and first is not value


def test_what_a_caller_changes_is_its_own(cache: Cache) -> None:
    @cache
    def load() -> dict[str, Any]:
        return {"rows": [{"id": 1}], "seen": {1}}

    made = load()
    made["rows"].append(2)
    made["rows"][0]["id"] = 9
    for _ in range(2):
        found = load()
        assert found == {"rows": [{"id": 1}], "seen": {1}}
        found["rows"][0].clear()
        found["rows"].clear()
        found["seen"].add(2)
        found["more"] = 1


def test_leaves_of_copies_are_shared(cache: Cache) -> None:
    leaf = "a string that nobody interned " * 2
    cached = cache(lambda: [{"key": leaf}])
    cached()
    assert cached()[0]["key"] is leaf


def test_local_returns_the_reference(cache: Cache) -> None:
    class Anything:
        pass

    thing, rows = Anything(), [1]

    @cache.local
    def load(what: str) -> Any:
        return {"thing": thing, "rows": rows}[what]

    for _ in range(2):
        assert load("thing") is thing
        assert load("rows") is rows


def test_path_and_other_decoded_values_are_equal(cache: Cache) -> None:
    cached = cache(lambda: {"path": Path("/tmp/x"), "complex": 1j})
    assert cached() == cached() == {"path": Path("/tmp/x"), "complex": 1j}


# -- what is kept alive ---------------------------------------------------------------


class Node:
    def __init__(self) -> None:
        self.other: Any = None


def test_a_dropped_function_takes_its_entries_with_it(cache: Cache) -> None:
    @cache
    def stays() -> int:
        return 1

    @cache
    def goes(number: int) -> list[int]:
        return [number]

    stays()
    empty = stats(cache)
    for number in range(1000):
        goes(number)
    assert stats(cache)["entries"] == 1001
    reference = weakref.ref(goes)
    del goes
    gc.collect()
    assert reference() is None
    assert stats(cache)["entries"] == 1
    assert stats(cache)["bytes"] <= empty["bytes"] + 64 * 1024
    cache._memory.check()  # type: ignore[union-attr]
    assert stays() == 1


def test_a_dropped_function_lets_its_values_go(cache: Cache) -> None:
    nodes: list[weakref.ref[Node]] = []

    @cache.local
    def make(number: int) -> Node:
        node = Node()
        nodes.append(weakref.ref(node))
        return node

    for number in range(10):
        make(number)
    assert all(node() is not None for node in nodes)
    del make
    gc.collect()
    assert all(node() is None for node in nodes)


def test_cycles_through_local_entries_are_collected(cache: Cache) -> None:
    def build() -> tuple[weakref.ref[Any], weakref.ref[Any]]:
        node = Node()

        @cache.local(max_entries=100)
        def load() -> Node:
            return node

        node.other = load
        load()
        return weakref.ref(node), weakref.ref(load)

    references = build()
    gc.collect()
    assert [reference() for reference in references] == [None, None]


def test_cycles_through_arguments_of_local_functions_are_collected(
    cache: Cache,
) -> None:
    def build() -> tuple[weakref.ref[Any], weakref.ref[Any]]:
        @cache.local
        def load(node: Node) -> int:
            return 1

        node = Node()
        node.other = load
        load(node)
        return weakref.ref(node), weakref.ref(load)

    references = build()
    gc.collect()
    assert [reference() for reference in references] == [None, None]


def test_a_method_does_not_keep_its_objects(cache: Cache) -> None:
    class Service:
        @cache.local
        def load(self, number: int) -> int:
            return number

    service = Service()
    reference = weakref.ref(service)
    assert service.load(1) == 1
    del service
    gc.collect()
    assert reference() is None


def test_arguments_are_not_kept(cache: Cache) -> None:
    class Key:
        def __cache_key__(self) -> int:
            return 1

    @cache
    def load(key: Key) -> int:
        return 1

    key = Key()
    load(key)
    reference = weakref.ref(key)
    del key
    assert reference() is None


def test_evicted_values_may_come_back_into_the_cache() -> None:
    cache = Cache(backend=None)

    class Talkative:
        def __init__(self, number: int) -> None:
            self.number = number

        def __del__(self) -> None:
            if self.number < 200:
                make(self.number + 100)

    @cache.local(max_entries=5)
    def make(number: int) -> Talkative:
        return Talkative(number)

    for number in range(100):
        make(number)
    assert make.cache_info().currsize <= 5
    make._plan.memory.check()
    make.cache_clear()
    make._plan.memory.check()


def test_replacing_a_value_may_run_code_that_clears(cache: Cache) -> None:
    class Clearing:
        def __del__(self) -> None:
            cache.clear()

    @cache.local
    def make() -> Clearing:
        return Clearing()

    for _ in range(5):
        make()
        make.refresh()
    cache._memory.check()  # type: ignore[union-attr]
