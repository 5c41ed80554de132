"""A store that dies, freezes and comes back, under callers who must not notice."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from driver import Driver, Work, each_driver
from servers import RedisServer, free_port

from cachekit import Cache, CacheConfig

driver = each_driver

DEADLINE = 0.2  # socket_timeout where a test waits for it to pass
SLACK = 0.15  # what a busy machine may add
RECOVERY = 6.0  # seconds from the first PONG to hits of the store


@pytest.fixture
def frozen(own_redis: RedisServer) -> Iterator[RedisServer]:
    """A server that accepts and says nothing."""
    own_redis.stop()
    yield own_redis
    own_redis.cont()


def timed(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def cost(driver: Driver, function: Callable[[int], Any]) -> float:
    """Seconds for one call."""

    async def repeat() -> None:
        for _ in range(200):
            await function(1)

    def loop() -> None:
        for _ in range(200):
            function(1)

    batch = (lambda: driver.finish(repeat())) if driver.is_async else loop
    return min(timed(batch) for _ in range(20)) / 200


def breaker(cache: Cache) -> str:
    """Its state, looked at without any health check that could change it."""
    (store,) = cache._stores.values()
    return store.guard.state()["state"]


def wait_for_hits(work: Work, seconds: float = RECOVERY) -> float:
    """Call until a value comes from the store; returns how long that took."""
    before, start = work.info.l2_hits, time.monotonic()
    while work.info.l2_hits == before:
        assert work(1)["n"] == 1
        assert time.monotonic() - start < seconds, "no hit came back"
        work.driver.rest(0.01)
    return time.monotonic() - start


# What a call costs while the store is away


def test_the_failures_that_open_the_breaker_cost_less_than_two_deadlines(
    driver, frozen
):
    cache = driver.cache(frozen.url, socket_timeout=DEADLINE)
    work = driver.work(cache, l1_enabled=False)
    spent = [timed(lambda n=n: work(n)) for n in range(5)]
    assert breaker(cache) == "open"
    assert sum(spent) < 2 * DEADLINE + SLACK
    assert spent[0] >= DEADLINE * 0.9, "the first one waits for the whole deadline"
    assert spent[4] < spent[0], "and each next one less"


def test_they_cost_many_threads_no_more(frozen):
    driver = Driver()
    cache = driver.cache(frozen.url, socket_timeout=DEADLINE, connection_pool_size=8)
    work = driver.work(cache, l1_enabled=False)

    def caller(i: int) -> None:
        for n in range(20):
            work(100 * i + n)

    threads = [threading.Thread(target=caller, args=(i,)) for i in range(8)]

    def all_of_them() -> None:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert timed(all_of_them) < 2 * DEADLINE + 2 * SLACK
    assert work.runs == 160
    driver.close()


def test_they_cost_many_tasks_no_more(frozen):
    async def main() -> None:
        cache = Cache(CacheConfig(namespace="test", socket_timeout=DEADLINE))

        @cache(backend=frozen.url, name="tasks", l1_enabled=False)
        async def double(n: int) -> int:
            return 2 * n

        async def caller(i: int) -> None:
            for n in range(10 * i, 10 * i + 10):
                assert await double(n) == 2 * n

        start = time.perf_counter()
        await asyncio.gather(*[caller(i) for i in range(200)])
        assert time.perf_counter() - start < 2 * DEADLINE + 3 * SLACK
        await cache.aclose()

    asyncio.run(main())


@pytest.mark.no_sanitizer
def test_an_open_breaker_costs_next_to_nothing(driver):
    cache = driver.cache(f"redis://127.0.0.1:{free_port()}")
    work = driver.work(cache, l1_enabled=False)
    for n in range(5):
        work(n)
    assert breaker(cache) == "open"

    # A coroutine's run is a task of its own, with or without a store.
    memory_only = driver.work(driver.cache(None), ttl=60, cache_if=lambda value: False)
    alone = memory_only.cached if driver.is_async else work.cached.__wrapped__
    assert cost(driver, work.cached) - cost(driver, alone) < 10e-6


def test_read_and_fill_of_one_call_share_one_budget(driver, proxy):
    cache = driver.cache(proxy.url, socket_timeout=DEADLINE)
    work = driver.work(cache, l1_enabled=False)
    work(0)
    proxy.delay(0.6 * DEADLINE)
    assert timed(lambda: work(1)) < DEADLINE + SLACK


def test_the_run_of_the_function_is_not_counted_against_the_store(driver, proxy):
    cache = driver.cache(proxy.url, socket_timeout=DEADLINE)
    work = driver.work(cache, l1_enabled=False)
    work.before = lambda: time.sleep(2 * DEADLINE)
    work(1)
    assert work.using("FRESH")(1) == {"n": 1, "run": 1}


# Reads are answered, writes hang


@pytest.fixture
def no_writes(own_redis: RedisServer) -> Iterator[RedisServer]:
    """A server that answers reads and hangs on writes; `takes_writes` ends that."""
    yield own_redis
    takes_writes(own_redis)


def hangs_on_writes(server: RedisServer) -> None:
    server.call("CLIENT", "PAUSE", 60_000, "WRITE")


def takes_writes(server: RedisServer) -> None:
    server.call("CLIENT", "UNPAUSE")


def writes(cache: Cache) -> str:
    """Are they let through?"""
    (store,) = cache._stores.values()
    return store.guard.state()["writes"]


def skip_writes(work: Work, cache: Cache) -> None:
    for n in range(1000, 1010):
        work(n)
    assert writes(cache) == "open"


def test_forty_misses_cost_less_than_two_deadlines_where_writes_hang(driver, no_writes):
    cache = driver.cache(no_writes.url, socket_timeout=DEADLINE)
    work = driver.work(cache, l1_enabled=False)
    work(0)
    hangs_on_writes(no_writes)
    spent = [timed(lambda n=n: work(n)) for n in range(1, 41)]
    assert work.runs == 41
    assert sum(spent) < 2 * DEADLINE + SLACK
    assert spent[0] >= DEADLINE * 0.9, "the first one waits for the whole deadline"
    assert breaker(cache) == "closed", "reads go on"
    assert writes(cache) == "open"


def test_they_cost_eight_threads_no_more(no_writes):
    driver = Driver()
    cache = driver.cache(no_writes.url, socket_timeout=DEADLINE, connection_pool_size=8)
    work = driver.work(cache, l1_enabled=False)
    work(0)
    hangs_on_writes(no_writes)
    states = []

    def caller(i: int) -> None:
        for n in range(40):
            work(100 * i + n + 1)
            states.append(breaker(cache))

    threads = [threading.Thread(target=caller, args=(i,)) for i in range(8)]

    def all_of_them() -> None:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    # Those that began together fail together: the others are told at once.
    assert timed(all_of_them) < 2 * DEADLINE + 3 * SLACK
    assert work.runs == 321
    assert set(states) == {"closed"}
    driver.close()


def test_they_cost_eight_tasks_no_more(no_writes):
    async def main() -> None:
        cache = Cache(CacheConfig(namespace="test", socket_timeout=DEADLINE))

        @cache(backend=no_writes.url, name="tasks", l1_enabled=False)
        async def double(n: int) -> int:
            return 2 * n

        async def caller(i: int) -> None:
            for n in range(100 * i, 100 * i + 40):
                assert await double(n) == 2 * n

        await double(-1)
        hangs_on_writes(no_writes)
        start = time.perf_counter()
        await asyncio.gather(*[caller(i) for i in range(8)])
        assert time.perf_counter() - start < 2 * DEADLINE + 3 * SLACK
        assert breaker(cache) == "closed"
        await cache.aclose()

    asyncio.run(main())


def test_entries_are_served_all_the_while_writes_hang(driver, no_writes):
    cache = driver.cache(no_writes.url, socket_timeout=DEADLINE)
    work = driver.work(cache, l1_enabled=False)
    work(0)
    hangs_on_writes(no_writes)
    spent = []
    for n in range(1, 31):
        work(n)
        spent.append(timed(lambda: work(0)))
    assert work.info.l2_hits == 30
    assert max(spent) < DEADLINE


def test_writes_return_by_themselves_once_they_pass(driver, no_writes):
    cache = driver.cache(no_writes.url, socket_timeout=DEADLINE)
    work = driver.work(cache, l1_enabled=False)
    work(0)
    hangs_on_writes(no_writes)
    skip_writes(work, cache)
    takes_writes(no_writes)
    assert wait_for_hits(work) < 1.0
    assert writes(cache) == "closed"
    assert timed(lambda: work(2)) < DEADLINE


def test_an_invalidation_that_hangs_is_kept_and_other_entries_are_served(
    driver, no_writes
):
    cache = driver.cache(no_writes.url, socket_timeout=DEADLINE)
    work = driver.work(cache, l1_enabled=False)
    work(0)
    work(1)
    hangs_on_writes(no_writes)
    work.invalidate(0)
    spent = [timed(lambda: work(1)) for _ in range(30)]
    assert sum(spent) < 2 * DEADLINE + SLACK
    assert breaker(cache) == "closed"
    assert work.info.l2_hits >= 25
    runs = work.runs
    work(0)
    assert work.runs == runs + 1, "it is gone for us"
    takes_writes(no_writes)
    (store,) = cache._stores.values()
    deadline = time.monotonic() + RECOVERY
    while len(store.pending):
        work(1)
        assert time.monotonic() < deadline
        driver.rest(0.01)


@pytest.mark.no_sanitizer
def test_a_write_that_is_skipped_costs_next_to_nothing(driver, no_writes):
    cache = driver.cache(no_writes.url, socket_timeout=DEADLINE)
    work = driver.work(cache, l1_enabled=False)
    work(0)
    hangs_on_writes(no_writes)
    skip_writes(work, cache)
    memory_only = driver.work(driver.cache(None), ttl=60, cache_if=lambda value: False)
    alone = memory_only.cached.using("BYPASS")
    assert cost(driver, work.cached.using("BYPASS")) - cost(driver, alone) < 10e-6


# How it comes back


def test_a_restart_between_two_calls_costs_nothing(driver, own_redis):
    work = driver.work(driver.cache(own_redis.url), l1_enabled=False)
    work(1)
    own_redis.restart()
    driver.rest(0.01)
    assert work(1) == {"n": 1, "run": 2}
    assert work(1) == {"n": 1, "run": 2}
    assert work.info.errors == 0


def test_hits_return_after_kill_and_restart(driver, own_redis):
    cache = driver.cache(own_redis.url)
    work = driver.work(cache, l1_enabled=False)
    work(1)
    own_redis.kill()
    end = time.monotonic() + 0.8
    while time.monotonic() < end:
        assert work(1)["n"] == 1
        driver.rest(0.002)
    assert breaker(cache) == "open"
    own_redis.start()
    wait_for_hits(work)
    assert breaker(cache) == "closed"


def test_hits_return_after_a_freeze(driver, own_redis):
    cache = driver.cache(own_redis.url, socket_timeout=DEADLINE)
    work = driver.work(cache, l1_enabled=False)
    work(1)
    own_redis.stop()
    while breaker(cache) != "open":
        assert work(1)["n"] == 1
    own_redis.cont()
    wait_for_hits(work)


def test_a_store_that_is_down_at_the_start_is_found_when_it_comes(driver):
    server = RedisServer()
    try:
        work = driver.work(driver.cache(server.url), l1_enabled=False)
        for _ in range(10):
            assert work(1)["n"] == 1
        server.start()
        wait_for_hits(work)
    finally:
        server.close()


def test_a_second_of_absence_is_not_made_a_minute(driver, own_redis):
    """The breaker's timeout (60 s) is the latest moment, not the usual one."""
    work = driver.work(
        driver.cache(own_redis.url, circuit_breaker_timeout=60), l1_enabled=False
    )
    own_redis.kill()
    for n in range(10):
        work(n)
    own_redis.start()
    assert wait_for_hits(work) < 2.0


