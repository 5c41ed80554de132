"""Functions whose entries are encrypted behave as all others do."""

from __future__ import annotations

import gc
import os
import pickle
import threading
from pathlib import Path
from typing import Any

import pytest
from driver import Driver, each_driver  # noqa: F401
from leaks import found_in
from peers import Peer
from servers import RedisServer
from vault import FORMER, KEY, entries, the_entry

from cachekit import Cache, CacheConfig, CacheMiss

SECRETS = pytest.mark.parametrize(
    "secrets",
    [{"master_key": KEY}, {"master_key": KEY, "previous_master_keys": [FORMER]}],
    ids=["one key", "rotating"],
)
PLACES = pytest.mark.parametrize(
    ("stored", "l1"), [(False, True), (True, False), (True, True)],
    ids=["memory", "store", "both"],
)  # fmt: skip


@pytest.fixture
def driver(each_driver: Driver) -> Driver:  # noqa: F811
    return each_driver


def made(
    driver: Driver, server: RedisServer, stored: bool, l1: bool, **config: Any
) -> Cache:
    return driver.cache(server.url if stored else None, l1_enabled=l1, **config)


# -- strategies ------------------------------------------------------------------------


@SECRETS
@PLACES
def test_all_strategies(
    driver: Driver,
    redis_server: RedisServer,
    secrets: dict[str, Any],
    stored: bool,
    l1: bool,
) -> None:
    cache = made(driver, redis_server, stored, l1, **secrets)
    work = driver.work(cache, "secure", ttl=600)
    with pytest.raises(CacheMiss):
        work.using("FRESH")(1)
    assert work(1)["run"] == work(1)["run"] == work.using("FRESH")(1)["run"] == 1
    assert work.using("BYPASS")(1)["run"] == 2
    assert work(1)["run"] == work.peek(1)["run"] == 2
    assert work.using("INVALIDATE")(1)["run"] == 3
    assert work.refresh(1)["run"] == work(1)["run"] == 4
    work.put("put", 1)
    assert work(1) == work.entry(1).value == "put"
    work.invalidate(1)
    assert work.entry(1) is None


@SECRETS
@PLACES
def test_stale_while_revalidate(
    driver: Driver,
    redis_server: RedisServer,
    secrets: dict[str, Any],
    stored: bool,
    l1: bool,
) -> None:
    cache = made(driver, redis_server, stored, l1, **secrets)
    work = driver.work(cache, "secure", ttl=0.05, stale_ttl=60, ttl_jitter=0)
    assert work(1)["run"] == 1
    driver.rest(0.08)
    assert work(1)["run"] == 1, "stale, while a refresh runs"
    driver.wait_until(lambda: work.runs == 2)
    driver.wait_until(lambda: work(1)["run"] >= 2)


@SECRETS
@PLACES
def test_stale_on_error(
    driver: Driver,
    redis_server: RedisServer,
    secrets: dict[str, Any],
    stored: bool,
    l1: bool,
) -> None:
    cache = made(driver, redis_server, stored, l1, **secrets)
    work = driver.work(cache, "secure", ttl=0.05, ttl_jitter=0)
    work(1)
    driver.rest(0.08)
    work.error = ValueError()
    assert work(1)["run"] == 1


@SECRETS
def test_early_refresh_versions_and_locks(
    driver: Driver, redis_server: RedisServer, secrets: dict[str, Any]
) -> None:
    cache = driver.cache(redis_server.url, l1_enabled=False, **secrets)
    options = {"name": "versioned", "early_refresh": True, "distributed_lock": True}
    first = driver.work(cache, version=1, **options)
    assert first(1)["run"] == first(1)["run"] == 1
    second = driver.work(driver.cache(redis_server.url, l1_enabled=False, **secrets),
                         version=2, **options)  # fmt: skip
    assert second(1)["run"] == 1 and second.runs == 1
    assert first(1)["run"] == 2, "another version is no value, and keeps its place"
    assert second(1)["run"] == 1 and second.runs == 1


# -- values ----------------------------------------------------------------------------

VALUES = [
    None, True, 0, -(1 << 80), 1.5, "", "text", "ä" * 3000, b"", b"\0" * 100_000,
    [], {}, {"a": [1, (2, 3), {4}, frozenset([5])]}, {"k" * 100: "v" * 100_000},
    list(range(5000)),
]  # fmt: skip


