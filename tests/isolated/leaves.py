"""The interpreter ends while something is under way with a store.

argv: the store's URL, what is under way, and the id of the server to freeze.
"""

import asyncio
import os
import signal
import sys
import threading
import time

from cachekit import Cache, CacheConfig, NotBuiltYet

url, what, server = sys.argv[1], sys.argv[2], int(sys.argv[3])
cache = Cache(CacheConfig(namespace="leaves", socket_timeout=30), backend=url)
running = threading.Event()
MOMENT = 0.05  # until a call that was begun waits in the system


@cache(ttl=0.01, stale_ttl=60)
def stale(number: int) -> list[int]:
    if running.is_set():
        time.sleep(0.3)
    return [number]


@cache(ttl=60, l1_enabled=False)
def plain(number: int) -> list[int]:
    return [number]


def holding(number: int) -> list[int]:
    running.set()
    time.sleep(60)
    return [number]


def start(job: object) -> None:
    threading.Thread(target=job, daemon=True).start()  # type: ignore[arg-type]


def idle() -> None:
    """Connected, warm, and nothing under way."""
    plain(1)
    asyncio.run(cache.aget("nothing"))


def background_refresh() -> None:
    stale(1)
    time.sleep(0.02)
    running.set()
    stale(1)


def blocked_read() -> None:
    plain(1)
    os.kill(server, signal.SIGSTOP)
    for _ in range(3):
        start(lambda: plain(2))
    time.sleep(MOMENT)


def blocked_refresh() -> None:
    """The refresh of a stale entry waits for the store. Exit waits a while for it."""
    stale(1)
    time.sleep(0.02)
    os.kill(server, signal.SIGSTOP)
    stale(1)
    time.sleep(MOMENT)


def held_lock() -> None:
    """A function runs that others in the fleet wait for."""
    try:
        locked = cache(ttl=60, distributed_lock=True)(holding)
        start(lambda: locked(1))
        running.wait(10)
    except NotBuiltYet:
        locked = cache(ttl=60)(holding)
        start(lambda: locked(1))
    running.wait(10)
    start(lambda: locked(1))
    time.sleep(MOMENT)


def loop_left_open() -> None:
    loop = asyncio.new_event_loop()
    loop.run_until_complete(cache.aset("name", 1))
    globals()["kept"] = loop
    loop.run_until_complete(cache.aclose())
    loop.close()


globals()[what]()
