# SPDX-License-Identifier: MIT
"""P6: hits in memory, beside the PyPI package that is named cachekit too.

It has the same import name, so it runs in a process of its own; its figures are scaled
by what functools.lru_cache takes there and here. Both are without their empty loops.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable, Iterator
from itertools import repeat
from typing import Any, NamedTuple

import redis_server
import values
from harness import Row, Settings, Times, compare, loop, race, rounds_of, skipped
from rivals import Unavailable
from secure_hits import secured
from store_hits import NAMESAKE, by_worker
from workers import namesake_worker

from cachekit import Cache, CacheConfig

KEYS = 1


class Duel(NamedTuple):
    work: str
    theirs: str  #: as namesake.py calls it
    ours: Callable[[int], float]
    at_least: float


def measure(settings: Settings) -> Iterator[Row]:
    """P6."""
    event_loop = asyncio.new_event_loop()
    try:
        with (
            redis_server.running() as server,
            namesake_worker(server.url, KEYS) as worker,
        ):
            cache = Cache(CacheConfig(namespace="bench"), backend=server.url)
            for duel in _duels(cache, event_loop):
                yield _one(duel, worker, settings)
            work = "def, secure, 200 B dict, Redis behind it"
            try:
                value = values.two_hundred_bytes()
                cached = secured(lambda number: value, server.url)
            except Unavailable as why:
                yield skipped("P6", f"memory hit, {work}", str(why), NAMESAKE)
            else:
                yield _one(Duel(work, "secure", _calls(cached), 20), worker, settings)
            event_loop.run_until_complete(cache.aclose())
    finally:
        event_loop.close()


def _duels(cache: Cache, event_loop: asyncio.AbstractEventLoop) -> list[Duel]:
    memory = Cache(backend=None)
    ten = values.ten_keys()

    def number_of(number: int) -> int:
        return number

    def ten_of(number: int) -> dict[str, Any]:
        return ten

    async def anumber_of(number: int) -> int:
        return number

    def awaits(call: Any) -> Callable[[int], float]:
        return lambda count: event_loop.run_until_complete(_time_awaits(call, count))

    local, plain, behind = memory.local(number_of), memory(number_of), cache(number_of)
    keyword, tens = "call(number=7)", cache(ten_of)
    alocal, aplain = memory.local(anumber_of), memory(anumber_of)
    abehind = cache(anumber_of)
    return [
        Duel("def, an int, .local", "local", _calls(local), 80),
        Duel("def, an int, memory alone", "memory", _calls(plain), 80),
        Duel("def, an int, Redis behind it", "redis", _calls(behind), 80),
        Duel("def, a keyword, .local", "local-keyword", loop(keyword, call=local), 80),
        Duel(
            "def, a keyword, Redis behind it",
            "redis-keyword",
            loop(keyword, call=behind),
            80,
        ),
        Duel("def, a 10-key dict, Redis behind it", "redis-ten", _calls(tens), 80),
        Duel("async def, an int, .local", "alocal", awaits(alocal), 20),
        Duel("async def, an int, memory alone", "amemory", awaits(aplain), 20),
        Duel("async def, an int, Redis behind it", "aredis", awaits(abehind), 80),
    ]


def _calls(call: Callable[..., Any]) -> Callable[[int], float]:
    return loop("call(7)", call=call)


async def _time_awaits(call: Any, count: int) -> float:
    times = repeat(None, count)
    start = time.perf_counter()
    for _ in times:
        await call(7)
    return time.perf_counter() - start


def _one(duel: Duel, worker: Any, settings: Settings) -> Row:
    work = f"memory hit, {duel.work}"

    def remembered(number: int) -> int:
        return number

    lru_cache = functools.lru_cache(10_000)(remembered)
    contestants: dict[str, Callable[[int], float]] = {
        "ours": duel.ours,
        "theirs": by_worker(worker, duel.theirs),
        "our lru_cache": _calls(lru_cache),
        "its lru_cache": by_worker(worker, "lru"),
        "our empty loop": loop("pass"),
        "its empty loop": by_worker(worker, "empty"),
    }
    try:
        ready = {
            name: rounds_of(timed, settings.seconds / 2)
            for name, timed in contestants.items()
        }
        times = race(ready, settings.rounds)
    except Unavailable as why:
        return skipped("P6", work, str(why), NAMESAKE)
    here, there = times["our empty loop"], times["its empty loop"]
    ours, lru = times["ours"].less(here), times["our lru_cache"].less(here)
    theirs, its = times["theirs"].less(there), times["its lru_cache"].less(there)
    scale = lru.min / its.min
    scaled = Times(tuple(value * scale for value in theirs.rounds))
    against = f"{NAMESAKE}, by lru_cache"
    return compare("P6", work, ours, against, scaled, at_least=duel.at_least)
