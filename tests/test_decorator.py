"""What `@cache` makes of a function: still the function, with methods."""

from __future__ import annotations

import asyncio
import copy
import functools
import inspect
import io
import logging
import pickle
import sys
import types
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

import cachekit
from cachekit import Cache, CacheMiss, Entry, Invalidation
from cachekit.backends import MemoryBackend

PRESETS = ["minimal", "production", "dev", "test", "local"]


@pytest.fixture
def cache() -> Cache:
    return Cache(backend=None)


memory = Cache(backend=None)


@memory
def in_module(number: int, *, scale: float = 2.0) -> float:
    """Scales a number."""
    return number * scale


@memory
async def in_module_async(number: int) -> int:
    """Doubles a number."""
    return 2 * number


class InModule:
    @memory(ignore=("self",))
    def double(self, number: int) -> int:
        return 2 * number

    @memory(ignore=("self",))
    async def triple(self, number: int) -> int:
        return 3 * number


# -- ways to write it -----------------------------------------------------------


def test_parentheses_make_no_difference(cache: Cache) -> None:
    @cache
    def bare() -> int:
        return 1

    @cache()
    def empty() -> int:
        return 1

    @cache(ttl=60)
    def full() -> int:
        return 1

    for function in (bare, empty, full):
        assert function() == function() == 1
        assert function.cache_info()[:2] == (1, 1)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_may_be_written_with_and_without_parentheses(
    cache: Cache, name: str
) -> None:
    preset = getattr(cache, name)

    @preset
    def bare() -> int:
        return 1

    @preset()
    def empty() -> int:
        return 1

    @preset(ttl=60)
    def full() -> int:
        return 1

    for function in (bare, empty, full):
        assert function() == function() == 1
        assert function.cache_info().hits == 1


def test_a_keyword_overrides_its_preset(cache: Cache) -> None:
    @cache.test(ttl=60)
    def short() -> int:
        return 1

    @cache.test
    def forever() -> int:
        return 1

    short(), forever()
    assert forever.entry().remaining_ttl is None
    assert 0 < short.entry().remaining_ttl <= 60


@pytest.mark.parametrize(
    "preset", ["", *PRESETS, "secure"], ids=lambda name: name or "cache"
)
def test_an_unknown_keyword_names_the_nearest(cache: Cache, preset: str) -> None:
    decorate = getattr(cache, preset) if preset else cache
    with pytest.raises(TypeError, match="ttl_jiter.*ttl_jitter"):
        decorate(ttl_jiter=0.1)


def test_what_is_no_function_is_refused(cache: Cache) -> None:
    with pytest.raises(TypeError, match="int"):
        cache(3)
    with pytest.raises(TypeError, match="str"):
        cache(ttl=3)("name")


def test_two_positional_arguments_are_refused(cache: Cache) -> None:
    with pytest.raises(TypeError):
        cache(lambda: 1, 60)


# -- kinds of functions ---------------------------------------------------------


def test_the_wrapper_looks_like_the_function() -> None:
    plain = in_module.__wrapped__
    assert isinstance(plain, types.FunctionType)
    for name in (
        "__name__",
        "__qualname__",
        "__doc__",
        "__module__",
        "__annotations__",
    ):
        assert getattr(in_module, name) == getattr(plain, name)
    assert inspect.signature(in_module) == inspect.signature(plain)
    assert inspect.unwrap(in_module) is plain
    assert callable(in_module)
    assert "in_module" in repr(in_module)


def test_the_signature_of_a_method_is_that_of_the_method() -> None:
    class Plain:
        def method(self, number: int, *, scale: int = 2) -> int:
            """What it does."""
            return number

    class Cached:
        method = memory(ignore=("self",))(Plain.method)

    assert inspect.signature(Cached.method) == inspect.signature(Plain.method)
    assert inspect.signature(Cached().method) == inspect.signature(Plain().method)
    assert Cached().method.__doc__ == "What it does."
    assert Cached().method.__module__ == __name__
    assert Cached().method.__qualname__ == Plain.method.__qualname__
    using = Cached().method.using("FRESH")
    assert inspect.signature(using) == inspect.signature(Plain().method)
    using = Cached.method.using("FRESH")
    assert inspect.signature(using) == inspect.signature(Plain.method)