@SECRETS
@PLACES
def test_values_come_back_as_they_went(
    driver: Driver,
    redis_server: RedisServer,
    secrets: dict[str, Any],
    stored: bool,
    l1: bool,
) -> None:
    cache = made(driver, redis_server, stored, l1, **secrets)
    work = driver.work(cache)
    work.answer = lambda n: VALUES[n]
    for _ in range(2):
        for n, value in enumerate(VALUES):
            got = work(n)
            assert got == value and type(got) is type(value)
    assert work.runs == len(VALUES)


def test_each_caller_gets_a_value_of_its_own(driver: Driver) -> None:
    work = driver.work(driver.cache(None, master_key=KEY))
    work.answer = lambda n: {"list": [n]}
    work(1)["list"].append("changed")
    one, two = work(1), work(1)
    one["list"].append("changed")
    assert two == {"list": [1]} == work(1)


class Reversed:
    """A serializer of the user's own."""

    name = "reversed"

    def serialize(self, value: Any) -> bytes:
        return pickle.dumps(value)[::-1]

    def deserialize(self, data: Any) -> Any:
        return pickle.loads(bytes(data)[::-1])


@SECRETS
@PLACES
def test_a_serializer_of_the_users_own(
    driver: Driver,
    redis_server: RedisServer,
    secrets: dict[str, Any],
    stored: bool,
    l1: bool,
) -> None:
    cache = made(driver, redis_server, stored, l1, **secrets)
    work = driver.work(cache, "secure", serializer=Reversed())
    work.answer = lambda n: {"path": Path("/x"), "n": n}
    for _ in range(3):
        assert work(1) == {"path": Path("/x"), "n": 1}
    assert work.runs == 1


def test_what_cannot_be_serialized_is_returned_and_not_stored(
    driver: Driver, redis_server: RedisServer
) -> None:
    work = driver.work(driver.cache(redis_server.url, master_key=KEY), "secure")
    work.answer = lambda n: object()
    assert work(1) is not work(1)
    assert entries(redis_server) == {} and work.info.unencodable == 2


def test_entries_are_compressed_before_they_are_encrypted(
    driver: Driver, redis_server: RedisServer
) -> None:
    work = driver.work(driver.cache(redis_server.url, master_key=KEY, l1_enabled=False))
    work.answer = lambda n: "x" * 100_000
    assert work(1) == work(1) and work.runs == 1
    assert len(the_entry(redis_server)[1]) < 2000


# -- names -----------------------------------------------------------------------------


def test_the_names_of_entries_are_keyed(
    driver: Driver, redis_server: RedisServer
) -> None:
    """Nobody without the key can tell whether the entry of an argument is there."""
    names = set()
    for config in ({}, {"master_key": KEY}, {"master_key": FORMER}):
        cache = driver.cache(redis_server.url, **config)
        work = driver.work(cache, name="guess", tags=["patient:ada"])
        work("a guess")
        names.add(work.key_for("a guess"))
    assert {name[:-64] for name in names} == {"test:guess:"}
    assert len({name[-64:] for name in names}) == 3


def test_memory_knows_entries_by_keyed_digests(driver: Driver) -> None:
    plain = driver.work(driver.cache(None), name="memory")
    keys = {plain.cached._key("argument")}
    for master in (KEY, FORMER):
        work = driver.work(driver.cache(None, master_key=master), name="memory")
        work("argument")
        key = work.cached._key("argument")
        assert len(key) == 32 and b"argument" not in key
        keys.add(key)
    assert len(keys) == 3


@pytest.mark.parametrize("which", [-1, -(10**6), 1, 10**9, (1 << 62) + 1])
def test_there_are_no_other_names(driver: Driver, which: int) -> None:
    work = driver.work(driver.cache(None, master_key=KEY))
    key = work.cached._key(1)
    assert work.cached._store_key(key, 0)
    with pytest.raises(ValueError):
        work.cached._store_key(key, which)
    with pytest.raises(ValueError):
        work.cached._store_key(key[:31], 0)


def test_tags_are_keyed_in_their_version_keys(
    driver: Driver, redis_server: RedisServer
) -> None:
    cache = driver.cache(redis_server.url, master_key=KEY)
    work = driver.work(cache, tags=["patient:ada"])
    work(1)
    assert not [name for name in redis_server.call("KEYS", "*") if b"ada" in name]
    assert redis_server.call("KEYS", "test:tag:*")


