"""max_concurrent_requests: at most so many store operations at once."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from basic_store import BasicStore

from cachekit import Cache, CacheConfig, PoolTimeout
from cachekit._limit import AsyncLimited, Limit, Limited
from cachekit.backends import MemoryBackend


class Gate:
    """A transport whose reads wait until they are let through, and count themselves."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.lock = threading.Lock()
        self.inside = self.most = 0
        self.order: list[str] = []

    def _enter(self, key: str) -> None:
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
            self.order.append(key)

    def _leave(self) -> None:
        with self.lock:
            self.inside -= 1

    def lookup(self, key: str, sides: tuple[str, ...], timeout: float) -> str:
        self._enter(key)
        try:
            self.open.wait(timeout)
            return key
        finally:
            self._leave()


class AsyncGate(Gate):
    async def lookup(self, key: str, sides: tuple[str, ...], timeout: float) -> str:  # type: ignore[override]
        self._enter(key)
        try:
            while not self.open.is_set():
                await asyncio.sleep(0.001)
            return key
        finally:
            self._leave()


def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.001)


def run_threads(*jobs: Callable[[], Any]) -> None:
    threads = [threading.Thread(target=job) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


def assert_all_free(limit: Limit) -> None:
    assert limit.figures["in_use"] == 0
    assert limit.figures["waiting"] == 0


# -- threads --------------------------------------------------------------------------


def test_no_more_threads_than_the_limit_are_inside() -> None:
    gate, limit = Gate(), Limit(3)
    transport = Limited(gate, limit)
    results: list[str] = []

    def job(i: int) -> Callable[[], None]:
        return lambda: results.append(transport.lookup(str(i), (), 5.0))

    def opener() -> None:
        until(lambda: limit.figures["waiting"] == 7)
        assert limit.figures["in_use"] == 3
        gate.open.set()

    run_threads(*(job(i) for i in range(10)), opener)
    assert gate.most == 3
    assert sorted(results) == sorted(map(str, range(10)))
    assert_all_free(limit)


def test_places_are_given_in_the_order_of_asking() -> None:
    gate, limit = Gate(), Limit(1)
    transport = Limited(gate, limit)
    threads = []
    for i in range(6):
        thread = threading.Thread(target=transport.lookup, args=(str(i), (), 5.0))
        thread.start()
        threads.append(thread)
        until(lambda i=i: limit.figures["waiting"] == i)  # type: ignore[misc]
        if i == 0:
            until(lambda: gate.inside == 1)
    gate.open.set()
    for thread in threads:
        thread.join(5)
    assert gate.order == [str(i) for i in range(6)]


def test_excess_is_skipped_at_its_deadline_and_counted() -> None:
    gate, limit = Gate(), Limit(1)
    transport = Limited(gate, limit)
    thread = threading.Thread(target=transport.lookup, args=("first", (), 5.0))
    thread.start()
    until(lambda: gate.inside == 1)
    began = time.monotonic()
    with pytest.raises(PoolTimeout) as caught:
        transport.lookup("second", (), 0.05)
    assert 0.04 < time.monotonic() - began < 1.0
    assert caught.value.kind == "busy"
    assert caught.value.counts is False
    assert limit.skipped == 1
    gate.open.set()
    thread.join(5)
    assert_all_free(limit)
    assert transport.lookup("third", (), 1.0) == "third"


def test_time_spent_in_line_is_taken_off_the_deadline() -> None:
    given: list[float] = []

    class Store:
        def lookup(self, key: str, sides: tuple[str, ...], timeout: float) -> None:
            given.append(timeout)

    limit = Limit(1)
    place = limit.take(1.0)
    thread = threading.Thread(
        target=Limited(Store(), limit).lookup, args=("k", (), 5.0)
    )
    thread.start()
    until(lambda: limit.figures["waiting"] == 1)
    time.sleep(0.05)
    limit.give_back(place)
    thread.join(5)
    assert 0.0 < given[0] < 4.97


def test_a_failing_operation_gives_its_place_back() -> None:
    class Store:
        def lookup(self, key: str, sides: tuple[str, ...], timeout: float) -> None:
            raise OSError

    limit = Limit(1)
    for _ in range(3):
        with pytest.raises(OSError):
            Limited(Store(), limit).lookup("k", (), 1.0)
    assert_all_free(limit)


def test_a_place_is_given_back_once_however_often_it_is_said() -> None:
    limit = Limit(1)
    place = limit.take(1.0)
    limit.give_back(place)
    limit.give_back(place)
    assert limit.figures["in_use"] == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_has_every_place() -> None:
    limit = Limit(1)
    limit.take(1.0)
    child = os.fork()
    if child == 0:
        try:
            limit.take(0.0)
        except BaseException:
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# -- tasks ----------------------------------------------------------------------------


def test_no_more_tasks_than_the_limit_are_inside() -> None:
    gate, limit = AsyncGate(), Limit(3)
    transport = AsyncLimited(gate, limit)

    async def main() -> list[str]:
        tasks = [
            asyncio.create_task(transport.lookup(str(i), (), 5.0)) for i in range(10)
        ]
        await asyncio.sleep(0.01)
        assert limit.figures == {"limit": 3, "in_use": 3, "waiting": 7, "skipped": 0}
        gate.open.set()
        return await asyncio.gather(*tasks)

    assert asyncio.run(main()) == [str(i) for i in range(10)]
    assert gate.most == 3
    assert gate.order == [str(i) for i in range(10)]
    assert_all_free(limit)


def test_a_task_that_waits_too_long_is_skipped() -> None:
    gate, limit = AsyncGate(), Limit(1)
    transport = AsyncLimited(gate, limit)

    async def main() -> None:
        first = asyncio.create_task(transport.lookup("first", (), 5.0))
        await asyncio.sleep(0)
        with pytest.raises(PoolTimeout, match="busy"):
            await transport.lookup("second", (), 0.02)
        gate.open.set()
        await first

    asyncio.run(main())
    assert limit.skipped == 1
    assert_all_free(limit)


def test_a_cancelled_waiter_leaves_the_line() -> None:
    gate, limit = AsyncGate(), Limit(1)
    transport = AsyncLimited(gate, limit)

    async def main() -> None:
        first = asyncio.create_task(transport.lookup("first", (), 5.0))
        second = asyncio.create_task(transport.lookup("second", (), 5.0))
        third = asyncio.create_task(transport.lookup("third", (), 5.0))
        await asyncio.sleep(0)
        second.cancel()
        gate.open.set()
        assert await first == "first"
        assert await third == "third"
        with pytest.raises(asyncio.CancelledError):
            await second

    asyncio.run(main())
    assert gate.order == ["first", "third"]
    assert_all_free(limit)


def test_a_waiter_cancelled_with_its_place_passes_it_on() -> None:
    limit = Limit(1)

    async def main() -> None:
        held = limit.take(1.0)
        waiting = asyncio.create_task(limit.atake(5.0))
        behind = asyncio.create_task(limit.atake(5.0))
        await asyncio.sleep(0)
        limit.give_back(held)  # to `waiting`, which has not run yet
        waiting.cancel()
        limit.give_back(await behind)
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(main())
    assert_all_free(limit)


def test_an_operation_cancelled_inside_gives_its_place_back() -> None:
    limit = Limit(1)

    async def main() -> None:
        task = asyncio.create_task(
            AsyncLimited(AsyncGate(), limit).lookup("k", (), 5.0)
        )
        await asyncio.sleep(0.01)
        assert limit.figures["in_use"] == 1
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())
    assert_all_free(limit)


