"""A function, a namespace, everything: invalidated in constant time, in every process.

By version keys: an entry carries the numbers that it was built under.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from driver import Driver, Work, each_driver  # noqa: F401
from proxy import Proxy
from servers import RedisServer

from cachekit import Cache, ConfigurationError, Invalidation
from cachekit._versions import function_key, namespace_key, tag_key
from cachekit.backends._protocol import fence_key

DELIVERED, QUEUED = Invalidation.DELIVERED, Invalidation.QUEUED


@pytest.fixture
def driver(each_driver: Driver) -> Driver:  # noqa: F811
    return each_driver


@pytest.fixture
def elsewhere() -> Iterator[Driver]:
    """Another program."""
    driver = Driver()
    yield driver
    driver.close()


def clear(driver: Driver, cache: Cache, **where: Any) -> Any:
    return driver.finish((cache.aclear if driver.is_async else cache.clear)(**where))


#: What reaches an entry of a function with the tag "t" in the namespace "test".
WAYS: dict[str, Callable[[Driver, Cache, Work], Any]] = {
    "function": lambda driver, cache, work: work.invalidate_all(),
    "namespace": lambda driver, cache, work: clear(driver, cache, namespace="test"),
    "everything": lambda driver, cache, work: clear(driver, cache),
    "tag": lambda driver, cache, work: driver.finish(
        (cache.ainvalidate_tags if driver.is_async else cache.invalidate_tags)("t")
    ),
}
EACH_WAY = pytest.mark.parametrize("way", WAYS)


@EACH_WAY
@pytest.mark.parametrize("kind", ["memory", "store", "both"])
def test_all_entries_are_gone(
    driver: Driver, redis_server: RedisServer, kind: str, way: str
) -> None:
    cache = driver.cache(
        None if kind == "memory" else redis_server.url, l1_enabled=kind != "store"
    )
    work = driver.work(cache, ttl=600, tags=["t"])
    for n in range(3):
        work(n)
    for run in (4, 7):
        assert WAYS[way](driver, cache, work) is DELIVERED
        assert [work(n)["run"] for n in range(3)] == [run, run + 1, run + 2]
        assert [work(n)["run"] for n in range(3)] == [run, run + 1, run + 2]


@EACH_WAY
def test_also_those_of_other_programs(
    driver: Driver, elsewhere: Driver, redis_server: RedisServer, way: str
) -> None:
    ours, theirs = driver.cache(redis_server.url), elsewhere.cache(redis_server.url)
    work = driver.work(ours, name="f", ttl=600, tags=["t"])
    their_work = elsewhere.work(theirs, name="f", ttl=600, tags=["t"])
    work(1), their_work(1), their_work(2), work(2)
    assert WAYS[way](elsewhere, theirs, their_work) is DELIVERED
    driver.wait_until(lambda: work(1)["run"] == 2, seconds=2.0)
    assert their_work(1)["run"] == 2
    assert their_work(2)["run"] == 2
    assert work(2)["run"] == 2


@EACH_WAY
def test_it_takes_the_same_however_many_there_are(
    driver: Driver, redis_server: RedisServer, way: str
) -> None:
    cache = driver.cache(redis_server.url, l1_enabled=False)
    work = driver.work(cache, ttl=600, tags=["t"])
    work(0)
    WAYS[way](driver, cache, work)  # the script is known
    taken = []
    for count in (1, 50):
        for n in range(count):
            work(n)
        redis_server.call("CONFIG", "RESETSTAT")
        WAYS[way](driver, cache, work)
        taken.append(commands(redis_server))
    assert taken[0] == taken[1]
    assert sum(taken[0].values()) <= 8
    assert not {"scan", "keys", "unlink", "flushdb", "flushall"} & set(taken[0])


def commands(server: RedisServer) -> dict[str, int]:
    """How often each command was carried out; ours aside."""
    lines = server.call("INFO", "commandstats").decode().splitlines()
    pairs = (line[8:].split(":calls=") for line in lines if line.startswith("cmdstat_"))
    counts = {name: int(rest.split(",")[0]) for name, rest in pairs}
    for ours in ("info", "config|resetstat", "config", "ping"):
        counts.pop(ours, None)
    return counts


def test_a_versioned_hit_is_one_round_trip(driver: Driver, proxy: Proxy) -> None:
    work = driver.work(driver.cache(proxy.url, l1_enabled=False), ttl=600)
    work(1), work(1)
    before = proxy.round_trips
    work(1)
    assert proxy.round_trips == before + 1
    work(2)
    assert proxy.round_trips == before + 4


def test_invalidate_all_leaves_other_functions_alone(
    driver: Driver, redis_server: RedisServer
) -> None:
    cache = driver.cache(redis_server.url)
    one, two = driver.work(cache, ttl=600), driver.work(cache, ttl=600)
    one(1), two(1)
    one.invalidate_all()
    assert (one(1)["run"], two(1)["run"]) == (2, 1)


def test_a_namespace_leaves_others_alone(
    driver: Driver, redis_server: RedisServer
) -> None:
    cache = driver.cache(redis_server.url)
    one, two = driver.work(cache, ttl=600), driver.work(cache, ttl=600, namespace="b")
    one(1), two(1)
    assert clear(driver, cache, namespace="b") is DELIVERED
    assert (one(1)["run"], two(1)["run"]) == (1, 2)
    assert clear(driver, cache) is DELIVERED
    assert (one(1)["run"], two(1)["run"]) == (2, 3)


def test_a_namespace_that_only_others_use(
    driver: Driver, elsewhere: Driver, redis_server: RedisServer
) -> None:
    theirs = elsewhere.work(elsewhere.cache(redis_server.url, namespace="b"), ttl=600)
    theirs(1)
    cache = driver.cache(redis_server.url)
    assert clear(driver, cache, namespace="b") is DELIVERED
    elsewhere.wait_until(lambda: theirs(1)["run"] == 2, seconds=2.0)


@pytest.mark.parametrize("l1", [True, False], ids=["both", "store"])
def test_names_and_full_keys_carry_the_namespace_only(
    driver: Driver, redis_server: RedisServer, l1: bool
) -> None:
    cache = driver.cache(redis_server.url, l1_enabled=l1)
    work = driver.work(cache, ttl=600, full_key=lambda n: f"n:{n}")
    cache.set("name", "value")
    work(1)
    assert cache.get("n:1") == {"n": 1, "run": 1}
    with pytest.raises(ConfigurationError, match="namespace"):
        work.invalidate_all()
    assert work(1)["run"] == 1
    assert cache.get("name") == "value"
    clear(driver, cache, namespace="test")
    assert cache.get("name") is None
    assert work(1)["run"] == 2


def test_names_of_other_programs_go_as_well(
    driver: Driver, elsewhere: Driver, redis_server: RedisServer
) -> None:
    ours, theirs = driver.cache(redis_server.url), elsewhere.cache(redis_server.url)
    theirs.set("name", "value")
    assert ours.get("name") == "value"
    clear(driver, ours)
    assert ours.get("name") is None
    elsewhere.wait_until(lambda: theirs.get("name") is None, seconds=2.0)


# ---- what becomes of version keys ----------------------------------------------------


def versions(work: Work) -> dict[str, str]:
    """The names of the version keys that an entry of the function depends on."""
    prefix, identity = work.cached._plan.prefix, work.cached._plan.identity
    return {
        "function": function_key(prefix, identity),
        "namespace": namespace_key("test"),
        "tag": tag_key("test", "t"),
    }


EACH_VERSION = pytest.mark.parametrize("which", ["function", "namespace", "tag"])


@EACH_VERSION
@pytest.mark.parametrize("fate", ["lost", "changed", "flushed", "mangled"])
def test_a_version_that_is_lost_errs_to_the_safe_side(
    driver: Driver, redis_server: RedisServer, which: str, fate: str
) -> None:
    """Evicted, failed over to a replica that had not heard of it, deleted or set by a
    stranger: a miss, and a number that was never used before."""
    cache = driver.cache(redis_server.url, l1_enabled=False)
    work = driver.work(cache, ttl=600, tags=["t"])
    work(1)
    name = versions(work)[which]
    former = redis_server.call("GET", name)
    assert former is not None
    if fate == "lost":
        redis_server.call("DEL", name)
    elif fate == "changed":
        redis_server.call("SET", name, 16 * "0")
    elif fate == "flushed":
        redis_server.call("FLUSHALL")
    else:
        redis_server.call("SETRANGE", name, 0, "0" if former[:1] != b"0" else "1")
    assert work(1)["run"] == 2
    assert work(1)["run"] == 2
    assert redis_server.call("GET", name) != former


@EACH_VERSION
def test_a_former_number_brings_nothing_back(
    driver: Driver, redis_server: RedisServer, which: str
) -> None:
    cache = driver.cache(redis_server.url, l1_enabled=False)
    work = driver.work(cache, ttl=600, tags=["t"])
    seen = set()
    for _ in range(5):
        work(1)
        seen.add(redis_server.call("GET", versions(work)[which]))
        redis_server.call("DEL", versions(work)[which])
    assert len(seen) == 5


@EACH_VERSION
@pytest.mark.parametrize("kind", ["list", "text", "empty"])
def test_somebody_elses_key_is_left_alone(
    driver: Driver,
    own_redis: RedisServer,
    caplog: pytest.LogCaptureFixture,
    which: str,
    kind: str,
) -> None:
    cache = driver.cache(own_redis.url, l1_enabled=False)
    work = driver.work(cache, ttl=600, tags=["t"])
    work(1)
    name = versions(work)[which]
    own_redis.call("DEL", name)
    if kind == "list":
        own_redis.call("RPUSH", name, "theirs")
    else:
        own_redis.call("SET", name, "theirs" if kind == "text" else "")
    with caplog.at_level(logging.WARNING, "cachekit"):
        for run in range(2, 5):
            assert work(1)["run"] == run
        for way in WAYS.values():
            assert way(driver, cache, work) is DELIVERED
        assert work(1)["run"] == 5
    assert own_redis.call("TYPE", name) == ("list" if kind == "list" else "string")
    assert [record.event for record in caplog.records] == ["foreign_key"]
    assert cache.detailed_health_check()["circuit_breaker"]["state"] == "closed"


def test_a_version_lives_as_long_as_its_entries(
    driver: Driver, redis_server: RedisServer
) -> None:
    cache = driver.cache(redis_server.url, l1_enabled=False)
    short = driver.work(cache, ttl=60, tags=["t"])
    long = driver.work(cache, ttl=86_400, tags=["t"])
    short(1)
    tag = versions(short)["tag"]
    assert 60_000 < redis_server.call("PTTL", tag) <= 60_000 + 3_600_000
    long(1)
    assert redis_server.call("PTTL", tag) > 86_400_000
    short(2)
    assert redis_server.call("PTTL", tag) > 86_400_000


def test_a_lifetime_that_the_value_decides_extends_it(
    driver: Driver, redis_server: RedisServer
) -> None:
    cache = driver.cache(redis_server.url, l1_enabled=False, default_ttl=60)
    work = driver.work(cache, ttl=lambda value: 864_000, tags=["t"])
    work(1)
    for name in versions(work).values():
        assert redis_server.call("PTTL", name) >= 864_000_000 - 5_000
    assert work(1)["run"] == 1


@EACH_WAY
def test_a_full_server_still_invalidates(
    driver: Driver, elsewhere: Driver, own_redis: RedisServer, way: str
) -> None:
    ours, theirs = driver.cache(own_redis.url), elsewhere.cache(own_redis.url)
    work = driver.work(ours, name="f", ttl=600, tags=["t"])
    their_work = elsewhere.work(theirs, name="f", ttl=600, tags=["t"])
    work(1), their_work(1)
    own_redis.cli("CONFIG SET maxmemory-policy noeviction")
    own_redis.cli("CONFIG SET maxmemory 1")
    assert WAYS[way](elsewhere, theirs, their_work) is DELIVERED
    driver.wait_until(lambda: work(1)["run"] > 1, seconds=2.0)
    assert their_work(1)["run"] == 1 and their_work.runs == 1
    own_redis.cli("CONFIG SET maxmemory 0")


def test_versions_that_the_server_evicts(
    driver: Driver, own_redis: RedisServer
) -> None:
    """allkeys-random under pressure: whatever goes, no invalidated value is served."""
    cache = driver.cache(own_redis.url, l1_enabled=False)
    row = ["old"]
    work = driver.work(cache, ttl=600, tags=["t"])
    work.answer = lambda n: row[0] + os.urandom(10_000).hex()
    own_redis.cli("CONFIG SET maxmemory-policy allkeys-random")
    own_redis.call("CONFIG", "SET", "maxmemory", used_memory(own_redis) + 400_000)
    for round_ in range(6):
        row[0] = f"row {round_} "
        assert work.invalidate_all() is DELIVERED
        for n in range(20):
            assert work(n).startswith(row[0])
    stats = own_redis.call("INFO", "stats").decode()
    assert "evicted_keys:0\r" not in stats


def used_memory(server: RedisServer) -> int:
    text = server.call("INFO", "memory").decode()
    return int(text.partition("used_memory:")[2].split()[0])


@EACH_WAY
def test_while_the_store_is_down_it_is_kept(
    driver: Driver, own_redis: RedisServer, way: str
) -> None:
    config = {"l1_enabled": False, "socket_timeout": 0.2}
    cache = driver.cache(own_redis.url, **config)
    work = driver.work(cache, ttl=600, tags=["t"])
    work(1)
    own_redis.stop()
    assert WAYS[way](driver, cache, work) is QUEUED
    assert work(1)["run"] == 2
    own_redis.cont()
    driver.wait_until(lambda: work(1)["run"] == work.runs and work.runs > 2)
    assert all(own_redis.call("EXISTS", name) for name in versions(work).values())
    runs = work.runs
    driver.wait_until(lambda: work(1)["run"] == work(1)["run"])
    assert work.runs <= runs + 2


def test_an_unlucky_moment_for_everybody(
    driver: Driver, redis_server: RedisServer
) -> None:
    """Threads fill while another invalidates: what is served afterwards is newer."""
    if driver.is_async:
        pytest.skip("threads")
    cache = driver.cache(redis_server.url)
    row = [0]
    work = driver.work(cache, ttl=600)
    work.answer = lambda n: row[0]
    wrong: list[Any] = []
    stop = threading.Event()

    def reader() -> None:
        while not stop.is_set():
            work(1)

    threads = [threading.Thread(target=reader) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for value in range(1, 60):
            row[0] = value
            work.invalidate_all()
            if (found := work(1)) < value:
                wrong.append((found, value))
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_no_fence_is_left_where_nothing_was_stored(
    driver: Driver, redis_server: RedisServer
) -> None:
    work = driver.work(driver.cache(redis_server.url), ttl=600)
    work(1)
    assert redis_server.call("EXISTS", fence_key(work.cached.key_for(1))) == 0
