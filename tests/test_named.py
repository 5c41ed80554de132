"""Entries that have a name of their own: get, set, delete and full_key=."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from basic_store import BasicStore
from faces import FACES, Face

import cachekit
from cachekit import (
    NEVER,
    BackendConnectionError,
    BackendError,
    Cache,
    CacheConfig,
    Invalidation,
    SerializationError,
)
from cachekit.backends import MemoryBackend


@pytest.fixture(params=FACES)
def face(request: pytest.FixtureRequest) -> Iterator[Face]:
    with Face(request.param) as face:
        yield face


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Broken(BasicStore):
    """A store that refuses everything while ``down``."""

    down = True
    asyncio = None  # type: ignore[assignment]

    def _check(self) -> None:
        if self.down:
            raise BackendConnectionError("down")

    def read(self, key: str, timeout: float) -> Any:
        self._check()
        return super().read(key, timeout)

    def write(self, key: str, data: bytes, ttl_ms: int, timeout: float) -> None:
        self._check()
        super().write(key, data, ttl_ms, timeout)

    def delete(self, keys: Any, timeout: float) -> int:
        self._check()
        return super().delete(keys, timeout)


def make(store: Any = None, **config: Any) -> Cache:
    config.setdefault("namespace", "test")
    return Cache(CacheConfig(**config), backend=store)


STORES: dict[str, Callable[[], Any]] = {"memory": lambda: None, "store": MemoryBackend}


@pytest.fixture(params=STORES)
def cache(request: pytest.FixtureRequest) -> Cache:
    return make(STORES[request.param]())


# -- get, set, delete -----------------------------------------------------------------


def test_what_is_set_is_got_as_a_copy(face: Face, cache: Cache) -> None:
    value = {"name": "Widget", "tags": ["a", (1, 2.0)]}
    face.do(cache, "set", "product:1", value)
    got = face.do(cache, "get", "product:1")
    assert got == value
    got["tags"].append("mine")
    assert face.do(cache, "get", "product:1") == value


def test_an_absent_name_gives_the_default(face: Face, cache: Cache) -> None:
    assert face.do(cache, "get", "nothing") is None
    assert face.do(cache, "get", "nothing", 7) == 7


def test_none_is_a_value(face: Face, cache: Cache) -> None:
    face.do(cache, "set", "key", None)
    assert face.do(cache, "get", "key", "default") is None


def test_set_replaces(face: Face, cache: Cache) -> None:
    face.do(cache, "set", "key", 1)
    face.do(cache, "set", "key", 2)
    assert face.do(cache, "get", "key") == 2


def test_delete_removes_from_memory_and_store(face: Face) -> None:
    store = MemoryBackend()
    cache = make(store)
    face.do(cache, "set", "key", 1)
    assert len(store) == 1
    assert face.do(cache, "delete", "key") is Invalidation.DELIVERED
    assert len(store) == 0
    assert face.do(cache, "get", "key") is None


def test_many_are_stored_and_found_by_name(face: Face, cache: Cache) -> None:
    values = {f"key:{i}": i for i in range(600)}
    face.do(cache, "set_many", values)
    wanted = [*values, "absent", "key:1"]
    assert face.do(cache, "get_many", wanted) == values
    assert face.do(cache, "get_many", []) == {}


def test_get_many_takes_any_iterable(face: Face, cache: Cache) -> None:
    face.do(cache, "set", "a", 1)
    assert face.do(cache, "get_many", (name for name in "ab")) == {"a": 1}


def test_a_name_must_be_text(face: Face, cache: Cache) -> None:
    for method, args in (("get", (1,)), ("set", (b"a", 1)), ("delete", (None,))):
        with pytest.raises(TypeError, match="name must be text"):
            face.do(cache, method, *args)


@pytest.mark.parametrize("name", ["", "ä {x}", "x" * 5000, "\ud800"])
def test_any_text_is_a_name(face: Face, cache: Cache, name: str) -> None:
    face.do(cache, "set", name, "here")
    assert face.do(cache, "get", name) == "here"


# -- lifetimes ------------------------------------------------------------------------


def test_ttl_reaches_the_store(face: Face) -> None:
    clock = Clock()
    store = MemoryBackend(clock)
    cache = make(store, l1_enabled=False)
    face.do(cache, "set", "short", 1, ttl=timedelta(seconds=10))
    face.do(cache, "set", "default", 2)
    face.do(cache, "set", "never", 3, ttl=NEVER)
    clock.now += 11
    assert face.do(cache, "get_many", ["short", "default", "never"]) == {
        "default": 2,
        "never": 3,
    }
    clock.now += 3600
    assert face.do(cache, "get_many", ["short", "default", "never"]) == {"never": 3}


@pytest.mark.parametrize("ttl", [0, -1, float("nan"), float("inf"), True, "60"])
def test_a_wrong_ttl_is_refused(face: Face, cache: Cache, ttl: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        face.do(cache, "set", "key", 1, ttl=ttl)
    assert face.do(cache, "get", "key") is None


# -- values that cannot be stored -----------------------------------------------------


def test_a_value_that_cannot_be_encoded_is_refused(face: Face, cache: Cache) -> None:
    face.do(cache, "set", "key", "old")
    with pytest.raises(SerializationError, match="type object") as caught:
        face.do(cache, "set", "key", {"inner": object()})
    assert caught.value.code == "E004"


def test_refusing_a_value_is_not_logged_besides(
    face: Face, cache: Cache, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(SerializationError):
        face.do(cache, "set", "key", object())
    assert not caplog.records


# -- failures -------------------------------------------------------------------------


def test_a_failing_store_is_not_felt(face: Face) -> None:
    cache = make(Broken())
    face.do(cache, "set", "key", 1)
    assert face.do(cache, "get", "key") == 1  # memory has it
    assert face.do(cache, "get", "other", "default") == "default"
    assert face.do(cache, "get_many", ["key", "other"]) == {"key": 1}
    assert face.do(cache, "delete", "key") is Invalidation.QUEUED
    assert face.do(cache, "get", "key") is None


def test_a_failing_store_raises_without_fallback(face: Face) -> None:
    cache = make(Broken(), fallback_enabled=False)
    with pytest.raises(BackendError):
        face.do(cache, "get", "key")
    with pytest.raises(BackendError):
        face.do(cache, "set", "key", 1)
    with pytest.raises(BackendError):
        face.do(cache, "set_many", {"a": 1, "b": 2})
    assert face.do(cache, "delete", "key") is Invalidation.QUEUED


def test_an_open_breaker_raises_without_fallback(face: Face) -> None:
    store = Broken()
    config = {"circuit_breaker_failure_threshold": 1, "fallback_enabled": False}
    cache = make(store, l1_enabled=False, **config)
    with pytest.raises(BackendConnectionError):
        face.do(cache, "get", "key")
    store.down = False
    with pytest.raises(cachekit.BackendUnavailable):
        face.do(cache, "get", "key")
    with pytest.raises(cachekit.BackendUnavailable):
        face.do(cache, "set", "key", 1)
    assert len(store) == 0


# -- who shares them ------------------------------------------------------------------


def test_both_faces_share_the_entries(cache: Cache) -> None:
    cache.set("key", 1)

    async def main() -> None:
        assert await cache.aget("key") == 1
        await cache.aset("key", 2)

    asyncio.run(main())
    assert cache.get("key") == 2


def test_full_key_is_the_same_entry(face: Face, cache: Cache) -> None:
    runs: list[str] = []

    def product(number: str) -> str:
        runs.append(number)
        return "made " + number

    cached = face.function(cache(full_key=lambda number: f"product:{number}"), product)
    assert face.call(cached, "1") == "made 1"
    assert face.do(cache, "get", "product:1") == "made 1"
    face.do(cache, "set", "product:2", "set")
    assert face.call(cached, "2") == "set"
    face.do(cache, "delete", "product:1")
    assert face.call(cached, "1") == "made 1"
    face.call(cached.invalidate, "2")
    assert face.do(cache, "get", "product:2") is None
    assert runs == ["1", "1"]


def test_names_are_apart_from_functions_of_the_same_name(
    face: Face, cache: Cache
) -> None:
    cached = face.function(cache(name="name"), lambda text: "function")
    assert face.call(cached, "key") == "function"
    face.do(cache, "set", "key", "named")
    assert face.call(cached, "key") == "function"


def test_namespaces_are_apart(face: Face) -> None:
    store = MemoryBackend()
    one, two = make(store, namespace="one"), make(store, namespace="two")
    face.do(one, "set", "key", 1)
    assert face.do(two, "get", "key") is None
    assert face.do(make(store, namespace="one"), "get", "key") == 1


def test_a_run_under_way_does_not_undo_a_set(cache: Cache) -> None:
    """Whoever began before the value was set must not store what it then read."""
    began, go = threading.Event(), threading.Event()

    @cache(full_key=lambda: "config")
    def load() -> str:
        began.set()
        assert go.wait(5)
        return "old"

    thread = threading.Thread(target=load)
    thread.start()
    assert began.wait(5)
    cache.set("config", "new")
    go.set()
    thread.join(5)
    assert cache.get("config") == "new"
    assert load() == "new"


def test_a_run_under_way_does_not_undo_a_delete(cache: Cache) -> None:
    began, go = threading.Event(), threading.Event()

    @cache(full_key=lambda: "config")
    def load() -> str:
        began.set()
        assert go.wait(5)
        return "old"

    thread = threading.Thread(target=load)
    thread.start()
    assert began.wait(5)
    asyncio.run(cache.adelete("config"))
    go.set()
    thread.join(5)
    assert cache.get("config") is None


def test_named_entries_do_not_move_the_counters_of_functions(
    face: Face, cache: Cache
) -> None:
    cached = face.function(cache(full_key=lambda text: text), lambda text: "made")
    face.call(cached, "key")
    before = cached.cache_info()
    face.do(cache, "get", "key")
    face.do(cache, "get", "other")
    after = cached.cache_info()
    assert (after.hits, after.misses) == (before.hits, before.misses)
