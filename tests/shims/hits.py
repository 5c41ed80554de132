# SPDX-License-Identifier: MIT
"""Counts what cached calls ask of the allocators and locks. Run by test_allocations.py
with the two shims: ``LD_PRELOAD=count_calls.so python hits.py count_calls.so
count_python.so``; prints JSON.

Each case is counted over ``HITS`` calls and over none; the difference is what the calls
asked for.
"""

import asyncio
import ctypes
import gc
import json
import sys
from itertools import repeat

HITS = 100_000

calls = ctypes.CDLL(sys.argv[1])
python = ctypes.PyDLL(sys.argv[2])
for counter in (calls.count_calls_memory, calls.count_calls_locks):
    counter.restype = ctypes.c_long
python.count_python_calls.restype = ctypes.c_long
python.count_python_install()

from cachekit import Cache  # noqa: E402

cache = Cache(backend=None)
TEN_KEYS = {f"key{number}": number for number in range(10)}


def once(timed, count):
    gc.collect()
    gc.disable()
    calls.count_calls_start()
    python.count_python_start()
    timed(count)
    python.count_python_stop()
    calls.count_calls_stop()
    gc.enable()
    return (
        calls.count_calls_memory(),
        calls.count_calls_locks(),
        python.count_python_calls(),
    )


def counted(timed):
    """What HITS calls asked for: {"malloc": ..., "locks": ..., "python": ...}."""
    timed(1000)
    once(timed, 0)  # the markers themselves ask for memory the first time
    nothing, something = once(timed, 0), once(timed, HITS)
    kinds = ("malloc", "locks", "python")
    return {
        kind: after - before
        for kind, before, after in zip(kinds, nothing, something, strict=True)
    }


def loop(statement, **names):
    """A function of a count: runs `statement` that often, allocating nothing."""
    keywords = "".join(f", {name}={name}" for name in names)
    source = (
        f"def timed(count, repeat=repeat{keywords}):\n"
        f"    for _ in repeat(None, count):\n"
        f"        {statement}\n"
    )
    space = {"repeat": repeat, **names}
    exec(source, space)
    return space["timed"]


def awaits(call):
    """The same for an awaitable; driven by hand, so a hit that suspends would show."""

    async def times(count):
        for _ in repeat(None, count):
            await call(7)

    def timed(count):
        try:
            times(count).send(None)
        except StopIteration:
            return
        raise AssertionError("a hit was suspended")

    return timed


def identity(value):
    return value


def a_dict(value):
    return TEN_KEYS


async def plain(value):
    return value


class Owner:
    def __init__(self, call):
        self.call = call


def cases():
    """A name, and a function of a count that makes as many hits."""
    for name, decorate in (("cache", cache), ("local", cache.local)):
        cached = decorate(identity)
        yield f"{name}: int", loop("call(7)", call=cached)
        yield f"{name}: large int", loop("call(123456789012)", call=cached)
        yield f"{name}: float", loop("call(2.5)", call=cached)
        yield f"{name}: str", loop("call('amber')", call=cached)
        yield f"{name}: bytes", loop("call(b'amber')", call=cached)
        yield f"{name}: tuple", loop("call((1, 'two', None))", call=cached)
        yield f"{name}: keyword", loop("call(value=7)", call=cached)
        bound = Owner(cached)
        yield f"{name}: attribute", loop("bound.call(7)", bound=bound)
        coroutine = decorate(plain)
        asyncio.run(coroutine(7))
        yield f"{name}: async", awaits(coroutine)
    yield "plain: async", awaits(plain)
    yield "local: dict back", loop("call(7)", call=cache.local(a_dict))
    yield "cache: dict back", loop("call(7)", call=cache(a_dict))
    yield "plain: dict copy", loop("call()", call=TEN_KEYS.copy)
    yield "seen: malloc and python", loop("bytes(5000)")
    mutex = ctypes.create_string_buffer(256)
    take, give = calls.pthread_mutex_lock, ctypes.CDLL(None).pthread_mutex_unlock
    yield (
        "seen: lock",
        loop("take(mutex); give(mutex)", take=take, give=give, mutex=mutex),
    )


print(json.dumps({name: counted(timed) for name, timed in cases()}))