def test_tags_reach_functions_that_encrypt_and_those_that_do_not(
    driver: Driver, redis_server: RedisServer
) -> None:
    cache = driver.cache(redis_server.url, master_key=KEY)
    other = driver.work(cache, master_key=FORMER, tags=["patient:ada"])
    works = [
        driver.work(cache, tags=["patient:ada"]),
        driver.work(cache, tags=lambda n: ["patient:ada"]),
        driver.work(cache, "local", tags=["patient:ada"]),
        driver.work(cache, backend=None, tags=["patient:ada"]),
        other,
    ]
    with redis_server.client() as ear:
        ear.call("PSUBSCRIBE", "*")
        for tags in ((), ("patient:ada",)):
            if tags:
                name = "ainvalidate_tags" if driver.is_async else "invalidate_tags"
                driver.finish(getattr(cache, name)(*tags))
            for work in works:
                assert work(1)["run"] == work(1)["run"] == 1 + len(tags)
        redis_server.call("PUBLISH", "last", "the end")
        while (message := ear.read())[2] != b"last":
            assert b"patient" not in message[3]
    plain = driver.work(cache, encryption=False, tags=["patient:ada"])
    plain(1)
    driver.finish(getattr(cache, name)("patient:ada"))
    assert plain(1)["run"] == 2


# -- memory ----------------------------------------------------------------------------


class Holder:
    """A process that keeps values in memory, and no reference to any of them."""

    def __init__(self, url: str | None, config: dict[str, Any], mark: str) -> None:
        cache = Cache(CacheConfig(namespace="test", **config), backend=url)

        @cache(ttl=600)
        def work(n: int) -> dict[str, Any]:
            # 200 of them: what a free list keeps by chance is one or two.
            return {"n": n, "value": f"{mark}-needle-{n:04d}"}

        self.work = work

    def fill(self) -> None:
        for n in range(200):
            self.work(n)


@pytest.mark.no_sanitizer
@pytest.mark.parametrize("stored", [False, True], ids=["backend=None", "with a store"])
def test_memory_holds_ciphertext(redis_server: RedisServer, stored: bool) -> None:
    """Values that nobody holds are in memory of a process that encrypts only by
    chance, where it has just been at work; in that of another one they are there."""
    url = redis_server.url if stored else None
    mark = os.urandom(8).hex()
    for config, least, most in (({"master_key": KEY}, 0, 8), ({}, 200, 200)):
        with Peer(lambda config=config: Holder(url, config, mark)) as peer:
            peer.call("fill")
            found = set(found_in(peer.pid, mark.encode() + rb"-needle-\d{4}"))
            assert least <= len(found) <= most, f"{len(found)} values"


# -- odd ways of using it --------------------------------------------------------------


class Meddling:
    """A serializer that uses the function while the function uses it."""

    name = "meddling"

    def __init__(self) -> None:
        self.meddle: Any = None

    def serialize(self, value: Any) -> bytes:
        return pickle.dumps(value)

    def deserialize(self, data: Any) -> Any:
        meddle, self.meddle = self.meddle, None
        if meddle is not None:
            meddle()
        return pickle.loads(data)


@PLACES
def test_a_serializer_that_invalidates_what_it_reads(
    redis_server: RedisServer, stored: bool, l1: bool
) -> None:
    driver, meddling = Driver(), Meddling()
    cache = made(driver, redis_server, stored, l1, master_key=KEY)
    work = driver.work(cache, serializer=meddling)
    work.answer = lambda n: "v" * 300_000  # so that it is decrypted without the GIL
    for meddle in (
        lambda: work.invalidate(1),
        lambda: work.cached.cache_clear(),
        lambda: work.put("other", 1),
        lambda: cache.clear(),
        gc.collect,
    ):
        work(1)
        meddling.meddle = meddle
        assert work(1) == "v" * 300_000
        work.invalidate(1)
    driver.close()


def test_functions_that_go_while_they_are_used() -> None:
    """The last reference of a thread is the call itself; its keys go with it."""
    cache = Cache(CacheConfig(master_key=os.urandom(32).hex()), backend=None)

    def use() -> None:
        for n in range(30):
            function = cache(lambda n: b"x" * 300_000)
            function(n), function(n)
            del function

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


@PLACES
def test_big_values_in_many_threads(
    redis_server: RedisServer, stored: bool, l1: bool
) -> None:
    """Encryption of these happens without the GIL."""
    driver = Driver()
    cache = made(driver, redis_server, stored, l1, master_key=KEY, compress_min=10**9)
    work = driver.work(cache, tenant=lambda n: f"t{n % 3}")
    work.answer = lambda n: bytes((n,)) * 400_000

    def use() -> None:
        for n in range(24):
            assert work(n) == bytes((n,)) * 400_000
            if n % 5 == 0:
                work.invalidate(n - 1)

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert work.info.errors == 0
    driver.close()