def test_iscoroutinefunction() -> None:
    for judge in (inspect.iscoroutinefunction, asyncio.iscoroutinefunction):
        assert judge(in_module_async)
        assert judge(InModule().triple)
        assert judge(InModule.triple)
        assert judge(in_module_async.using("BYPASS"))
        assert judge(functools.partial(in_module_async, 1))
        assert not judge(in_module)
        assert not judge(InModule().double)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_functions_are_pickled_by_name(protocol: int) -> None:
    def again(thing: Any) -> Any:
        return pickle.loads(pickle.dumps(thing, protocol))

    assert again(in_module) is in_module
    assert again(in_module_async) is in_module_async
    assert again(InModule.double) is InModule.double
    assert again(InModule().double)(4) == 8


def test_a_local_function_is_not_pickled_as_a_plain_one_is_not(cache: Cache) -> None:
    @cache
    def local() -> None: ...

    with pytest.raises((AttributeError, pickle.PicklingError)):
        pickle.dumps(local)


def test_copies_are_the_function_itself() -> None:
    assert copy.copy(in_module) is in_module
    assert copy.deepcopy(in_module) is in_module
    assert copy.deepcopy({"a": [in_module]}) == {"a": [in_module]}


def test_weak_references(cache: Cache) -> None:
    @cache
    def dropped() -> None: ...

    gone: list[Any] = []
    reference = weakref.ref(dropped, gone.append)
    assert reference() is dropped
    table = weakref.WeakKeyDictionary({dropped: 1})
    assert table[dropped] == 1
    del dropped
    import gc

    gc.collect()
    assert reference() is None and gone == [reference] and not table


def test_weak_reference_to_a_bound_function() -> None:
    bound = InModule().double
    assert weakref.ref(bound)() is bound


def test_a_function_keeps_attributes(cache: Cache) -> None:
    def plain() -> None: ...

    plain.marker = "kept"  # type: ignore[attr-defined]
    cached = cache(plain)
    assert cached.marker == "kept"
    cached.other = 3
    assert cached.other == 3 and "other" in vars(cached)
    del cached.other
    assert not hasattr(cached, "other")


def test_it_is_a_member_of_sets_and_equal_to_itself_only(cache: Cache) -> None:
    def plain() -> None: ...

    one, other = cache(plain), cache(plain)
    assert one == one and one != other
    assert len({one, other, one}) == 2


def test_methods_bind_their_object(cache: Cache) -> None:
    class Adder:
        def __init__(self, base: int) -> None:
            self.base = base

        def __cache_key__(self) -> int:
            return self.base

        @cache
        def add(self, number: int) -> int:
            return self.base + number

    one, ten = Adder(1), Adder(10)
    assert [one.add(1), ten.add(1), one.add(1)] == [2, 11, 2]
    assert Adder.add(one, 1) == 2
    assert Adder.add.cache_info()[:2] == (2, 2)
    assert one.add == one.add and one.add != ten.add
    assert hash(one.add) == hash(one.add)
    assert one.add.__self__ is one and one.add.__func__ is Adder.add
    assert "add" in repr(one.add)


def test_a_bound_function_takes_any_number_of_arguments(cache: Cache) -> None:
    class Many:
        @cache(ignore=("self",))
        def collect(self, *args: int, **kwargs: int) -> tuple[Any, ...]:
            return args, kwargs

    many = Many()
    numbers = tuple(range(30))
    names = {f"n{number}": number for number in numbers}
    for args in ((), numbers[:6], numbers[:7], numbers[:8], numbers):
        assert many.collect(*args) == (args, {})
        assert many.collect(*args, **names) == (args, names)
        assert many.collect(*args, **names) == (args, names)


def test_a_subclass_may_call_super(cache: Cache) -> None:
    class Base:
        @cache(ignore=("self",))
        def name(self) -> str:
            return "base"

    class Derived(Base):
        @cache(ignore=("self",))
        def name(self) -> str:
            return "derived of " + super().name()

    assert Derived().name() == "derived of base"
    assert Derived().name() == "derived of base"


