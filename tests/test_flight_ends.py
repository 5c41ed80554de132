"""How flights end, and who may wait for whom."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
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

from cachekit import Cache, CacheConfig
from cachekit._core import current_flight


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


# -- leaders that end otherwise -------------------------------------------------------


async def started_follower(call: Callable[[], Any], flight: Any) -> asyncio.Task[Any]:
    """A task of its own that follows by now."""
    before = flight.followers
    task = asyncio.ensure_future(call())
    await wait_until_async(lambda: flight.followers > before)
    return task


def test_cancelling_the_first_waiter_leaves_the_others_their_value(
    either: Cache,
) -> None:
    runs: list[int] = []
    flights: list[Any] = []

    async def main() -> None:
        go = asyncio.Event()

        @either
        async def slow() -> str:
            runs.append(1)
            flights.append(current_flight.get())
            await go.wait()
            return "value"

        first = asyncio.ensure_future(slow())
        await wait_until_async(lambda: flights)
        others = [await started_follower(slow, flights[0]) for _ in range(3)]
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        go.set()
        assert await asyncio.gather(*others) == ["value"] * 3
        await either.aclose()

    asyncio.run(main())
    assert len(runs) == 1


def test_a_cancelled_follower_does_not_cancel_the_leader(cache: Cache) -> None:
    flights: list[Any] = []

    async def main() -> None:
        go = asyncio.Event()

        @cache
        async def slow() -> str:
            flights.append(current_flight.get())
            await go.wait()
            return "value"

        first = asyncio.ensure_future(slow())
        await wait_until_async(lambda: flights)
        follower = await started_follower(slow, flights[0])
        follower.cancel()
        with pytest.raises(asyncio.CancelledError):
            await follower
        assert not flights[0].settled
        go.set()
        assert await first == "value"

    asyncio.run(main())


def test_the_last_waiter_to_be_cancelled_cancels_the_run(cache: Cache) -> None:
    ends: list[str] = []
    flights: list[Any] = []

    @cache
    async def slow() -> None:
        flights.append(current_flight.get())
        try:
            await asyncio.sleep(MAX)
        except asyncio.CancelledError:
            ends.append("cancelled")
            raise

    async def main() -> None:
        waiters = [asyncio.ensure_future(slow())]
        await wait_until_async(lambda: flights)
        waiters += [await started_follower(slow, flights[0]) for _ in range(2)]
        for waiter in waiters:
            assert not ends
            waiter.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiter
        await wait_until_async(lambda: ends)
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())
    assert ends == ["cancelled"]


def test_a_cancelled_run_leaves_the_key_free(cache: Cache) -> None:
    runs: list[int] = []

    @cache
    async def slow() -> str:
        runs.append(1)
        if len(runs) == 1:
            await asyncio.sleep(MAX)
        return "value"

    async def main() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(slow(), 0.01)
        assert await asyncio.wait_for(slow(), MAX) == "value"

    asyncio.run(main())
    assert len(runs) == 2


def test_a_waiter_that_gives_up_last_cancels_the_run(cache: Cache) -> None:
    ends: list[str] = []
    flights: list[Any] = []

    @cache(single_flight_timeout=0.1)
    async def slow() -> str:
        if flights:
            return "mine"
        flights.append(current_flight.get())
        try:
            await asyncio.sleep(MAX)
        except asyncio.CancelledError:
            ends.append("cancelled")
            raise
        return "never"

    async def main() -> None:
        first = asyncio.ensure_future(slow())
        await wait_until_async(lambda: flights)
        follower = await started_follower(slow, flights[0])
        first.cancel()
        assert await follower == "mine"
        await wait_until_async(lambda: ends)

    asyncio.run(main())


@pytest.mark.parametrize("end", [SystemExit, KeyboardInterrupt])
def test_a_leader_ended_by_no_exception_hands_over(
    either: Cache, end: type[BaseException]
) -> None:
    runs: list[int] = []

    @either
    def once() -> str:
        runs.append(1)
        if len(runs) == 1:
            wait_until(followed_by(5))
            raise end
        return "value"

    results = in_threads(6, once)
    ended = [result for result in results if result != "value"]
    assert [type(result) for result in ended] == [end]
    assert results.count("value") == 5
    assert len(runs) == 2


def test_a_leader_whose_run_is_cancelled_inside_hands_over(cache: Cache) -> None:
    runs: list[int] = []

    @cache
    async def once() -> str:
        runs.append(1)
        if len(runs) == 1:
            await wait_until_async(followed_by(3))
            raise asyncio.CancelledError
        return "value"

    async def main() -> list[Any]:
        jobs = [once() for _ in range(4)]
        return await asyncio.gather(*jobs, return_exceptions=True)

    results = asyncio.run(main())
    assert results.count("value") == 3
    assert len(runs) == 2


def test_followers_on_another_loop_take_over_when_the_leaders_loop_is_closed(
    cache: Cache,
) -> None:
    runs: list[int] = []
    flights: list[Any] = []

    @cache
    async def slow() -> str:
        runs.append(1)
        if len(runs) == 1:
            flights.append(current_flight.get())
            await asyncio.sleep(MAX)
        return "value"

    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda loop, context: None)  # a task is destroyed
    task = loop.create_task(slow())
    while not flights:
        loop.run_until_complete(asyncio.sleep(0))
    with background(lambda: asyncio.run(slow())) as other:
        wait_until(lambda: flights[0].followers == 1)
        loop.close()
        assert other.result(MAX) == "value"
    assert len(runs) == 2
    del task
    gc.collect()


def test_a_leader_cancelled_at_the_end_of_its_loop_hands_over(cache: Cache) -> None:
    runs: list[int] = []
    flights: list[Any] = []

    @cache
    async def slow() -> str:
        runs.append(1)
        if len(runs) == 1:
            flights.append(current_flight.get())
            await asyncio.sleep(MAX)
        return "value"

    async def leave() -> None:
        asyncio.ensure_future(slow())
        await wait_until_async(lambda: flights and flights[0].followers == 1)

    with background(lambda: asyncio.run(leave())) as leader:
        wait_until(lambda: flights)
        assert asyncio.run(slow()) == "value"
        leader.result(MAX)
    assert len(runs) == 2


def test_a_run_outlives_the_loop_of_a_follower(cache: Cache) -> None:
    flights: list[Any] = []

    @cache
    async def slow() -> str:
        flights.append(current_flight.get())
        go = asyncio.get_running_loop().create_future()
        while flights[0].followers == 0 or not gone.is_set():
            await asyncio.sleep(0.001)
        go.cancel()
        return "value"

    gone = threading.Event()

    def follow_and_leave() -> None:
        wait_until(lambda: flights)
        with pytest.raises(asyncio.TimeoutError):
            asyncio.run(asyncio.wait_for(slow(), 0.05))
        gone.set()

    with background(follow_and_leave) as follower:
        assert asyncio.run(slow()) == "value"
        follower.result(MAX)
    assert len(flights) == 1


# -- circles --------------------------------------------------------------------------


def test_a_call_of_the_same_key_from_inside_runs(cache: Cache) -> None:
    deep: list[int] = []

    @cache
    def again(number: int) -> int:
        deep.append(number)
        return again(number) + 1 if len(deep) < 3 else 0

    assert again(1) == 2
    assert len(deep) == 3


def test_an_awaited_call_of_the_same_key_from_inside_runs(cache: Cache) -> None:
    deep: list[int] = []

    @cache
    async def again(number: int) -> int:
        deep.append(number)
        return await again(number) + 1 if len(deep) < 3 else 0

    async def main() -> int:
        return await asyncio.wait_for(again(1), MAX)

    assert asyncio.run(main()) == 2


def test_a_circle_of_functions_in_one_thread_runs(cache: Cache) -> None:
    seen: list[str] = []

    @cache
    def first(number: int) -> str:
        seen.append("first")
        return "f" + (second(number) if len(seen) < 4 else "")

    @cache
    def second(number: int) -> str:
        seen.append("second")
        return "s" + first(number)

    assert first(1) == "fsfs" + "f"


def test_two_threads_that_wait_for_each_other_run(cache: Cache) -> None:
    inside = threading.Barrier(2)
    depth = threading.local()

    @cache(single_flight_timeout=MAX)
    def first() -> str:
        if getattr(depth, "value", 0):
            return "inner first"
        depth.value = 1
        inside.wait(MAX)
        return "first, " + second()

    @cache(single_flight_timeout=MAX)
    def second() -> str:
        if getattr(depth, "value", 0):
            return "inner second"
        depth.value = 1
        inside.wait(MAX)
        return "second, " + first()

    began = time.monotonic()
    with background(first) as one, background(second) as other:
        results = {one.result(MAX), other.result(MAX)}
    assert time.monotonic() - began < MAX / 2
    # One of them met the circle and ran the other's function itself.
    assert results in (
        {"first, second, inner first", "second, inner first"},
        {"second, first, inner second", "first, inner second"},
    )


def test_a_circle_of_three_threads_runs(cache: Cache) -> None:
    inside = threading.Barrier(3)
    depth = threading.local()
    functions: list[Any] = []

    def make(at: int) -> Any:
        @cache(single_flight_timeout=MAX, key=lambda: at)
        def node() -> int:
            if getattr(depth, "value", 0):
                return 0
            depth.value = 1
            inside.wait(MAX)
            return 1 + functions[(at + 1) % 3]()

        return node

    functions[:] = [make(at) for at in range(3)]
    began = time.monotonic()
    with background(functions[0]) as a, background(functions[1]) as b:
        with background(functions[2]) as c:
            results = sorted(future.result(MAX) for future in (a, b, c))
    assert time.monotonic() - began < MAX / 2
    assert results == [1, 2, 3]


def test_a_circle_of_tasks_under_gather_runs(cache: Cache) -> None:
    entered: list[str] = []

    @cache(single_flight_timeout=MAX)
    async def first() -> str:
        entered.append("first")
        if entered.count("first") > 1:
            return "inner first"
        await wait_until_async(lambda: "second" in entered)
        (result,) = await asyncio.gather(second())
        return "first, " + result

    @cache(single_flight_timeout=MAX)
    async def second() -> str:
        entered.append("second")
        if entered.count("second") > 1:
            return "inner second"
        await wait_until_async(lambda: "first" in entered)
        (result,) = await asyncio.gather(first())
        return "second, " + result

    async def main() -> list[str]:
        return await asyncio.wait_for(asyncio.gather(first(), second()), MAX / 2)

    results = set(asyncio.run(main()))
    assert results in (
        {"first, second, inner first", "second, inner first"},
        {"second, first, inner second", "first, inner second"},
    )


def test_a_call_made_in_a_task_of_the_function_knows_where_it_comes_from(
    cache: Cache,
) -> None:
    deep: list[int] = []

    @cache(single_flight_timeout=MAX)
    async def outer() -> int:
        deep.append(1)
        if len(deep) > 1:
            return 0
        return 1 + sum(await asyncio.gather(outer(), outer()))

    async def main() -> int:
        return await asyncio.wait_for(outer(), MAX / 2)

    assert asyncio.run(main()) == 1


def test_waiting_for_a_flight_that_waits_for_nobody_is_no_circle(cache: Cache) -> None:
    runs: list[int] = []
    go = threading.Event()

    @cache
    def shared() -> str:
        runs.append(1)
        assert go.wait(MAX)
        return "shared"

    @cache
    def user(name: str) -> str:
        return name + shared()

    with background(lambda: user("a")) as a:
        wait_until(lambda: runs)
        with background(lambda: user("b")) as b:
            time.sleep(0.02)
            go.set()
    assert (a.result(), b.result()) == ("ashared", "bshared")
    assert len(runs) == 1


# -- signals --------------------------------------------------------------------------


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_control_c_reaches_a_follower(cache: Cache) -> None:
    go = threading.Event()
    flights: list[Any] = []

    @cache
    def slow() -> str:
        flights.append(current_flight.get())
        assert go.wait(MAX)
        return "value"

    def interrupt() -> None:
        wait_until(lambda: flights[0].followers == 1)
        os.kill(os.getpid(), signal.SIGINT)

    with background(slow) as leader:
        wait_until(lambda: flights)
        with background(interrupt):
            began = time.monotonic()
            with pytest.raises(KeyboardInterrupt):
                slow()
            assert time.monotonic() - began < 2
        go.set()
        assert leader.result(MAX) == "value"
    assert slow() == "value"


def test_a_signal_handler_that_returns_does_not_end_the_wait(cache: Cache) -> None:
    go = threading.Event()
    flights: list[Any] = []
    handled: list[int] = []

    @cache
    def slow() -> str:
        flights.append(current_flight.get())
        assert go.wait(MAX)
        return "value"

    def disturb() -> None:
        wait_until(lambda: flights[0].followers == 1)
        os.kill(os.getpid(), signal.SIGUSR1)
        wait_until(lambda: handled)
        go.set()

    former = signal.signal(signal.SIGUSR1, lambda *_: handled.append(1))
    try:
        with background(slow):
            wait_until(lambda: flights)
            with background(disturb):
                assert slow() == "value"
    finally:
        signal.signal(signal.SIGUSR1, former)
    assert slow.cache_info().loads == 1


# -- fork -----------------------------------------------------------------------------


def forked(job: Callable[[], Any]) -> None:
    """Run `job` in a forked child, which must end well within a few seconds."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            signal.alarm(8)
            job()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")


@needs_fork
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_does_not_wait_for_the_flights_of_its_parent(cache: Cache) -> None:
    go = threading.Event()
    flights: list[Any] = []
    parent = os.getpid()

    @cache
    def slow() -> str:
        if os.getpid() != parent:
            return "child"
        flights.append(current_flight.get())
        assert go.wait(MAX)
        return "parent"

    def in_child() -> None:
        assert slow() == "child"
        flights.clear()
        gc.collect()

    with background(slow) as leader:
        wait_until(lambda: flights)
        with background(slow) as follower:
            wait_until(lambda: flights[0].followers == 1)
            time.sleep(0.02)  # so that it stands in the condition
            forked(in_child)
            go.set()
    assert (leader.result(), follower.result()) == ("parent", "parent")


@needs_fork
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_function_may_fork(cache: Cache) -> None:
    @cache
    def forks() -> int:
        return os.fork()

    pid = forks()
    if pid == 0:
        os._exit(0 if forks() == 0 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert forks() == pid
