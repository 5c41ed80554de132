# SPDX-License-Identifier: MIT
"""P12: what a call costs while the breaker is open.

The Redis behind a decorated function is killed, calls are made until the breaker opens,
then calls are timed: with the memory tier off, so that each one finds the store closed
and runs the function. The time of the plain function is subtracted. Passing calls also
try now and then whether the server is back: that is in the figures too.

A cached async function runs in a task of its own, so that a caller that is cancelled
takes nobody along; what a task alone adds stands beside it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from itertools import repeat
from typing import Any

import redis_server
from harness import (
    Row,
    Settings,
    compare,
    duration,
    loop,
    race,
    rounds_of,
    skipped,
    within,
)
from rivals import Unavailable

from cachekit import Cache, CacheConfig

BOUND = 2e-6
OPTIONS = {"l1_enabled": False, "ttl": 3600}


def plain(number: int) -> int:
    return number


async def aplain(number: int) -> int:
    return number


def measure(settings: Settings) -> Iterator[Row]:
    """P12."""
    try:
        with redis_server.running() as server:
            cache = Cache(CacheConfig(namespace="bench"), backend=server.url)
            cached = cache(**OPTIONS)(plain)
            acached = cache(**OPTIONS)(aplain)
            cached(7)
            assert cached(7) == 7 and cached.cache_info().l2_hits == 1
            server.kill()
            _open_the_breaker(cache, cached)
            contestants = {
                "def": loop("call(7)", call=cached),
                "plain": loop("call(7)", call=plain),
            }
            yield from _rows("def", contestants, cached, settings)
            event_loop = asyncio.new_event_loop()
            try:
                contestants = {
                    "async def": _awaits(event_loop, acached),
                    "a task": _awaits(event_loop, _in_a_task),
                    "plain": _awaits(event_loop, aplain),
                }
                yield from _rows("async def", contestants, acached, settings)
            finally:
                event_loop.close()
            assert _state(cache) == "open", "the breaker closed while it was measured"
    except Unavailable as why:
        yield skipped("P12", "added latency, breaker open", str(why))


def _state(cache: Cache) -> str:
    return str(cache.detailed_health_check()["circuit_breaker"]["state"])


def _open_the_breaker(cache: Cache, cached: Callable[[int], int]) -> None:
    deadline = time.monotonic() + 10
    while _state(cache) != "open":
        assert time.monotonic() < deadline, "the breaker does not open"
        cached(7)


def _awaits(
    event_loop: asyncio.AbstractEventLoop, call: Callable[[int], Any]
) -> Callable[[int], float]:
    async def awaits(count: int) -> float:
        times = repeat(None, count)
        start = time.perf_counter()
        for _ in times:
            await call(7)
        return time.perf_counter() - start

    return lambda count: event_loop.run_until_complete(awaits(count))


async def _in_a_task(number: int) -> int:
    return await asyncio.get_running_loop().create_task(aplain(number))


def _rows(
    kind: str, contestants: dict[str, Any], cached: Any, settings: Settings
) -> Iterator[Row]:
    before = cached.cache_info()
    ready = {
        name: rounds_of(timed, settings.seconds) for name, timed in contestants.items()
    }
    times = race(ready, settings.rounds)
    after = cached.cache_info()
    assert (after.hits, after.errors) == (before.hits, before.errors), after
    work = f"added latency, breaker open, {kind}"
    plain = times["plain"]
    added = times[kind].less(plain)
    yield within(
        "P12",
        work,
        "the plain function",
        added.median,
        BOUND,
        duration,
        f"min {duration(added.min)}",
        min=added.min,
        rounds=added.rounds,
    )
    if "a task" in times:
        task = times["a task"].less(plain)
        yield compare("P12", work, added, "what a task adds", task)