def test_classmethods_and_staticmethods_above_and_below(cache: Cache) -> None:
    class Both:
        @cache
        @classmethod
        def above_class(cls, number: int) -> tuple[str, int]:
            return cls.__name__, number

        @classmethod
        @cache
        def below_class(cls, number: int) -> tuple[str, int]:
            return cls.__name__, number

        @cache
        @staticmethod
        def above_static(number: int) -> int:
            return number

        @staticmethod
        @cache
        def below_static(number: int) -> int:
            return number

    class Derived(Both):
        pass

    # Classes of a function cannot be told apart by name: give them a key.
    for kind in (Both, Derived):
        kind.__qualname__ = kind.__name__
        globals()[kind.__name__] = kind
    try:
        for owner in (Both, Both(), Derived, Derived()):
            kind = owner if isinstance(owner, type) else type(owner)
            for _ in range(2):
                assert owner.above_class(1) == (kind.__name__, 1)
                assert owner.below_class(1) == (kind.__name__, 1)
                assert owner.above_static(2) == 2
                assert owner.below_static(2) == 2
        for name in ("above_class", "below_class"):
            # From 3.13 on, classmethod asks nothing of what it wraps: its methods do
            # not know the class.
            bound = name == "above_class" or sys.version_info < (3, 13)
            both, derived = (() if bound else (kind,) for kind in (Both, Derived))
            assert getattr(Both, name).cache_info().misses == 2
            assert getattr(Both, name).invalidate(*both, 1) is Invalidation.DELIVERED
            assert getattr(Both, name).entry(*both, 1) is None
            assert getattr(Derived, name).entry(*derived, 1) is not None
        for name in ("above_static", "below_static"):
            assert getattr(Both, name).cache_info()[:2] == (7, 1)
            assert getattr(Both(), name).peek(2) == 2
    finally:
        del globals()["Both"], globals()["Derived"]


def test_nested_functions_have_entries_of_their_own(cache: Cache) -> None:
    def make(base: int) -> Any:
        @cache
        def add(number: int) -> int:
            return base + number

        return add

    one, ten = make(1), make(10)
    assert (one(1), ten(1), one(1), ten(1)) == (2, 11, 2, 11)


def test_callables_that_are_no_functions(cache: Cache) -> None:
    class Doubler:
        def __call__(self, number: int) -> int:
            return 2 * number

    for at, function in enumerate((Doubler(), functools.partial(pow, 2), abs, int)):
        cached = cache(function, name=f"named {at}")
        assert cached(3) == cached(3) == function(3)
        assert cached.cache_info()[:2] == (1, 1)


def test_a_callable_without_a_name_asks_for_one(cache: Cache) -> None:
    with pytest.raises(cachekit.ConfigurationError, match="name="):
        cache(functools.partial(pow, 2))(3)


def test_an_awaitable_partial_is_async(cache: Cache) -> None:
    async def add(a: int, b: int) -> int:
        return a + b

    cached = cache(functools.partial(add, 1), name="add one")
    assert asyncio.run(cached(2)) == 3
    assert asyncio.run(cached(2)) == 3
    assert cached.cache_info()[:2] == (1, 1)


def test_generators_are_refused(cache: Cache) -> None:
    def numbers() -> Iterator[int]:
        yield 1

    async def later() -> AsyncIterator[int]:
        yield 1

    class Iterable:
        def __call__(self) -> Iterator[int]:
            yield 1

    for function, kind in (
        (numbers, "a generator"),
        (later, "an async generator"),
        (functools.partial(numbers), "a generator"),
        (Iterable(), "a generator"),
    ):
        with pytest.raises(TypeError, match=f"is {kind} function.*list"):
            cache(function)
        with pytest.raises(TypeError, match="generator"):
            cache.local(ttl=3)(function)


class Awaitable:
    def __await__(self) -> Iterator[None]:
        yield


def one_use_results() -> dict[str, Callable[[], Any]]:
    return {
        "iterator": lambda: iter([1, 2]),
        "generator": lambda: (number for number in (1, 2)),
        "map": lambda: map(str, [1]),
        "awaitable": Awaitable,
        "text file": lambda: io.StringIO("text"),
        "bytes file": lambda: io.BytesIO(b"bytes"),
        "file": lambda: open(__file__, encoding="utf-8"),
    }


