"""cache.disabled() and CACHEKIT_ENABLED=0: calls go straight to the functions."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from faces import FACES, Face

from cachekit import Cache, CacheConfig
from cachekit.backends import MemoryBackend


@pytest.fixture(params=FACES)
def face(request: pytest.FixtureRequest) -> Iterator[Face]:
    with Face(request.param) as face:
        yield face


class Counted:
    def __init__(self) -> None:
        self.runs = 0

    def __call__(self, number: int) -> int:
        self.runs += 1
        return 2 * number


def counted(face: Face, cache: Cache, **options: Any) -> tuple[Any, Counted]:
    counter = Counted()

    def double(number: int) -> int:
        return counter(number)

    return face.function(cache(**options), double), counter


def test_inside_the_block_the_function_runs_each_time(face: Face) -> None:
    cache = Cache(backend=None)
    double, counter = counted(face, cache)
    face.call(double, 1)
    with cache.disabled():
        assert face.call(double, 1) == 2
        assert face.call(double, 1) == 2
    assert counter.runs == 3
    face.call(double, 1)
    assert counter.runs == 3
    assert double.cache_info().misses == 1


def test_nothing_is_stored_inside_the_block(face: Face) -> None:
    store = MemoryBackend()
    cache = Cache(CacheConfig(namespace="t"), backend=store)
    double, counter = counted(face, cache, name="double")
    with cache.disabled():
        face.call(double, 1)
        face.do(cache, "set", "key", 1)
        assert face.do(cache, "get", "key", "default") == "default"
    assert len(store) == 0
    assert double.cache_info().currsize == 0
    face.call(double, 1)
    assert counter.runs == 2


def test_an_invalidation_is_delivered_inside_the_block(face: Face) -> None:
    store = MemoryBackend()
    cache = Cache(CacheConfig(namespace="t"), backend=store)
    double, counter = counted(face, cache, name="double")
    face.call(double, 1)
    face.do(cache, "set", "key", 1)
    with cache.disabled():
        face.call(double.invalidate, 1)
        face.do(cache, "delete", "key")
    assert len(store) == 0
    face.call(double, 1)
    assert counter.runs == 2


def test_blocks_nest_and_end_with_an_exception(face: Face) -> None:
    cache = Cache(backend=None)
    double, counter = counted(face, cache)
    face.call(double, 1)
    with pytest.raises(KeyError), cache.disabled():
        with cache.disabled():
            face.call(double, 1)
        face.call(double, 1)
        raise KeyError
    assert counter.runs == 3
    face.call(double, 1)
    assert counter.runs == 3


def test_one_block_object_may_be_entered_again() -> None:
    cache = Cache(backend=None)
    block = cache.disabled()
    for _ in range(2):
        with block, block:
            assert cache._is_off()
    assert not cache._is_off()


def test_another_thread_is_not_disabled() -> None:
    cache = Cache(backend=None)
    counter = Counted()
    double = cache(lambda number: counter(number))
    double(1)
    with cache.disabled():
        thread = threading.Thread(target=double, args=(1,))
        thread.start()
        thread.join(5)
    assert counter.runs == 1


def test_another_task_is_not_disabled_and_one_started_inside_is() -> None:
    cache = Cache(backend=None)
    counter = Counted()

    @cache
    async def double(number: int) -> int:
        return counter(number)

    async def main() -> None:
        await double(1)
        inside, leave = asyncio.Event(), asyncio.Event()

        async def disabled() -> None:
            with cache.disabled():
                inside.set()
                await leave.wait()
                await asyncio.create_task(double(1))

        task = asyncio.create_task(disabled())
        await inside.wait()
        await double(1)
        assert counter.runs == 1
        leave.set()
        await task
        assert counter.runs == 2

    asyncio.run(main())


def test_another_cache_is_not_disabled(face: Face) -> None:
    cache = Cache(backend=None)
    double, counter = counted(face, cache)
    with Cache(backend=None).disabled():
        face.call(double, 1)
        face.call(double, 1)
    assert counter.runs == 1


@pytest.mark.parametrize("word", ["0", "false", "No", "OFF"])
def test_the_environment_switches_off(
    face: Face, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CACHEKIT_ENABLED", word)
    cache = Cache(backend=None)
    double, counter = counted(face, cache)
    for _ in range(3):
        assert face.call(double, 1) == 2
    assert counter.runs == 3
    face.do(cache, "set", "key", 1)
    assert face.do(cache, "get", "key") is None


def test_the_setting_switches_off(face: Face) -> None:
    cache = Cache(CacheConfig(enabled=False), backend=None)
    double, counter = counted(face, cache)
    for _ in range(2):
        face.call(double, 1)
    assert counter.runs == 2


def test_a_block_before_the_first_use_does_not_switch_on(face: Face) -> None:
    cache = Cache(CacheConfig(enabled=False), backend=None)
    double, counter = counted(face, cache)
    with cache.disabled():
        face.call(double, 1)
    face.call(double, 1)
    face.call(double, 1)
    assert counter.runs == 3


def test_a_switched_off_function_raises_what_the_function_raises(face: Face) -> None:
    cache = Cache(CacheConfig(enabled=False), backend=None)
    double, _ = counted(face, cache)
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        face.call(double)
