# SPDX-License-Identifier: MIT
"""P14: memory for one entry, in a table of a million int keys and one shared None.

    python memory.py CONTESTANT        (one process for each, as benchmarks/run.py does)

The growth of the resident set over the filling, divided by the entries: keys, values,
table and what the allocator adds are all in it. A rival keeps the key's int object (32
bytes); ours keeps the canonical bytes of the call and no object.
"""

from __future__ import annotations

import functools
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

ENTRIES = 1_000_000
ROOM = 2_000_000
BOUND = 112
INT_OBJECT = 32

Function = Callable[[int], None]


def nothing(number: int) -> None:
    return None


# -- in the process of a contestant ---------------------------------------------------


def of_cache() -> tuple[Function, Callable[[], int]]:
    from cachekit import Cache, CacheConfig

    cached = Cache(CacheConfig(l1_max_size_mb=1000), backend=None)(nothing)
    return cached, lambda: cached.cache_info().currsize


def of_local() -> tuple[Function, Callable[[], int]]:
    from cachekit import Cache

    cached = Cache(backend=None).local(max_entries=ROOM)(nothing)
    return cached, lambda: cached.cache_info().currsize


def of_lru_cache() -> tuple[Function, Callable[[], int]]:
    cached = functools.lru_cache(ROOM)(nothing)
    return cached, lambda: cached.cache_info().currsize


def of_cachebox() -> tuple[Function, Callable[[], int]]:
    import cachebox

    table = cachebox.LRUCache(ROOM)
    return functools.partial(_put, table), lambda: len(table)


def of_cachetools() -> tuple[Function, Callable[[], int]]:
    import cachetools

    table = cachetools.LRUCache(ROOM)
    return functools.partial(_put, table), lambda: len(table)


def of_ttl_cachetools() -> tuple[Function, Callable[[], int]]:
    import cachetools

    table = cachetools.TTLCache(ROOM, 3600)
    return functools.partial(_put, table), lambda: len(table)


def _put(table: Any, number: int) -> None:
    table[number] = None


CONTESTANTS: dict[str, Callable[[], tuple[Function, Callable[[], int]]]] = {
    "@cache": of_cache,
    "@cache.local": of_local,
    "lru_cache": of_lru_cache,
    "cachebox": of_cachebox,
    "cachetools": of_cachetools,
    "cachetools TTL": of_ttl_cachetools,
}
NEEDS = {
    "cachebox": "cachebox",
    "cachetools": "cachetools",
    "cachetools TTL": "cachetools",
}


def resident() -> int:
    """Bytes of this process that are in memory."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:  # no /proc here: the highest it has been, which filling raises
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def fill(name: str) -> dict[str, float]:
    function, size = CONTESTANTS[name]()
    for number in range(-1000, 0):
        function(number)
    gc.collect()
    gc.disable()
    before = resident()
    start = time.perf_counter()
    for number in range(ENTRIES):
        function(number)
    seconds = time.perf_counter() - start
    grown = resident() - before
    assert size() >= ENTRIES, f"{name} kept {size():,} entries"
    return {"bytes": grown / ENTRIES, "seconds": seconds / ENTRIES}


# -- the rows -------------------------------------------------------------------------


def measure(settings: Any) -> Iterator[Any]:
    """P14."""
    from harness import Row, skipped, verdict
    from rivals import Unavailable, search_path

    found, missing = {}, {}
    for name in CONTESTANTS:
        try:
            path = search_path(*([NEEDS[name]] if name in NEEDS else []))
            found[name] = _in_a_process(name, path)
        except Unavailable as why:
            missing[name] = str(why)
    work = f"memory per entry, {ENTRIES:,} ints"
    lru = found["lru_cache"]["bytes"]
    for name in ("@cache", "@cache.local"):
        taken, figures = found[name]["bytes"], found[name]
        for against, bound in (("-", BOUND), ("lru_cache, in all", lru)):
            yield Row(
                "P14",
                f"{work}, {name}",
                against,
                f"<= {bound:.0f} bytes",
                f"{taken:.0f} bytes; filled at {1e6 * figures['seconds']:.2f} us each",
                verdict(taken <= bound),
                figures,
            )
    for name, figures in found.items():
        if name in ("@cache", "@cache.local"):
            continue
        measured = (
            f"{figures['bytes']:.0f} bytes, {INT_OBJECT} of them the key; filled at "
            f"{1e6 * figures['seconds']:.2f} us each"
        )
        yield Row("P14", f"{work}, {name}", "-", "-", measured, "-", figures)
    for name, why in missing.items():
        yield skipped("P14", f"{work}, {name}", why)


def _in_a_process(name: str, path: str) -> dict[str, float]:
    from rivals import Unavailable

    said = subprocess.run(
        [sys.executable, os.path.abspath(__file__), name],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    if said.returncode != 0:
        raise Unavailable((said.stderr.strip().splitlines() or ["it failed"])[-1])
    figures: dict[str, float] = json.loads(said.stdout)
    return figures


if __name__ == "__main__":
    print(json.dumps(fill(sys.argv[1])))
