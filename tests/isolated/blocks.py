"""A thousand more calls of a kind allocate no more blocks: argv[1] names the kind."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import logging
import sys
import threading
import time
from typing import Any

from cachekit import Cache, CacheConfig, CacheMiss, UncacheableArgument
from cachekit.backends import MemoryBackend

ROUND = 300  # calls between two looks
SLACK = 0.1  # blocks for each call: caches of the interpreter breathe
SLACK_BYTES = 4096

logging.getLogger("cachekit").disabled = True
memory = Cache(CacheConfig(l1_max_entries=50), backend=None)
store = Cache(CacheConfig(l1_enabled=False), backend=MemoryBackend())
loop = asyncio.new_event_loop()
numbers = iter(range(1_000_000_000))


class Boom(Exception):
    pass


@memory
def text(number: int) -> str:
    return f"text {number}"


@memory
def rows(number: int) -> list[dict[str, Any]]:
    return [{"number": number, "deep": [1.5, {"a": {1, 2}}]}]


@memory
def raising(number: int) -> None:
    raise Boom(number)


@memory(ttl=0.001, stale_ttl=60)
def stale(number: int) -> list[int]:
    return [number]


@memory(ttl=0.001, serve_stale_on_error=True, stale_retry=0.001)
def failing(number: int) -> int:
    if failing.cache_info().loads:
        raise Boom
    return number


@memory
def odd(number: int) -> Any:
    return iter([number]) if number % 2 else object()


@memory
async def text_async(number: int) -> str:
    await asyncio.sleep(0)
    return f"text {number}"


@memory
async def raising_async(number: int) -> None:
    await asyncio.sleep(0)
    raise Boom(number)


@memory(ttl=0.001, stale_ttl=60)
async def stale_async(number: int) -> list[int]:
    return [number]


@store(name="stored")
def stored(number: int) -> list[int]:
    return [number]


@store(name="stored async")
async def stored_async(number: int) -> list[int]:
    return [number]


class Owner:
    @memory(ignore=("self",))
    def method(self, number: int) -> int:
        return number


owner = Owner()


def call_raising() -> None:
    with contextlib.suppress(Boom):
        raising(1)


def call_badly() -> None:
    for job in (lambda: text(), lambda: text(1, 2), lambda: text(object())):
        with contextlib.suppress(TypeError, UncacheableArgument):
            job()


def call_strategies() -> None:
    for strategy in ("BYPASS", "INVALIDATE", "REFRESH", "FRESH"):
        text.using(strategy)(1)
    text.refresh(1)
    text.put("put", 1)
    text.entry(1), text.peek(1), text.key_for(1), text.cache_info()
    text.invalidate(1)
    with contextlib.suppress(CacheMiss):
        text.peek(1)


def call_bound() -> None:
    owner.method(1)
    owner.method.entry(1)
    owner.method.using("BYPASS")(2)


def run(*jobs: Any) -> Any:
    async def main() -> Any:
        return await asyncio.gather(*jobs, return_exceptions=True)

    return loop.run_until_complete(main())


def call_cancelled() -> None:
    async def main() -> None:
        tasks = [asyncio.ensure_future(text_async(-1)) for _ in range(3)]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    loop.run_until_complete(main())


def call_together() -> None:
    number = next(numbers)
    threads = [threading.Thread(target=lambda: rows(number)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def call_stored() -> None:
    stored(1)
    stored.invalidate(1)
    stored(1)
    run(stored_async(1))
    run(stored_async.invalidate(1))


def make_functions() -> None:
    @memory
    def made(number: int) -> list[int]:
        return [number]

    made(1), made(1)
    run(memory(text_async.__wrapped__)(1))


KINDS = {
    "hit": lambda: text(1),
    "hit of a container": lambda: rows(1),
    "miss": lambda: (text(next(numbers)), rows(next(numbers))),
    "raise": call_raising,
    "stale": lambda: stale(1),
    "stale on error": lambda: failing(1),
    "not cacheable": lambda: odd(next(numbers)),
    "bad call": call_badly,
    "strategies": call_strategies,
    "bound": call_bound,
    "async hit": lambda: run(text_async(1)),
    "async miss": lambda: run(*[text_async(next(numbers))] * 1, text_async(-2)),
    "async raise": lambda: run(raising_async(1), raising_async(1)),
    "async stale": lambda: run(stale_async(1)),
    "async cancelled": call_cancelled,
    "together": call_together,
    "stored": call_stored,
    "functions": make_functions,
}


class Mallinfo(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in "abcdefghij"]


def malloced() -> int:
    """Bytes in use by malloc, mapped ones too; 0 where that cannot be asked."""
    try:
        ask = ctypes.CDLL(None).mallinfo2
    except (AttributeError, OSError):
        return 0
    ask.restype = Mallinfo
    info = ask()
    return int(info.h + info.e)


def settle() -> tuple[int, int]:
    deadline = time.monotonic() + 5
    while any(fn._plan is not None and fn._info()["loads"] < 0 for fn in (stale,)):
        assert time.monotonic() < deadline
    time.sleep(0.01)  # refreshes under way
    gc.collect()
    return sys.getallocatedblocks(), malloced()


def main(kind: str) -> None:
    call = KINDS[kind]
    rounds = 100 if kind == "together" else ROUND
    failures = []
    for _attempt in range(8):
        for _ in range(rounds):
            call()
        blocks, size = settle()
        for _ in range(rounds):
            call()
        more_blocks, more_size = settle()
        grown = more_blocks - blocks, more_size - size
        if grown[0] <= SLACK * rounds and grown[1] <= SLACK_BYTES:
            break
        failures.append(grown)
    else:
        raise AssertionError(f"{kind}: (blocks, bytes) more in {rounds}: {failures}")
    loop.close()


main(sys.argv[1])