# What is said of it


def events(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Of the warnings, in order."""
    return [getattr(record, "event", "") for record in caplog.records]


def test_two_caches_of_one_store_warn_once(own_redis, caplog):
    caches = [
        Cache(CacheConfig(namespace=name), backend=own_redis.url) for name in "ab"
    ]
    for cache in caches:
        cache.set("key", 1)
    own_redis.kill()
    with caplog.at_level("WARNING", "cachekit"):
        for cache in caches:
            for _ in range(3):
                cache.get("another")
    assert events(caplog).count("store_failed") == 1
    for cache in caches:
        cache.close()


def test_that_writes_are_skipped_is_said_once_and_that_they_are_not(
    driver, no_writes, caplog
):
    cache = driver.cache(no_writes.url, socket_timeout=DEADLINE)
    work = driver.work(cache, l1_enabled=False)
    work(0)
    with caplog.at_level("WARNING", "cachekit"):
        hangs_on_writes(no_writes)
        skip_writes(work, cache)
        driver.rest(0.3)  # a probe that fails
        for n in range(2000, 2010):
            work(n)
        report = cache.detailed_health_check if not driver.is_async else None
        if report is not None:
            assert report()["status"] == "degraded"
        assert events(caplog) == ["store_failed", "writes_changed"]
        takes_writes(no_writes)
        wait_for_hits(work)
    assert events(caplog)[2:] == ["writes_changed", "store_recovered"]


# Under load


class Load:
    """Eight threads and two hundred tasks that call, check and time each call."""

    KEYS = 300

    def __init__(self, url: str, memory: bool) -> None:
        config = CacheConfig(namespace="load", socket_timeout=1.0)
        self.cache = Cache(config, backend=url)
        self.over = False
        self.calls = 0
        self.slowest = 0.0
        self.stalled = 0.0  # seconds that this process, not the cache, kept a caller
        self.wrong: list[object] = []
        self.raised: list[BaseException] = []
        options: dict[str, Any] = {"ttl": 0.5, "l1_enabled": memory}
        if memory:  # its entries end before the store's, or it would never be asked
            options["l1_ttl"] = 0.05

        @self.cache(name="plain", **options)
        def plain(n: int) -> dict[str, int]:
            return self.model(n)

        @self.cache(name="coroutine", **options)
        async def coroutine(n: int) -> dict[str, int]:
            await asyncio.sleep(0)
            return self.model(n)

        self.functions = (plain, coroutine)
        self.threads = [threading.Thread(target=self._thread) for _ in range(8)]
        self.threads.append(threading.Thread(target=asyncio.run, args=(self._tasks(),)))
        self.threads.append(threading.Thread(target=self._watch))

    @staticmethod
    def model(n: int) -> dict[str, int]:
        return {"n": n, "square": n * n}

    def hits(self) -> tuple[int, ...]:
        """Hits of the store: of the threads, of the tasks."""
        return tuple(function.cache_info().l2_hits for function in self.functions)

    def _note(self, n: int, value: object, start: float) -> None:
        self.calls += 1
        self.slowest = max(self.slowest, time.monotonic() - start)
        if value != self.model(n):
            self.wrong.append((n, value))

    def _thread(self) -> None:
        chance = random.Random()
        try:
            while not self.over:
                n, start = chance.randrange(self.KEYS), time.monotonic()
                self._note(n, self.functions[0](n), start)
                time.sleep(0.002)
        except BaseException as error:
            self.raised.append(error)

    def _late(self, due: float) -> None:
        self.stalled = max(self.stalled, time.monotonic() - due)

    def _watch(self) -> None:
        while not self.over:
            due = time.monotonic() + 0.005
            time.sleep(0.005)
            self._late(due)

    async def _watch_loop(self) -> None:
        while not self.over:
            due = time.monotonic() + 0.005
            await asyncio.sleep(0.005)
            self._late(due)

    async def _task(self) -> None:
        chance = random.Random()
        try:
            while not self.over:
                n, start = chance.randrange(self.KEYS), time.monotonic()
                self._note(n, await self.functions[1](n), start)
                await asyncio.sleep(0.05)
        except BaseException as error:
            self.raised.append(error)

    async def _tasks(self) -> None:
        await asyncio.gather(self._watch_loop(), *[self._task() for _ in range(200)])
        await self.cache.aclose()

    def __enter__(self) -> Load:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.over = True
        for thread in self.threads:
            thread.join()
        self.cache.close()

    def wait_for_hits(self, seconds: float) -> None:
        """Until both kinds of callers got values from the store."""
        plain, coroutine = self.hits()
        deadline = time.monotonic() + seconds
        while self.hits()[0] == plain or self.hits()[1] == coroutine:
            assert time.monotonic() < deadline, (plain, coroutine, self.hits())
            time.sleep(0.005)


@pytest.mark.parametrize("memory", [False, True], ids=["no-memory", "memory"])
@pytest.mark.parametrize("outage", ["kill", "freeze"])
def test_under_load_nobody_is_failed_kept_waiting_or_told_a_lie(
    own_redis, outage, memory
):
    with Load(own_redis.url, memory) as load:
        load.wait_for_hits(5)
        if outage == "kill":
            own_redis.kill()
            time.sleep(1.0)
            own_redis.start()
        else:
            own_redis.stop()
            time.sleep(1.5)
            own_redis.cont()
        load.wait_for_hits(RECOVERY)
    assert load.raised == []
    assert load.wrong == []
    assert load.slowest < 1.1 + min(load.stalled, 0.1)
    assert load.calls > 1000
