# SPDX-License-Identifier: MIT
"""P8: hits in Redis by 16 threads, a key for each, with the memory tier off.

What counts is the time of all of them together. Every contestant has one client for all
threads, with the pool it brings; values are decoded by all.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import redis_server
import values
from harness import Row, Settings, compare, race, rounds_of, skipped
from rivals import Unavailable, rival

from cachekit import Cache, CacheConfig

THREADS = 16
WORK = f"store hit, def, 1 KB dict, {THREADS} threads"
REDIS_PY = "redis-py + hiredis + msgpack"
GLIDE = "valkey-glide-sync + msgpack"


def by_threads(call: Callable[[int], Any]) -> Callable[[int], float]:
    """Calls from all threads at once: the time from the first to the last."""

    def timed(count: int) -> float:
        share = -(-count // THREADS)
        ready, go = threading.Barrier(THREADS + 1), threading.Event()

        def work(number: int) -> None:
            ready.wait()
            go.wait()
            for _ in range(share):
                call(number)

        threads = [
            threading.Thread(target=work, args=(number,)) for number in range(THREADS)
        ]
        for thread in threads:
            thread.start()
        ready.wait()
        start = time.perf_counter()
        go.set()
        for thread in threads:
            thread.join()
        return time.perf_counter() - start

    return timed


def ours(server: redis_server.Server, value: Any) -> Callable[[int], Any]:
    cache = Cache(CacheConfig(namespace="bench"), backend=server.url)

    @cache(l1_enabled=False, ttl=3600, name="one_kilobyte")
    def get(number: int) -> Any:
        return value

    for number in range(THREADS):
        get(number)
        get(number)
    assert get.cache_info().l2_hits == THREADS, get.cache_info()
    return get


def redis_py(server: redis_server.Server, value: Any) -> Callable[[int], Any]:
    msgpack = rival("msgpack")
    rival("hiredis")
    client = rival("redis").Redis(port=server.port, protocol=2)
    data = msgpack.packb(value)
    for number in range(THREADS):
        client.set(f"redis-py:{number}", data, ex=3600)
    return lambda number: msgpack.unpackb(client.get(f"redis-py:{number}"))


def glide(server: redis_server.Server, value: Any) -> Callable[[int], Any]:
    msgpack, module = rival("msgpack"), rival("glide_sync")
    address = module.NodeAddress("127.0.0.1", server.port)
    config = module.GlideClientConfiguration([address], request_timeout=5000)
    client = module.GlideClient.create(config)
    data = msgpack.packb(value)
    for number in range(THREADS):
        client.set(f"glide:{number}", data)
    return lambda number: msgpack.unpackb(client.get(f"glide:{number}"))


CONTESTANTS = {"ours": ours, REDIS_PY: redis_py, GLIDE: glide}


def per_second(seconds: float) -> str:
    return f"{1 / seconds:,.0f}/s"


def measure(settings: Settings) -> Iterator[Row]:
    """P8."""
    value = values.one_kilobyte()
    calls, missing = {}, {}
    with redis_server.running() as server:
        for name, make in CONTESTANTS.items():
            try:
                calls[name] = make(server, value)
            except Unavailable as why:
                missing[name] = str(why)
            else:
                numbers = range(THREADS)
                assert all(calls[name](number) == value for number in numbers), name
        seconds = 0.2 if settings.quick else 0.5
        ready = {
            name: rounds_of(by_threads(call), seconds, THREADS)
            for name, call in calls.items()
        }
        times = race(ready, settings.rounds)
    for name, bound in ((REDIS_PY, 5), (GLIDE, 3)):
        if name in times:
            yield compare(
                "P8",
                WORK,
                times["ours"],
                name,
                times[name],
                at_least=bound,
                show=per_second,
            )
    for name, why in missing.items():
        yield skipped("P8", WORK, why, name)
