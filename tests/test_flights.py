"""One run at a time: threads, tasks and loops that want the same value."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import time
import traceback
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from servers import RedisServer
from together import (
    MAX,
    background,
    followed_by,
    in_threads,
    wait_until,
    wait_until_async,
)

from cachekit import Cache, CacheConfig, Strategy


class Boom(Exception):
    pass


@pytest.fixture
def cache() -> Cache:
    return Cache(backend=None)


@pytest.fixture(params=["memory", "redis"])
def either(request: pytest.FixtureRequest) -> Iterator[Cache]:
    """A cache in memory only, and one on Redis with the memory tier off."""
    if request.param == "memory":
        yield Cache(backend=None)
        return
    server: RedisServer = request.getfixturevalue("redis_server")
    cache = Cache(CacheConfig(redis_url=server.url, l1_enabled=False, namespace="t"))
    yield cache
    cache.close()


# -- one run, all served --------------------------------------------------------------


def test_a_hundred_threads_make_one_run(either: Cache) -> None:
    runs: list[int] = []

    @either
    def double(number: int) -> int:
        runs.append(number)
        wait_until(followed_by(99))
        return 2 * number

    assert in_threads(100, lambda: double(4)) == [8] * 100
    assert runs == [4]
    assert double.cache_info().coalesced == 99


def test_a_thousand_tasks_make_one_run(either: Cache) -> None:
    runs: list[int] = []

    @either
    async def double(number: int) -> int:
        runs.append(number)
        await wait_until_async(followed_by(999))
        return 2 * number

    async def main() -> list[int]:
        results = await asyncio.gather(*(double(4) for _ in range(1000)))
        await either.aclose()
        return results

    assert asyncio.run(main()) == [8] * 1000
    assert runs == [4]


def test_tasks_on_three_loops_and_threads_make_one_run(either: Cache) -> None:
    runs: list[int] = []

    @either
    async def double(number: int) -> int:
        runs.append(number)
        await wait_until_async(followed_by(3 * 200 + 20 - 1))
        return 2 * number

    async def many() -> int:
        results = await asyncio.gather(*(double(4) for _ in range(200)))
        await either.aclose()
        return sum(results)

    async def one() -> int:
        result = await double(4)
        await either.aclose()
        return result

    with ThreadPoolExecutor(23) as pool:
        loops = [pool.submit(asyncio.run, many()) for _ in range(3)]
        threads = [pool.submit(asyncio.run, one()) for _ in range(20)]
        assert [future.result(MAX) for future in loops] == [1600] * 3
        assert [future.result(MAX) for future in threads] == [8] * 20
    assert runs == [4]


def test_threads_and_tasks_of_three_loops_share_a_blocking_run(either: Cache) -> None:
    runs: list[int] = []

    @either
    def double(number: int) -> int:
        runs.append(number)
        wait_until(followed_by(3 * 10 + 70 - 1))
        return 2 * number

    async def many() -> list[int]:
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(10) as pool:
            jobs = [loop.run_in_executor(pool, double, 4) for _ in range(10)]
            return await asyncio.gather(*jobs)

    with ThreadPoolExecutor(3) as pool:
        loops = [pool.submit(asyncio.run, many()) for _ in range(3)]
        assert in_threads(70, lambda: double(4)) == [8] * 70
        assert [future.result(MAX) for future in loops] == [[8] * 10] * 3
    assert runs == [4]


def test_other_keys_do_not_wait(cache: Cache) -> None:
    go = threading.Event()

    @cache
    def slow(number: int) -> int:
        if number == 1:
            assert go.wait(MAX)
        return number

    with background(lambda: slow(1)) as first:
        assert slow(2) == 2
        assert not first.done()
        go.set()
    assert first.result() == 1


@pytest.mark.parametrize("single_flight", [True, False])
def test_single_flight_can_be_switched_off(cache: Cache, single_flight: bool) -> None:
    runs: list[int] = []
    together = threading.Barrier(1 if single_flight else 4)

    @cache(single_flight=single_flight)
    def slow() -> int:
        runs.append(1)
        together.wait(MAX)
        if single_flight:
            wait_until(followed_by(3))
        return 1

    assert in_threads(4, slow) == [1] * 4
    assert len(runs) == (1 if single_flight else 4)


def test_a_call_begins_when_it_is_awaited(cache: Cache) -> None:
    @cache
    async def double(number: int) -> int:
        return 2 * number

    async def main() -> None:
        first, second = double(4), double(4)
        # Nobody runs `first` yet: `second` must not wait for it.
        assert await asyncio.wait_for(second, MAX) == 8
        assert await first == 8

    asyncio.run(main())
    assert double.cache_info().loads == 1


def test_a_call_that_is_never_awaited_keeps_nobody(cache: Cache) -> None:
    @cache
    async def double(number: int) -> int:
        return 2 * number

    async def main() -> None:
        forgotten = double(4)
        assert await asyncio.wait_for(double(4), MAX) == 8
        forgotten.close()

    asyncio.run(main())


# -- what followers get ---------------------------------------------------------------


def test_followers_get_copies_of_containers(cache: Cache) -> None:
    @cache
    def listing() -> list[dict[str, int]]:
        wait_until(followed_by(4))
        return [{"a": 1}]

    results = in_threads(5, listing)
    assert results == [[{"a": 1}]] * 5
    assert len({id(result) for result in results}) == 5
    assert len({id(result[0]) for result in results}) == 5


def test_tasks_that_follow_get_copies_of_containers(cache: Cache) -> None:
    @cache
    async def listing() -> list[int]:
        await wait_until_async(followed_by(4))
        return [1]

    async def main() -> list[list[int]]:
        return await asyncio.gather(*(listing() for _ in range(5)))

    results = asyncio.run(main())
    assert results == [[1]] * 5
    assert len({id(result) for result in results}) == 5


def test_an_iterator_is_given_to_nobody_else(cache: Cache) -> None:
    runs: list[int] = []

    @cache
    def once() -> Iterator[int]:
        runs.append(1)
        if len(runs) == 1:
            wait_until(followed_by(2))
        return iter([1, 2])

    results = in_threads(3, lambda: list(once()))
    assert results == [[1, 2]] * 3
    assert len(runs) == 3


def test_all_get_the_exception_that_the_leader_raised(either: Cache) -> None:
    runs: list[int] = []

    @either
    def failing() -> int:
        runs.append(1)
        wait_until(followed_by(9))
        raise Boom("once")

    results = in_threads(10, failing)
    assert isinstance(results[0], Boom)
    assert len({id(error) for error in results}) == 1
    assert len(runs) == 1


def test_tasks_get_the_exception_that_the_leader_raised(either: Cache) -> None:
    runs: list[int] = []

    @either
    async def failing() -> int:
        runs.append(1)
        await wait_until_async(followed_by(9))
        raise Boom("once")

    async def main() -> list[Any]:
        jobs = (failing() for _ in range(10))
        results = await asyncio.gather(*jobs, return_exceptions=True)
        await either.aclose()
        return results

    results = asyncio.run(main())
    assert isinstance(results[0], Boom)
    assert len({id(error) for error in results}) == 1
    assert len(runs) == 1


def depth(error: BaseException) -> int:
    return len(traceback.extract_tb(error.__traceback__))


def test_the_traceback_is_the_leaders_and_does_not_grow(cache: Cache) -> None:
    @cache
    def failing() -> int:
        wait_until(followed_by(20))
        raise Boom

    depths: list[int] = []
    names: set[str] = set()

    def call() -> None:
        try:
            failing()
        except Boom as error:
            depths.append(depth(error))
            names.update(
                line.name for line in traceback.extract_tb(error.__traceback__)
            )

    in_threads(21, call)
    assert max(depths) <= 3  # call, failing, wait_until is not on it
    assert "failing" in names


def test_the_traceback_does_not_grow_with_tasks(cache: Cache) -> None:
    depths: list[int] = []

    @cache
    async def failing() -> int:
        await wait_until_async(followed_by(20))
        raise Boom

    async def call() -> None:
        try:
            await failing()
        except Boom as error:
            depths.append(depth(error))

    async def main() -> None:
        await asyncio.gather(*(call() for _ in range(21)))

    asyncio.run(main())
    assert max(depths) - min(depths) <= 1
    assert max(depths) <= 5


def test_an_exception_is_not_kept_alive(cache: Cache) -> None:
    @cache
    async def failing() -> int:
        await wait_until_async(followed_by(2))
        raise Boom

    async def call() -> weakref.ref[Boom]:
        try:
            await failing()
        except Boom as error:
            return weakref.ref(error)
        raise AssertionError

    async def main() -> list[weakref.ref[Boom]]:
        return await asyncio.gather(*(call() for _ in range(3)))

    gc.collect()
    gc.disable()
    try:
        assert [error() for error in asyncio.run(main())] == [None] * 3
    finally:
        gc.enable()


# -- giving up ------------------------------------------------------------------------


def test_a_follower_gives_up_and_runs(cache: Cache) -> None:
    runs: list[int] = []
    go = threading.Event()

    @cache(single_flight_timeout=0.05)
    def slow() -> str:
        runs.append(1)
        if len(runs) == 1:
            assert go.wait(MAX)
            return "first"
        return "own"

    with background(slow) as first:
        wait_until(lambda: runs)
        began = time.monotonic()
        assert slow() == "own"
        assert 0.05 <= time.monotonic() - began < 1
        go.set()
    assert first.result() == "first"
    assert len(runs) == 2


def test_a_task_that_follows_gives_up_and_runs(cache: Cache) -> None:
    runs: list[int] = []

    async def main() -> None:
        go = asyncio.Event()

        @cache(single_flight_timeout=0.05)
        async def slow() -> str:
            runs.append(1)
            if len(runs) == 1:
                await go.wait()
                return "first"
            return "own"

        first = asyncio.ensure_future(slow())
        await wait_until_async(lambda: runs)
        assert await slow() == "own"
        go.set()
        assert await first == "first"

    asyncio.run(main())
    assert len(runs) == 2


# -- whose failure it is --------------------------------------------------------------


def test_what_the_function_raises_is_no_failure_of_the_store(
    redis_server: RedisServer,
) -> None:
    cache = Cache(CacheConfig(redis_url=redis_server.url, namespace="t"))

    @cache
    def failing(number: int) -> int:
        raise ConnectionError("not of the store")

    for number in range(20):
        with pytest.raises(ConnectionError, match="not of the store"):
            failing(number)
    breaker = cache.detailed_health_check()["circuit_breaker"]
    assert breaker["state"] == "closed"
    assert breaker["failure_count"] == 0
    assert failing.cache_info().errors == 0
    cache.close()


def test_what_an_async_function_raises_is_no_failure_of_the_store(
    redis_server: RedisServer,
) -> None:
    cache = Cache(CacheConfig(redis_url=redis_server.url, namespace="t"))

    @cache
    async def failing(number: int) -> int:
        raise ConnectionError("not of the store")

    async def main() -> Any:
        for number in range(20):
            with pytest.raises(ConnectionError, match="not of the store"):
                await failing(number)
        breaker = (await cache.adetailed_health_check())["circuit_breaker"]
        await cache.aclose()
        return breaker

    breaker = asyncio.run(main())
    assert (breaker["state"], breaker["failure_count"]) == ("closed", 0)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are newer")
def test_eager_tasks(cache: Cache) -> None:
    runs: list[int] = []

    @cache
    async def double(number: int) -> int:
        runs.append(number)
        if number > 1:
            await asyncio.sleep(0)
        return 2 * number

    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        assert await asyncio.gather(*(double(1) for _ in range(10))) == [2] * 10
        assert await asyncio.gather(*(double(2) for _ in range(10))) == [4] * 10

    asyncio.run(main())
    assert runs == [1, 2]


def test_strategies_are_known_by_member_too(cache: Cache) -> None:
    runs: list[int] = []

    @cache
    def load() -> int:
        runs.append(1)
        return len(runs)

    assert load() == 1
    assert load.using(Strategy.BYPASS)() == 2
    assert load() == 2
