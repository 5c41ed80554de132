# SPDX-License-Identifier: MIT
"""P7: a hit in Redis, of a ``def`` function in one thread, with the memory tier off.

A hit of ours asks for the age and the entry (PTTL, then MGET, in one trip), checks the
frame and decodes the value. The version keys of namespace and function are further keys
of the MGET, always; so are tags, where there are any. The floor does GET and decodes
nothing; redis-py does GET and unpacks MessagePack, with no age and no check. Everybody
goes over the same number of keys in turn. The package named cachekit on PyPI runs in a
process of its own; its figure is scaled by functools.lru_cache, timed there and here.

Clients and server share one core where the system allows it. One thread that waits for
each reply leaves nothing to do side by side, and the ratios repeat: with two cores the
scheduler puts a client now beside its server and now apart from it, and to wake an idle
core costs more than the whole trip.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypedDict

import redis_server
import values
from harness import (
    Row,
    Settings,
    Times,
    compare,
    loop,
    race,
    rounds_of,
    skipped,
    verdict,
)
from rivals import Unavailable, rival
from workers import Worker, floor, namesake_worker

from cachekit import Cache, CacheConfig

KEYS = 100
WORK = "store hit, def, 1 KB dict, one thread"
TAGGED = "store hit, def, with 3 tags, a version and a schema"
COUNTED = 1000
FLOOR = "hiredis GET loop in C"
REDIS_PY = "redis-py + hiredis + msgpack"
NAMESAKE = "the PyPI cachekit"


@contextmanager
def one_core() -> Iterator[None]:
    """This thread, and what it starts meanwhile, on one core."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Shape(TypedDict):
    """What the entries look like, for ``schema``."""

    id: int
    name: str
    active: bool


def tagged_store(url: str, value: Any) -> Callable[[int], Any]:
    """The same with all that an entry may be bound to."""
    tags = ("users", "people", "reports")
    return cached_store(url, value, "tagged", tags=tags, version=2, schema=Shape)


def cached_store(
    url: str, value: Any, name: str = "one_kilobyte", **options: Any
) -> Callable[[int], Any]:
    """A cached function whose entries for `KEYS` keys are in the Redis at `url`."""
    cache = Cache(CacheConfig(namespace="bench"), backend=url)

    @cache(l1_enabled=False, ttl=3600, name=name, **options)
    def get(number: int) -> Any:
        return value

    for number in range(KEYS):
        get(number)
        assert get(number) == value
    assert get.cache_info().l2_hits == KEYS, get.cache_info()
    return get


def in_turn(call: Callable[[int], Any]) -> Callable[[int], float]:
    timed = loop("for key in keys: call(key)", call=call, keys=list(range(KEYS)))
    return lambda count: timed(-(-count // KEYS))


def redis_py(port: int, value: Any) -> Callable[[int], Any]:
    """GET and unpack, with one client."""
    msgpack = rival("msgpack")
    rival("hiredis")
    client = rival("redis").Redis(port=port, protocol=2)
    names = [f"redis-py:{number}" for number in range(KEYS)]
    for name in names:
        client.set(name, msgpack.packb(value), ex=3600)
    get, unpack = client.get, msgpack.unpackb

    def read(number: int) -> Any:
        return unpack(get(names[number]))

    assert read(7) == value
    return read


def by_worker(worker: Worker, *words: str) -> Callable[[int], float]:
    return lambda count: worker.ask(*words, count)


def measure(settings: Settings) -> Iterator[Row]:
    """P7."""
    value = values.one_kilobyte()
    seconds = settings.seconds * 4
    with ExitStack() as stack:
        # First: what is started later inherits it.
        stack.enter_context(one_core())
        server = stack.enter_context(redis_server.running())
        tagged = tagged_store(server.url, value)
        trips = _trips(server, tagged)
        contestants = {
            "ours": in_turn(cached_store(server.url, value)),
            "tagged": in_turn(tagged),
        }
        missing = {}
        try:
            # Before the floor: it fills the keys that the floor reads.
            contestants[REDIS_PY] = in_turn(redis_py(server.port, value))
            worker = stack.enter_context(floor(server.port, "redis-py:", KEYS))
            contestants[FLOOR] = by_worker(worker)
        except Unavailable as why:
            missing[REDIS_PY if REDIS_PY not in contestants else FLOOR] = str(why)
        try:
            worker = stack.enter_context(namesake_worker(server.url, KEYS))
            contestants[NAMESAKE] = by_worker(worker, "store")
            contestants["its lru_cache"] = by_worker(worker, "lru")
            contestants["our lru_cache"] = _yardstick()
        except Unavailable as why:
            missing[NAMESAKE] = str(why)
        ready = {
            name: rounds_of(timed, seconds, KEYS) for name, timed in contestants.items()
        }
        times = race(ready, settings.rounds)
    yield from _rows(times, missing)
    yield compare(
        "P7", TAGGED, times["tagged"], "the plain hit", times["ours"], at_most=1.3
    )
    yield trips


def _trips(server: redis_server.Server, call: Callable[[int], Any]) -> Row:
    """The round trips of a hit, as the server counts what it reads from sockets."""
    work = f"round trips of {COUNTED:,} such hits"
    try:
        before = server.count("total_reads_processed")
        for number in range(COUNTED):
            call(number % KEYS)
        trips = server.count("total_reads_processed") - before - 1
    except Unavailable as why:
        return skipped("P7", work, str(why))
    # A listener's connection or a health check may add one or two.
    holds = COUNTED <= trips <= COUNTED + 5
    target, figures = f"{COUNTED:,}", {"trips": trips}
    return Row("P7", work, "-", target, f"{trips:,}", verdict(holds), figures)


def _yardstick() -> Callable[[int], float]:
    @functools.lru_cache(10_000)
    def remembered(number: int) -> int:
        return number

    return loop("call(7)", call=remembered)


def _rows(times: dict[str, Times], missing: dict[str, str]) -> Iterator[Row]:
    ours = times["ours"]
    if FLOOR in times:
        yield compare("P7", WORK, ours, FLOOR, times[FLOOR], at_most=1.4)
    if REDIS_PY in times:
        yield compare("P7", WORK, ours, REDIS_PY, times[REDIS_PY], at_least=2.3)
        if FLOOR in times:
            theirs = times[REDIS_PY]
            yield compare("P7", REDIS_PY, theirs, FLOOR, times[FLOOR])
    if NAMESAKE in times:
        scale = times["our lru_cache"].min / times["its lru_cache"].min
        scaled = Times(tuple(value * scale for value in times[NAMESAKE].rounds))
        against = f"{NAMESAKE}, by lru_cache"
        yield compare("P7", WORK, ours, against, scaled, at_least=6)
    for against, why in missing.items():
        yield skipped("P7", WORK, why, against)
