# SPDX-License-Identifier: MIT
"""P9: hits in Redis by 1000 asyncio tasks in flight, with the memory tier off.

Each task has a key of its own: concurrent reads of one key are merged, and would prove
nothing. redis.asyncio has 50 connections; redis-benchmark has 50 clients, does GET of
the same bytes over as many keys, waits for each reply and decodes nothing.
"""

from __future__ import annotations

import asyncio
import csv
import shutil
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import redis_server
import values
from harness import Row, Settings, compare, race, skipped
from rivals import Unavailable, rival
from store_threads import per_second

from cachekit import Cache, CacheConfig

TASKS = 1000
CONNECTIONS = 50
WORK = f"store hits, async def, 1 KB dict, {TASKS:,} tasks, a key each"
REDIS_PY = "redis.asyncio + hiredis + msgpack"
REDIS_BENCHMARK = f"redis-benchmark -c {CONNECTIONS}"

Call = Callable[[int], Awaitable[Any]]


async def in_flight(call: Call, each: int) -> float:
    """Seconds for one hit, when all tasks do `each`."""

    async def work(number: int) -> None:
        for _ in range(each):
            await call(number)

    start = time.perf_counter()
    await asyncio.gather(*(work(number) for number in range(TASKS)))
    return (time.perf_counter() - start) / (TASKS * each)


async def ours(server: redis_server.Server, value: Any) -> Call:
    cache = Cache(CacheConfig(namespace="bench"), backend=server.url)

    @cache(l1_enabled=False, ttl=3600, name="one_kilobyte")
    async def get(number: int) -> Any:
        return value

    await _check(get, value)
    assert get.cache_info().l2_hits == TASKS, get.cache_info()
    return get


async def redis_py(server: redis_server.Server, value: Any) -> Call:
    msgpack = rival("msgpack")
    rival("hiredis")
    rival("redis")
    import redis.asyncio

    pool = redis.asyncio.BlockingConnectionPool(
        port=server.port, max_connections=CONNECTIONS, protocol=2, timeout=None
    )
    client = redis.asyncio.Redis(connection_pool=pool)
    data = msgpack.packb(value)
    for number in range(TASKS):
        # A name that redis-benchmark makes too.
        await client.set(f"key:{number:012}", data)

    async def get(number: int) -> Any:
        return msgpack.unpackb(await client.get(f"key:{number:012}"))

    await _check(get, value)
    return get


def redis_benchmark(port: int, requests: int) -> Callable[[], float]:
    """GET by the server's own load generator, of what redis-py stored."""
    program = shutil.which("redis-benchmark")
    if program is None:
        raise Unavailable("redis-benchmark is not installed")
    options = f"-p {port} -c {CONNECTIONS} -n {requests} -r {TASKS} --csv"
    command = [program, *options.split(), "GET", "key:__rand_int__"]

    def once() -> float:
        said = subprocess.run(command, capture_output=True, text=True, check=True)
        last = list(csv.reader(said.stdout.splitlines()))[-1]
        return 1 / float(last[1])

    return once


def measure(settings: Settings) -> Iterator[Row]:
    """P9."""
    value = values.one_kilobyte()
    loop = asyncio.new_event_loop()
    missing = {}
    contestants: dict[str, Callable[[], float]] = {}
    try:
        with redis_server.running() as server:
            for name, make, each in (
                ("ours", ours, 10 if settings.quick else 40),
                (REDIS_PY, redis_py, 1 if settings.quick else 3),
            ):
                try:
                    call = loop.run_until_complete(make(server, value))
                except Unavailable as why:
                    missing[name] = str(why)
                    continue
                contestants[name] = _on(loop, call, each)
            try:
                if REDIS_PY not in contestants:
                    raise Unavailable("needs the entries of redis-py")
                count = 20_000 if settings.quick else 50_000
                contestants[REDIS_BENCHMARK] = redis_benchmark(server.port, count)
            except Unavailable as why:
                missing[REDIS_BENCHMARK] = str(why)
            times = race(contestants, settings.rounds)
    finally:
        loop.close()
    for name, bound in ((REDIS_PY, 12), (REDIS_BENCHMARK, 1)):
        if name in times:
            yield compare(
                "P9",
                WORK,
                times["ours"],
                name,
                times[name],
                at_least=bound,
                show=per_second,
            )
    for name, why in missing.items():
        yield skipped("P9", WORK, why, name)


async def _check(call: Call, value: Any) -> None:
    """All keys twice: what is not in the store yet is there the second time."""
    for _ in range(2):
        found = await asyncio.gather(*(call(number) for number in range(TASKS)))
        assert all(one == value for one in found)


def _on(loop: asyncio.AbstractEventLoop, call: Call, each: int) -> Callable[[], float]:
    return lambda: loop.run_until_complete(in_flight(call, each))
