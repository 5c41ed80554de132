# SPDX-License-Identifier: MIT
"""The worker for the stampede: many callers in one process, all for one cold key.

    python crowd.py CONTESTANT URL [FOLDER]

A line ``KEY CALLERS AT`` on stdin makes CALLERS callers ask for KEY at the moment AT of
the monotonic clock, which all processes share. The answer is a line of JSON: how often
the function ran here, how long the slowest caller waited, in seconds, and how many
callers got something else than the value. FOLDER holds the PyPI package of our name;
with it, no other packages are seen.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

SECONDS = 0.2

runs: list[int] = []


def work(key: int) -> dict[str, int]:
    runs.append(key)
    time.sleep(SECONDS)
    return {"key": key}


async def awork(key: int) -> dict[str, int]:
    runs.append(key)
    await asyncio.sleep(SECONDS)
    return {"key": key}


def _ours(function: Any, url: str | None, **options: Any) -> Any:
    from cachekit import Cache, CacheConfig

    cache = Cache(CacheConfig(namespace="crowd"), backend=url)
    return cache(ttl=600, name=f"value-{options}", **options)(function)


def _dogpile(url: str, **options: Any) -> Any:
    from dogpile.cache import make_region

    region = make_region().configure(
        "dogpile.cache.redis",
        expiration_time=600,
        arguments={"url": url, **options},
    )
    return region.cache_on_arguments()(work)


def _cashews(url: str, **options: Any) -> Any:
    from cashews import Cache

    cache = Cache()
    cache.setup(url)
    return cache(ttl=600, key="{key}", **options)(awork)


def _aiocache(url: str) -> Any:
    from aiocache import RedisCache, cached_stampede
    from aiocache.serializers import JsonSerializer

    port = int(url.rpartition(":")[2].partition("/")[0])
    return cached_stampede(
        lease=2, cache=RedisCache, port=port, serializer=JsonSerializer(), ttl=600
    )(awork)


def _namesake(function: Any, url: str) -> Any:
    # Its lock across processes is there for a Redis that the environment names.
    os.environ["REDIS_URL"] = url
    os.environ["CACHEKIT_REDIS_URL"] = url
    from cachekit import cache

    return cache(ttl=600, namespace="crowd")(function)


CONTESTANTS: dict[str, Callable[[str], Any]] = {
    "ours": lambda url: _ours(work, url),
    "ours, memory": lambda url: _ours(work, None),
    "ours, lock": lambda url: _ours(work, url, distributed_lock=True),
    "ours, async": lambda url: _ours(awork, url),
    "ours, async, lock": lambda url: _ours(awork, url, distributed_lock=True),
    "dogpile": _dogpile,
    "dogpile, lock": lambda url: _dogpile(
        url, distributed_lock=True, thread_local_lock=False, lock_timeout=10
    ),
    "cashews": _cashews,
    "cashews, lock": lambda url: _cashews(url, lock=True),
    "aiocache": _aiocache,
    "namesake": lambda url: _namesake(work, url),
    "namesake, async": lambda url: _namesake(awork, url),
}


def by_threads(call: Any, key: int, callers: int, at: float) -> list[tuple[float, Any]]:
    """How long each caller waited and what it got."""
    ends: list[tuple[float, Any]] = []

    def one() -> None:
        time.sleep(max(0.0, at - time.monotonic()))
        start = time.monotonic()
        try:
            got = call(key)
        except Exception as error:
            got = error
        ends.append((time.monotonic() - start, got))

    threads = [threading.Thread(target=one) for _ in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return ends


async def by_tasks(
    call: Any, key: int, callers: int, at: float
) -> list[tuple[float, Any]]:
    async def one() -> tuple[float, Any]:
        start = time.monotonic()
        try:
            got = await call(key)
        except Exception as error:
            got = error
        return time.monotonic() - start, got

    await asyncio.sleep(max(0.0, at - time.monotonic()))
    return list(await asyncio.gather(*(one() for _ in range(callers))))


def main() -> None:
    contestant, url = sys.argv[1:3]
    # What a package says goes nowhere: answers alone go to the pipe.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    if len(sys.argv) > 3:
        sys.path.insert(0, sys.argv[3])
    call = CONTESTANTS[contestant](url)
    loop = asyncio.new_event_loop()
    for line in sys.stdin:
        key, callers, at = line.split()
        runs.clear()
        if asyncio.iscoroutinefunction(call):
            crowd = by_tasks(call, int(key), int(callers), float(at))
            ends = loop.run_until_complete(crowd)
        else:
            ends = by_threads(call, int(key), int(callers), float(at))
        answer = {
            "runs": len(runs),
            "slowest": max(seconds for seconds, _ in ends),
            "wrong": sum(got != {"key": int(key)} for _, got in ends),
        }
        print(json.dumps(answer), file=answers)
    os._exit(0)  # no rival's farewell delays the next one


if __name__ == "__main__":
    main()