@pytest.mark.parametrize("local", [False, True], ids=["cache", "local"])
@pytest.mark.parametrize("kind", one_use_results())
def test_what_can_be_used_only_once_is_never_cached(
    cache: Cache, kind: str, local: bool, caplog: pytest.LogCaptureFixture
) -> None:
    made: list[Any] = []

    def produce() -> Any:
        made.append(one_use_results()[kind]())
        return made[-1]

    produce.__qualname__ = f"produce_{kind}_{local}"
    cached = (cache.local if local else cache)(produce)
    with caplog.at_level(logging.WARNING, "cachekit"):
        for _ in range(3):
            assert cached() is made[-1]
    assert len(made) == 3
    assert cached.cache_info().currsize == 0
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert produce.__qualname__ in record.getMessage()
    for thing in made:
        if isinstance(thing, io.IOBase):
            thing.close()


def test_an_async_function_never_shares_an_iterator(cache: Cache) -> None:
    @cache
    async def produce() -> Iterator[int]:
        return iter([1, 2])

    async def main() -> list[list[int]]:
        return [list(found) for found in await asyncio.gather(produce(), produce())]

    assert asyncio.run(main()) == [[1, 2], [1, 2]]


def test_a_call_that_does_not_fit_raises_what_the_function_raises(cache: Cache) -> None:
    def plain(a: int, *, b: int = 1) -> int:
        return a

    cached = cache(plain)
    for args, kwargs in (((), {}), ((1, 2), {}), ((1,), {"c": 3}), ((1,), {"a": 1})):
        with pytest.raises(TypeError) as expected:
            plain(*args, **kwargs)
        for call in (cached, cached.invalidate, cached.peek, cached.refresh):
            with pytest.raises(TypeError) as error:
                call(*args, **kwargs)
            assert str(error.value) == str(expected.value)


# -- attributes ----------------------------------------------------------------


def test_cache_info_begins_as_functools_has_it(cache: Cache) -> None:
    @cache
    def double(number: int) -> int:
        return 2 * number

    @functools.lru_cache
    def reference(number: int) -> int:
        return 2 * number

    info = double.cache_info()
    names = reference.cache_info()._fields
    assert names == ("hits", "misses", "maxsize", "currsize")
    assert type(info)._fields[:4] == names
    assert type(info)._fields[4:] == (
        "l1_hits",
        "l2_hits",
        "stale_hits",
        "errors",
        "coalesced",
        "evictions",
        "loads",
        "load_seconds",
        "bytes",
        "unencodable",
        "oversized",
    )
    for number in (1, 2, 1, 1):
        double(number), reference(number)
    info = double.cache_info()
    assert info[:2] == reference.cache_info()[:2] == (2, 2)
    assert (info.currsize, info.loads, info.l1_hits) == (2, 2, 2)
    assert info.bytes > 0 and info.load_seconds >= 0


def test_cache_clear_forgets_entries_and_counters(cache: Cache) -> None:
    @cache
    def double(number: int) -> int:
        return 2 * number

    @cache
    def other(number: int) -> int:
        return number

    double(1), double(1), other(1)
    assert double.cache_clear() is None
    info = double.cache_info()
    assert (info.hits, info.misses, info.currsize) == (0, 0, 0)
    assert other.cache_info().currsize == 1
    double(1)
    assert double.cache_info().misses == 1


def test_cache_clear_leaves_the_store_alone() -> None:
    cache = Cache(backend=MemoryBackend())

    @cache(name="double")
    def double(number: int) -> int:
        return 2 * number

    double(1)
    double.cache_clear()
    assert double(1) == 2
    assert double.cache_info().l2_hits == 1


def test_cache_clear_is_a_plain_call_on_async_functions(cache: Cache) -> None:
    @cache
    async def double(number: int) -> int:
        return 2 * number

    asyncio.run(double(1))
    assert double.cache_clear() is None
    assert double.cache_info().currsize == 0