def test_a_loop_that_ended_with_waiters_does_not_keep_a_place() -> None:
    limit = Limit(1)
    held = limit.take(1.0)
    loop = asyncio.new_event_loop()
    waiting = limit.atake(5.0)
    task = loop.create_task(waiting)
    loop.run_until_complete(asyncio.sleep(0))
    assert limit.figures["waiting"] == 1
    loop.close()
    limit.give_back(held)
    place = limit.take(1.0)
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    del task
    waiting.close()
    gc.collect()
    assert limit.figures["in_use"] == 1  # ours, and not given back by the dead
    limit.give_back(place)
    assert_all_free(limit)


# -- both -----------------------------------------------------------------------------


def test_threads_and_loops_share_one_count() -> None:
    limit = Limit(4)
    gate, async_gate = Gate(), AsyncGate()
    blocking, awaitable = Limited(gate, limit), AsyncLimited(async_gate, limit)
    seen: list[int] = []
    gate.open.set()
    async_gate.open.set()

    def threads() -> None:
        for i in range(50):
            blocking.lookup(str(i), (), 5.0)
            seen.append(gate.inside + async_gate.inside)

    def loop() -> None:
        async def main() -> None:
            await asyncio.gather(
                *(awaitable.lookup(str(i), (), 5.0) for i in range(100))
            )

        asyncio.run(main())

    run_threads(threads, threads, threads, loop, loop)
    assert max(seen) <= 4
    assert limit.skipped == 0
    assert len(gate.order) == 150 and len(async_gate.order) == 200
    assert_all_free(limit)


class Slow(BasicStore):
    """A store that holds a read until it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.open = threading.Event()
        self.inside = 0

    asyncio = None  # type: ignore[assignment]  # async functions call it in threads

    def read(self, key: str, timeout: float) -> tuple[bytes, int] | None:
        self.inside += 1
        self.open.wait(5.0)
        return super().read(key, timeout)


def test_the_excess_calls_the_function_and_shows_in_the_report() -> None:
    store = Slow()
    config = CacheConfig(max_concurrent_requests=1, socket_timeout=0.1, namespace="t")
    cache = Cache(config, backend=store)

    @cache(name="twice", l1_enabled=False, single_flight=False)
    def twice(number: int) -> int:
        return 2 * number

    held = threading.Thread(target=twice, args=(1,))
    held.start()
    until(lambda: store.inside == 1)
    assert twice(2) == 4
    assert cache.detailed_health_check()["pool"]["limit"]["skipped"] == 1
    breaker = cache.detailed_health_check()["circuit_breaker"]
    assert breaker["failure_count"] == 0
    store.open.set()
    held.join(5)


def test_without_the_setting_there_is_no_limit() -> None:
    cache = Cache(CacheConfig(namespace="t"), backend=MemoryBackend())
    assert cache.detailed_health_check()["pool"]["limit"] is None
