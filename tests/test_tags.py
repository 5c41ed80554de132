"""Tags: entries that are invalidated together, in every process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from driver import Driver, each_driver  # noqa: F401
from peers import Peer
from proxy import Proxy
from servers import RedisServer

from cachekit import Cache, CacheConfig, ConfigurationError, Invalidation
from cachekit._versions import tag_key

DELIVERED = Invalidation.DELIVERED


@pytest.fixture
def driver(each_driver: Driver) -> Driver:  # noqa: F811
    return each_driver


@pytest.fixture
def elsewhere() -> Iterator[Driver]:
    """Another program."""
    driver = Driver()
    yield driver
    driver.close()


def invalidate(driver: Driver, cache: Cache, *tags: str, **where: Any) -> Any:
    method = cache.ainvalidate_tags if driver.is_async else cache.invalidate_tags
    return driver.finish(method(*tags, **where))


def where(kind: str, redis_server: RedisServer) -> Any:
    return None if kind == "memory" else redis_server.url


KINDS = pytest.mark.parametrize(
    ("kind", "l1"), [("memory", True), ("store", False), ("both", True)],
    ids=["memory", "store", "both"],
)  # fmt: skip


@KINDS
def test_a_static_tag(
    driver: Driver, redis_server: RedisServer, kind: str, l1: bool
) -> None:
    cache = driver.cache(where(kind, redis_server), l1_enabled=l1)
    tagged = driver.work(cache, ttl=600, tags=["users"])
    plain = driver.work(cache, ttl=600)
    assert [tagged(1), tagged(1), plain(1)] == [{"n": 1, "run": 1}] * 3
    assert invalidate(driver, cache, "users") is DELIVERED
    assert tagged(1)["run"] == tagged(1)["run"] == 2
    assert plain(1)["run"] == 1


@KINDS
def test_tags_of_the_arguments(
    driver: Driver, redis_server: RedisServer, kind: str, l1: bool
) -> None:
    cache = driver.cache(where(kind, redis_server), l1_enabled=l1)
    work = driver.work(cache, ttl=600, tags=lambda n: [f"user:{n}", "users"])
    for n in range(4):
        work(n)
    assert invalidate(driver, cache, "user:2") is DELIVERED
    assert [work(n)["run"] for n in range(4)] == [1, 2, 5, 4]
    assert invalidate(driver, cache, "users") is DELIVERED
    assert [work(n)["run"] for n in range(4)] == [6, 7, 8, 9]
    assert [work(n)["run"] for n in range(4)] == [6, 7, 8, 9]


@pytest.mark.parametrize("computed", [False, True], ids=["static", "computed"])
def test_every_process_hears(
    driver: Driver, elsewhere: Driver, redis_server: RedisServer, computed: bool
) -> None:
    tags: Any = (lambda n: ["users"]) if computed else ["users"]
    options = {"name": "user", "ttl": 600, "tags": tags}
    ours = driver.work(driver.cache(redis_server.url), **options)
    their_cache = elsewhere.cache(redis_server.url)
    theirs = elsewhere.work(their_cache, **options)
    assert ours(1)["run"] == 1
    assert theirs(1)["run"] == 1
    assert theirs.runs == 0
    assert their_cache.invalidate_tags("users") is DELIVERED
    driver.wait_until(lambda: ours(1)["run"] == 2, seconds=2.0)
    assert theirs(1)["run"] == 2
    assert theirs.runs == 0


class Users:
    def __init__(self, url: str) -> None:
        self.cache = Cache(CacheConfig(namespace="shop"), backend=url)
        self.runs = 0

        @self.cache(name="user", ttl=600, tags=lambda n: [f"user:{n}"])
        def user(n: int) -> int:
            self.runs += 1
            return n

        self.user = user

    def read(self, n: int) -> int:
        self.user(n)
        return self.runs

    def invalidate(self, tag: str) -> str:
        return self.cache.invalidate_tags(tag).name


def test_processes_that_fork(redis_server: RedisServer) -> None:
    url = redis_server.url
    with Peer(lambda: Users(url)) as one, Peer(lambda: Users(url)) as two:
        assert one.call("read", 1) == 1
        assert two.call("read", 1) == 0
        assert one.call("read", 2) == 2
        assert two.call("invalidate", "user:1") == "DELIVERED"
        deadline = time.monotonic() + 2.0
        while one.call("read", 1) == 2:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        assert one.call("read", 2) == 3
        assert two.call("read", 1) == 0


def test_a_tag_reaches_all_functions_that_carry_it(
    driver: Driver, redis_server: RedisServer
) -> None:
    cache = driver.cache(redis_server.url)
    works = [
        driver.work(cache, ttl=600, tags=["a", "b"]),
        driver.work(cache, ttl=600, tags=lambda n: ["b", "c"]),
        driver.work(cache, ttl=600, tags=["c"]),
    ]
    for tag, runs in (("a", [2, 1, 1]), ("b", [3, 2, 1]), ("c", [3, 3, 2])):
        for work in works:
            work(1)
        invalidate(driver, cache, tag)
        assert [work(1)["run"] for work in works] == runs


def test_many_tags_at_once(driver: Driver, redis_server: RedisServer) -> None:
    cache = driver.cache(redis_server.url)
    work = driver.work(cache, ttl=600, tags=lambda n: [f"user:{n}"])
    for n in range(4):
        work(n)
    assert invalidate(driver, cache, "user:0", "user:3") is DELIVERED
    assert [work(n)["run"] for n in range(4)] == [5, 2, 3, 6]


def test_a_namespace_keeps_its_tags_to_itself(
    driver: Driver, redis_server: RedisServer
) -> None:
    cache = driver.cache(redis_server.url)
    here = driver.work(cache, ttl=600, tags=["users"])
    there = driver.work(cache, ttl=600, tags=["users"], namespace="other")
    here(1), there(1)
    invalidate(driver, cache, "users", namespace="other")
    assert (here(1)["run"], there(1)["run"]) == (1, 2)
    invalidate(driver, cache, "users")
    assert (here(1)["run"], there(1)["run"]) == (2, 3)


def test_a_tag_that_nobody_carries(driver: Driver, redis_server: RedisServer) -> None:
    cache = driver.cache(redis_server.url)
    work = driver.work(cache, ttl=600, tags=["users"])
    work(1)
    assert invalidate(driver, cache, "nobody") is DELIVERED
    assert work(1)["run"] == 1


def test_not_with_a_name_that_others_read_without_them(
    driver: Driver, redis_server: RedisServer
) -> None:
    """``cache.get("u:1")`` could not know the tags."""
    cache = driver.cache(redis_server.url)
    work = driver.work(cache, ttl=600, full_key=lambda n: f"u:{n}", tags=["users"])
    with pytest.raises(ConfigurationError, match="full_key"):
        work(1)


HOSTILE = [
    "a b",
    "a:b",
    "a{b}c",
    "*",
    "[x]?",
    "../..",
    "ключ",
    "'; FLUSHALL; --",
    "x" * 200,
    "é" * 100,
    "%s %d {0}",
]


@pytest.mark.parametrize("tag", HOSTILE)
def test_any_printable_text_is_a_tag(
    driver: Driver, redis_server: RedisServer, tag: str
) -> None:
    cache = driver.cache(redis_server.url)
    work = driver.work(cache, ttl=600, tags=lambda n: [tag, "other"])
    near = driver.work(cache, ttl=600, tags=[tag[:-1] + "!"])
    assert work(1)["run"] == work(1)["run"] == near(1)["run"] == 1
    invalidate(driver, cache, tag)
    assert work(1)["run"] == 2
    assert near(1)["run"] == 1


@pytest.mark.parametrize(
    "tag", ["", "x" * 201, "é" * 101, "a\nb", "a\0b", "\ud800", 5, None, b"users"]
)
def test_anything_else_is_refused(
    driver: Driver, redis_server: RedisServer, tag: Any
) -> None:
    cache = driver.cache(redis_server.url)
    with pytest.raises((ValueError, TypeError)):
        driver.work(cache, tags=[tag])
    with pytest.raises((ValueError, TypeError)):
        invalidate(driver, cache, tag)
    work = driver.work(cache, tags=lambda n: [tag])
    with pytest.raises((ValueError, TypeError)):
        work(1)
    assert work.runs == 0


def test_a_callable_that_raises_reaches_the_caller(
    driver: Driver, redis_server: RedisServer
) -> None:
    work = driver.work(driver.cache(redis_server.url), tags=lambda n: [1 / n])
    with pytest.raises(ZeroDivisionError):
        work(0)


@pytest.mark.parametrize("computed", [False, True], ids=["static", "computed"])
def test_a_tagged_hit_is_one_round_trip(
    driver: Driver, proxy: Proxy, computed: bool
) -> None:
    """With the numbers of function, namespace and four tags; a miss takes three."""
    names = ["a", "b", "c", "d"]
    tags: Any = (lambda n: names) if computed else names
    cache = driver.cache(proxy.url, l1_enabled=False)
    work = driver.work(cache, ttl=600, tags=tags)
    trips = counter(proxy)
    work(1), work(1)  # connected, scripts known
    trips()
    work(1)
    assert trips() == 1
    work(2)
    assert trips() == 3


def test_an_invalidation_is_one_round_trip(driver: Driver, proxy: Proxy) -> None:
    cache = driver.cache(proxy.url, l1_enabled=False)
    work = driver.work(cache, ttl=600, tags=["a", "b", "c"])
    work(1)
    invalidate(driver, cache, "a", "b", "c")
    trips = counter(proxy)
    invalidate(driver, cache, "a", "b", "c")
    assert trips() == 1


def counter(proxy: Proxy) -> Callable[[], int]:
    """How many round trips there were since it was asked last."""
    before = [proxy.round_trips]

    def trips() -> int:
        before.append(proxy.round_trips)
        return before[-1] - before[-2]

    return trips


def test_no_set_of_entries_is_kept(driver: Driver, redis_server: RedisServer) -> None:
    """A tag is one key in the store, however many entries carry it."""
    cache = driver.cache(redis_server.url)
    work = driver.work(cache, ttl=600, tags=["users"])
    work(0)
    before = redis_server.call("DBSIZE")
    for n in range(1, 20):
        work(n)
    assert redis_server.call("DBSIZE") == before + 19
    key = tag_key("test", "users")
    assert redis_server.call("TYPE", key) == "string"
    assert redis_server.call("STRLEN", key) == 16
    assert 600_000 < redis_server.call("PTTL", key) <= 600_000 + 3_600_000
