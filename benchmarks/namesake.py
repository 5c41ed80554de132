# SPDX-License-Identifier: MIT
"""The worker for the PyPI package named ``cachekit``, which is another one.

    python -I -S namesake.py FOLDER URL KEYS

Run in a process that sees only the folder it is installed in. ``store N`` does N hits
on Redis with its memory tier off, over KEYS keys in turn; ``lru N`` does N hits on
functools.lru_cache, the yardstick that both processes have. Answers in nanoseconds.
"""

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


@cache(backend=RedisBackend(url), l1_enabled=False, ttl=3600, namespace="namesake")
def stored(number):
    return VALUE


@functools.lru_cache(10_000)
def remembered(number):
    return number


def store(count):
    start = time.perf_counter_ns()
    for number in range(count):
        stored(number % keys)
    return time.perf_counter_ns() - start


def lru(count):
    start = time.perf_counter_ns()
    for _ in range(count):
        remembered(7)
    return time.perf_counter_ns() - start


WORK = {"store": store, "lru": lru}
store(keys)
remembered(7)
gc.disable()
for line in sys.stdin:
    what, count = line.split()
    print(WORK[what](int(count)), file=answers)
