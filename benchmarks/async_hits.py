# SPDX-License-Identifier: MIT
"""P3: a hit in memory, of an ``async def`` function, beside awaiting a plain coroutine.

One loop, one await after another. A hit has nothing to wait for: that it makes no task
and no future is counted, and that it never suspends is seen by driving it by hand.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from itertools import repeat
from typing import Any

from harness import Row, Settings, compare, race, rounds_of, verdict

from cachekit import Cache

COUNTED = 1000


async def plain(number: int) -> int:
    return number


async def _time_awaits(call: Callable[[int], Any], count: int) -> float:
    times = repeat(None, count)
    start = time.perf_counter()
    for _ in times:
        await call(7)
    return time.perf_counter() - start


async def _time_nothing(count: int) -> float:
    times = repeat(None, count)
    start = time.perf_counter()
    for _ in times:
        pass
    return time.perf_counter() - start


class _CountingLoop(asyncio.SelectorEventLoop):
    """Counts the tasks and futures that are made on it."""

    made = 0

    def create_task(self, *args: Any, **kwargs: Any) -> Any:
        self.made += 1
        return super().create_task(*args, **kwargs)

    def create_future(self) -> Any:
        self.made += 1
        return super().create_future()


def tasks_and_futures(call: Callable[[int], Any]) -> int:
    """Those that `COUNTED` hits make."""
    loop = _CountingLoop()

    async def count() -> int:
        await call(7)
        before = loop.made
        for _ in range(COUNTED):
            await call(7)
        return loop.made - before

    try:
        return loop.run_until_complete(count())
    finally:
        loop.close()


def measure(settings: Settings) -> Iterator[Row]:
    """P3."""
    cache = Cache(backend=None)
    ours = {"@cache": cache(plain), "@cache.local": cache.local(plain)}
    loop = asyncio.new_event_loop()
    try:

        def timed(call: Callable[[int], Any]) -> Callable[[int], float]:
            return lambda count: loop.run_until_complete(_time_awaits(call, count))

        contestants = {name: timed(call) for name, call in ours.items()}
        contestants["plain"] = timed(plain)
        contestants["empty loop"] = lambda count: loop.run_until_complete(
            _time_nothing(count)
        )
        ready = {
            name: rounds_of(contestant, settings.seconds)
            for name, contestant in contestants.items()
        }
        times = race(ready, settings.rounds)
    finally:
        loop.close()
    empty = times.pop("empty loop")
    net = {name: taken.less(empty) for name, taken in times.items()}
    for name in ours:
        yield compare(
            "P3",
            f"memory hit, async def, an int, {name}",
            net[name],
            "await of a plain coroutine",
            net["plain"],
            at_most=2.5,
        )
    for name, call in ours.items():
        made = tasks_and_futures(call)
        yield Row(
            "P3",
            f"tasks and futures of {COUNTED:,} hits, {name}",
            "-",
            "0",
            str(made),
            verdict(made == 0),
            {"made": made},
        )
