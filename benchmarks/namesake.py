# SPDX-License-Identifier: MIT
"""The worker for the PyPI package named ``cachekit``, which is another one.

    python -I -S namesake.py FOLDER URL KEYS

Run in a process that sees only the folder it is installed in. A line ``WORK N`` on
stdin does N hits of a kind (WORK below), and is answered with the nanoseconds they
took. ``lru`` is the yardstick that both processes have: functools.lru_cache.
"""

import asyncio
import functools
import gc
import os
import sys
import time

folder, url, keys = sys.argv[1], sys.argv[2], int(sys.argv[3])
sys.path.insert(0, folder)
sys.path.insert(1, os.path.dirname(os.path.abspath(__file__)))

# What it says goes nowhere: answers alone go to the pipe.
answers = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)

import values  # noqa: E402
from cachekit.backends.redis import RedisBackend  # noqa: E402

from cachekit import cache  # noqa: E402

VALUE = values.one_kilobyte()
TEN = values.ten_keys()
SEALED = values.two_hundred_bytes()
backend = RedisBackend(url)
event_loop = asyncio.new_event_loop()


@cache(backend=backend, l1_enabled=False, ttl=3600, namespace="namesake")
def stored(number):
    return VALUE


def number_of(number):
    return number


async def anumber_of(number):
    return number


def ten(number):
    return TEN


def sealed(number):
    return SEALED


on_redis = {"backend": backend, "ttl": 3600}
lru_cached = functools.lru_cache(10_000)(number_of)
local = cache.local()(number_of)
memory = cache(backend=None)(number_of)
redis = cache(namespace="behind", **on_redis)(number_of)
redis_ten = cache(namespace="ten", **on_redis)(ten)
secure = cache.secure(master_key="5e" * 32, namespace="secure", **on_redis)(sealed)
alocal = cache.local()(anumber_of)
amemory = cache(backend=None)(anumber_of)
aredis = cache(namespace="abehind", **on_redis)(anumber_of)


def store(count):
    start = time.perf_counter_ns()
    for number in range(count):
        stored(number % keys)
    return time.perf_counter_ns() - start


def empty(count):
    start = time.perf_counter_ns()
    for _ in range(count):
        pass
    return time.perf_counter_ns() - start


def calls(call):
    def work(count):
        start = time.perf_counter_ns()
        for _ in range(count):
            call(7)
        return time.perf_counter_ns() - start

    return work


def by_keyword(call):
    def work(count):
        start = time.perf_counter_ns()
        for _ in range(count):
            call(number=7)
        return time.perf_counter_ns() - start

    return work


def awaits(call):
    async def times(count):
        start = time.perf_counter_ns()
        for _ in range(count):
            await call(7)
        return time.perf_counter_ns() - start

    return lambda count: event_loop.run_until_complete(times(count))


WORK = {
    "store": store,
    "empty": empty,
    "lru": calls(lru_cached),
    "local": calls(local),
    "local-keyword": by_keyword(local),
    "memory": calls(memory),
    "redis": calls(redis),
    "redis-keyword": by_keyword(redis),
    "redis-ten": calls(redis_ten),
    "secure": calls(secure),
    "alocal": awaits(alocal),
    "amemory": awaits(amemory),
    "aredis": awaits(aredis),
}
gc.disable()
for line in sys.stdin:
    what, count = line.split()
    try:
        if what == "store":
            store(keys)
        else:
            WORK[what](2)  # a miss and a hit
        print(WORK[what](int(count)), file=answers)
    except Exception as error:
        print(f"{type(error).__name__}: {error}"[:200].replace("\n", " "), file=answers)