stores = pytest.mark.parametrize(
    "backend", [None, MemoryBackend], ids=["memory", "store"]
)


def make_cache(backend: Any) -> Cache:
    return Cache(backend=None if backend is None else backend())


@stores
def test_the_methods_of_a_function(backend: Any) -> None:
    runs: list[int] = []

    @make_cache(backend)(name="triple", ttl=60)
    def triple(number: int, times: int = 3) -> int:
        runs.append(number)
        return times * number

    with pytest.raises(CacheMiss):
        triple.peek(1)
    assert triple.entry(1) is None
    assert triple(1) == 3
    assert triple.peek(1) == triple.peek(number=1, times=3) == 3
    entry = triple.entry(1)
    assert isinstance(entry, Entry)
    assert (entry.value, entry.tier) == (3, "memory")
    assert (entry.stale, entry.stale_reason) == (False, None)
    assert 0 <= entry.age < 5 and 55 < entry.remaining_ttl <= 60
    assert triple.invalidate(number=1) is Invalidation.DELIVERED
    assert triple.entry(1) is None
    assert triple.put(30, 1) is None
    assert triple(1) == 30
    assert triple.refresh(1) == 3
    assert triple(1) == 3
    for name in ("invalidate_cache", "ainvalidate_cache"):
        assert getattr(triple, name)(1) is Invalidation.DELIVERED
        assert triple.entry(1) is None
        triple.put(3, 1)
    assert triple.using("FRESH")(1) == 3
    with pytest.raises(CacheMiss):
        triple.using("fresh")(2)
    assert triple.key_for(1) == triple.key_for(1, times=3) != triple.key_for(2)
    assert "triple" in triple.key_for(1)
    assert triple.check_health() is True
    assert runs == [1, 1]


@stores
def test_the_methods_of_an_async_function(backend: Any) -> None:
    runs: list[int] = []

    @make_cache(backend)(name="triple", ttl=60)
    async def triple(number: int) -> int:
        runs.append(number)
        return 3 * number

    async def main() -> None:
        with pytest.raises(CacheMiss):
            await triple.peek(1)
        assert await triple.entry(1) is None
        assert await triple(1) == 3
        assert await triple.peek(1) == 3
        assert (await triple.entry(1)).value == 3
        assert await triple.invalidate(1) is Invalidation.DELIVERED
        assert await triple.entry(1) is None
        assert await triple.put(30, 1) is None
        assert await triple(1) == 30
        assert await triple.refresh(1) == 3
        assert await triple(1) == 3
        assert await triple.invalidate_cache(1) is Invalidation.DELIVERED
        assert await triple.ainvalidate_cache(1) is Invalidation.DELIVERED
        with pytest.raises(CacheMiss):
            await triple.using("FRESH")(1)
        assert await triple.check_health() is True
        assert "triple" in triple.key_for(1)

    asyncio.run(main())
    assert runs == [1, 1]


def test_entries_of_the_store_say_so() -> None:
    store = MemoryBackend()

    def double(number: int) -> int:
        return 2 * number

    Cache(backend=store)(name="double", ttl=60)(double)(1)
    cached = Cache(backend=store)(name="double", ttl=60)(double)
    entry = cached.entry(1)
    assert (entry.value, entry.tier, entry.stale) == (2, "store", False)
    assert 55 < entry.remaining_ttl <= 60
    assert cached.peek(1) == 2


def test_looking_never_runs_and_never_counts() -> None:
    store = MemoryBackend()

    def double(number: int) -> int:
        return 2 * number

    Cache(backend=store)(name="double")(double)(1)
    cached = Cache(backend=store)(name="double")(double)
    cached.peek(1), cached.entry(1), cached.key_for(1), cached.entry(2)
    with pytest.raises(CacheMiss):
        cached.peek(2)
    cached.put(4, 2)
    info = cached.cache_info()
    assert (info.hits, info.misses, info.loads, info.errors) == (0, 0, 0, 0)


def test_the_methods_reach_through_an_object(cache: Cache) -> None:
    runs: list[int] = []

    class Service:
        def __init__(self, name: str) -> None:
            self.name = name

        def __cache_key__(self) -> str:
            return self.name

        @cache
        def get(self, number: int) -> str:
            runs.append(number)
            return f"{self.name}{number}"

    one, other = Service("one"), Service("other")
    assert (one.get(3), other.get(3)) == ("one3", "other3")
    assert one.get.peek(3) == "one3"
    assert one.get.entry(number=3).value == "one3"
    assert one.get.key_for(3) == Service.get.key_for(one, 3) != other.get.key_for(3)
    assert one.get.invalidate(3) is Invalidation.DELIVERED
    assert one.get.entry(3) is None
    assert other.get.peek(3) == "other3"
    assert one.get.put("put", 3) is None
    assert one.get(3) == Service.get(one, 3) == "put"
    assert one.get.refresh(3) == "one3"
    assert one.get.using("BYPASS")(3) == "one3"
    assert one.get.using("FRESH").peek(3) == "one3"
    with pytest.raises(CacheMiss):
        one.get.using("FRESH")(4)
    assert Service.get.using("FRESH").__get__(one)(3) == "one3"
    assert one.get.cache_info() == Service.get.cache_info()
    one.get.cache_clear()
    assert Service.get.cache_info().currsize == 0
    assert one.get.check_health() is True
    assert runs == [3, 3, 3, 3]
    with pytest.raises(TypeError, match="value"):
        one.get.put()
    with pytest.raises(AttributeError):
        one.get.no_such_thing


def test_put_takes_a_value_and_nothing_by_name(cache: Cache) -> None:
    @cache
    def describe(value: str) -> str:
        return value

    describe.put("stored", value="argument")
    assert describe(value="argument") == "stored"


def test_put_tells_when_the_value_cannot_be_kept(cache: Cache) -> None:
    @cache(fallback_enabled=False)
    def anything() -> Any:
        return None

    with pytest.raises(cachekit.SerializationError):
        anything.put(object())


def test_refresh_raises_what_the_function_raises_and_keeps_the_entry(
    cache: Cache,
) -> None:
    fails: list[int] = []

    @cache
    def load() -> str:
        if fails:
            raise KeyError("gone")
        return "value"

    load()
    fails.append(1)
    with pytest.raises(KeyError, match="gone"):
        load.refresh()
    assert load() == "value"


@pytest.mark.parametrize("strategy", ["fresh", "Bypass", cachekit.Strategy.INVALIDATE])
def test_strategies_by_member_or_name_in_any_case(cache: Cache, strategy: Any) -> None:
    @cache
    def load() -> int:
        return 1

    load()
    assert load.using(strategy)() == 1


def test_an_unknown_strategy_is_a_value_error(cache: Cache) -> None:
    @cache
    def load() -> int:
        return 1

    with pytest.raises(ValueError, match="FRESH"):
        load.using("freshest")
    with pytest.raises(ValueError, match="FRESH"):
        cache(strategy="freshest")


def test_many_at_once(cache: Cache) -> None:
    runs: list[int] = []

    @cache(tags=["a"])
    def load() -> int:
        runs.append(1)
        return len(runs)

    ways = (
        load.invalidate_all,
        lambda: cache.invalidate_tags("a"),
        lambda: cache.clear(namespace=cache.config.namespace),
        cache.clear,
    )
    for count, way in enumerate(ways, 1):
        assert load() == load() == count
        assert way() is Invalidation.DELIVERED


# -- switching off, and the methods of a cache ---------------------------------


def test_disabled_calls_straight_through(cache: Cache) -> None:
    runs: list[int] = []

    @cache
    def load() -> int:
        runs.append(1)
        return len(runs)

    load()
    with cache.disabled():
        assert (load(), load()) == (2, 3)
        with cache.disabled():
            assert load() == 4
        assert load() == 5
        assert load.using("BYPASS")() == 6
    assert load() == 1
    assert load.cache_info()[:2] == (1, 1)


def test_disabled_calls_async_functions_straight_through(cache: Cache) -> None:
    runs: list[int] = []

    @cache
    async def load() -> int:
        runs.append(1)
        return len(runs)

    async def main() -> None:
        await load()
        with cache.disabled():
            other = asyncio.ensure_future(load())
            assert await other == 2
        assert await load() == 1

    asyncio.run(main())


def test_disabled_is_of_one_thread_and_one_cache(cache: Cache) -> None:
    from concurrent.futures import ThreadPoolExecutor

    runs: list[int] = []

    @cache
    def load() -> int:
        runs.append(1)
        return len(runs)

    @Cache(backend=None)
    def other() -> int:
        runs.append(1)
        return len(runs)

    load(), other()
    with cache.disabled(), ThreadPoolExecutor(1) as pool:
        assert pool.submit(load).result() == 1
        assert other() == 2


def test_the_environment_switches_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CACHEKIT_ENABLED", "0")
    cache = Cache()
    runs: list[int] = []

    @cache
    def load() -> int:
        runs.append(1)
        return len(runs)

    assert (load(), load()) == (1, 2)
    cache.set("name", 1)
    assert cache.get("name") is None


@stores
def test_the_methods_of_a_cache(backend: Any) -> None:
    cache = make_cache(backend)
    assert cache.get("a") is None
    assert cache.get("a", 5) == 5
    assert cache.set("a", {"x": [1]}) is None
    assert cache.get("a") == {"x": [1]}
    assert cache.get("a") is not cache.get("a")
    cache.set_many({"b": 2, "c": None}, ttl=60)
    assert cache.get_many(["a", "b", "c", "d"]) == {"a": {"x": [1]}, "b": 2, "c": None}
    assert cache.delete("a") is Invalidation.DELIVERED
    assert cache.get("a", "gone") == "gone"
    assert cache.ping() is True
    assert cache.health_check() is True
    assert cache.detailed_health_check()["status"] == "healthy"
    assert cache.clear() is Invalidation.DELIVERED
    assert cache.get("b") is None
    cache.close()


@stores
def test_the_awaitable_methods_of_a_cache(backend: Any) -> None:
    cache = make_cache(backend)

    async def main() -> None:
        assert await cache.aget("a", 5) == 5
        await cache.aset("a", [1])
        assert await cache.aget("a") == [1]
        await cache.aset_many({"b": 2})
        assert await cache.aget_many(["a", "b", "c"]) == {"a": [1], "b": 2}
        assert await cache.adelete("a") is Invalidation.DELIVERED
        assert await cache.aget("a") is None
        assert await cache.aping() is True
        assert await cache.ahealth_check() is True
        assert (await cache.adetailed_health_check())["status"] == "healthy"
        assert await cache.ainvalidate_tags("a") is Invalidation.DELIVERED
        assert await cache.aclear(namespace="a") is Invalidation.DELIVERED
        assert await cache.aget("b") == 2
        assert await cache.aclear() is Invalidation.DELIVERED
        assert await cache.aget("b") is None
        await cache.aclose()

    asyncio.run(main())


def test_each_method_of_a_cache_has_an_awaitable_twin() -> None:
    for name in (
        "get set delete get_many set_many invalidate_tags clear ping health_check "
        "detailed_health_check close"
    ).split():
        plain, twin = getattr(Cache, name), getattr(Cache, "a" + name)
        assert inspect.iscoroutinefunction(twin)
        assert list(inspect.signature(plain).parameters) == list(
            inspect.signature(twin).parameters
        )


# -- other event loops ----------------------------------------------------------------


@pytest.mark.no_sanitizer
def test_uvloop(cache: Cache) -> None:
    uvloop = pytest.importorskip("uvloop")
    runs: list[int] = []

    @cache
    async def double(number: int) -> int:
        runs.append(number)
        await asyncio.sleep(0.005)
        return 2 * number

    async def main() -> None:
        assert await asyncio.gather(*(double(4) for _ in range(50))) == [8] * 50
        assert await double(4) == 8
        await double.invalidate(4)
        slow = asyncio.ensure_future(double(4))
        await asyncio.sleep(0)
        slow.cancel()
        with pytest.raises(asyncio.CancelledError):
            await slow
        assert await double(4) == 8

    loop = uvloop.new_event_loop()
    try:
        loop.run_until_complete(main())
    finally:
        loop.close()
    assert runs == [4, 4, 4]
