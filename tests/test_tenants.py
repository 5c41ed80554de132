"""Tenants: one never reads what is another's, encrypted or not."""

from __future__ import annotations

import asyncio
import random
import threading
from contextvars import ContextVar, copy_context
from typing import Any

import pytest
from driver import Driver, each_driver  # noqa: F401
from peers import Peer
from servers import RedisServer
from vault import FORMER, KEY, entries

from cachekit import Cache, CacheConfig, CacheKitError, Invalidation

who: ContextVar[str] = ContextVar("who", default="nobody")

SECRETS = pytest.mark.parametrize(
    "secrets",
    [{}, {"master_key": KEY}, {"master_key": KEY, "previous_master_keys": [FORMER]}],
    ids=["plain", "encrypted", "rotating"],
)
TIERS = pytest.mark.parametrize("tier", ["memory", "store", "both"])


@pytest.fixture
def driver(each_driver: Driver) -> Driver:  # noqa: F811
    return each_driver


def of_tier(driver: Driver, server: RedisServer, tier: str, **config: Any) -> Cache:
    url = None if tier == "memory" else server.url
    return driver.cache(url, l1_enabled=tier != "store", **config)


# -- the three ways to say it ----------------------------------------------------------


@SECRETS
@TIERS
def test_a_text(
    driver: Driver, redis_server: RedisServer, tier: str, secrets: dict[str, Any]
) -> None:
    cache = of_tier(driver, redis_server, tier, **secrets)
    blue, green, nobody = (
        driver.work(cache, name="text", **({"tenant": name} if name else {}))
        for name in ("blue", "green", None)
    )
    for work in (blue, green, nobody):
        work.answer = lambda n, work=work: [n, id(work)]
        assert work(1) == work(1) == [1, id(work)]
        assert work.runs == 1


@SECRETS
@TIERS
def test_a_function_of_the_arguments(
    driver: Driver, redis_server: RedisServer, tier: str, secrets: dict[str, Any]
) -> None:
    """Also where the tenant is no part of the key."""
    cache = of_tier(driver, redis_server, tier, **secrets)
    runs: list[tuple[str, int]] = []

    def run(customer: str, n: int) -> list[Any]:
        runs.append((customer, n))
        return [customer, n]

    async def coroutine(customer: str, n: int) -> list[Any]:
        return run(customer, n)

    cached = cache(
        name="arguments", ignore="customer", tenant=lambda customer, n: customer
    )(coroutine if driver.is_async else run)
    for _ in range(2):
        for customer in ("a", "b", "default", "", "ü" * 300, "a@b:c{d}"):
            got = driver.finish(cached(customer, 1))
            assert got == [customer, 1]
    assert len(runs) == 6


@SECRETS
@TIERS
def test_a_context_variable(
    driver: Driver, redis_server: RedisServer, tier: str, secrets: dict[str, Any]
) -> None:
    cache = of_tier(driver, redis_server, tier, tenant=who, **secrets)
    work = driver.work(cache)
    work.answer = lambda n: [who.get(), n]
    for _ in range(2):
        for name in ("a", "b", "c"):
            token = who.set(name)
            assert work(1) == [name, 1]
            who.reset(token)
    assert work(1) == ["nobody", 1] and work.runs == 4


def test_a_context_variable_without_a_value_is_an_error(driver: Driver) -> None:
    empty: ContextVar[str] = ContextVar("empty")
    work = driver.work(driver.cache(None, tenant=empty))
    with pytest.raises(LookupError):
        work(1)
    assert work.runs == 0


@pytest.mark.parametrize("tenant", [None, 7, b"bytes"], ids=repr)
def test_what_is_no_text_is_no_tenant(driver: Driver, tenant: Any) -> None:
    work = driver.work(driver.cache(None), tenant=lambda n: tenant)
    with pytest.raises(TypeError, match="tenant"):
        work(1)
    assert work.runs == 0


@SECRETS
@pytest.mark.parametrize("l1", [True, False], ids=["memory", "store"])
def test_a_tenant_that_cannot_be_encoded_is_an_error_and_no_run(
    driver: Driver, redis_server: RedisServer, secrets: dict[str, Any], l1: bool
) -> None:
    cache = driver.cache(redis_server.url, l1_enabled=l1, **secrets)
    work = driver.work(cache, tenant=lambda n: "\ud800")
    for job in (work, work.invalidate, work.refresh, work.peek, work.key_for):
        with pytest.raises(UnicodeEncodeError):
            job(1)
    assert work.runs == 0
    with pytest.raises((ValueError, CacheKitError)):
        driver.work(cache, tenant="\ud800")(1)


@pytest.mark.parametrize("size", [65_535, 65_536])
def test_the_longest_tenant_and_one_more_byte(
    driver: Driver, redis_server: RedisServer, size: int
) -> None:
    """65,535 bytes fit into what encryption binds an entry to."""
    cache = driver.cache(redis_server.url, master_key=KEY)
    work = driver.work(cache, tenant=lambda n: "t" * size)
    if size == 65_535:
        assert work(1) == work(1) == {"n": 1, "run": 1}
        return
    with pytest.raises(OverflowError):
        work(1)
    assert work.runs == 0


def test_long_tenants_without_encryption(
    driver: Driver, redis_server: RedisServer
) -> None:
    cache = driver.cache(redis_server.url, l1_enabled=False)
    work = driver.work(
        cache, tenant=lambda n: "t" * 100_000 + str(n % 2), key=lambda n: 0
    )
    assert [work(n)["n"] for n in (0, 1, 2, 3)] == [0, 1, 0, 1]
    assert all(len(name) <= 246 for name in entries(redis_server))


# -- names -----------------------------------------------------------------------------


@SECRETS
def test_the_tenant_is_in_the_name_and_in_its_digits(
    driver: Driver, redis_server: RedisServer, secrets: dict[str, Any]
) -> None:
    cache = driver.cache(redis_server.url, **secrets)
    driver.work(cache, name="named", tenant="blue")(1)
    driver.work(cache, name="named", tenant=lambda n: "blue")(1)
    driver.work(cache, name="named", tenant="green")(1)
    driver.work(cache, name="named")(1)
    names = list(entries(redis_server))
    starts = {name[: -len("0" * 64)] for name in names}
    assert {"test:@blue:named:", "test:@green:named:", "test:named:"} == starts
    assert len({name[-64:] for name in names}) == len(names)


@SECRETS
@pytest.mark.parametrize("tenant", ["blue", "default"])
def test_a_tenant_given_as_text_or_by_a_function_is_one(
    driver: Driver, redis_server: RedisServer, secrets: dict[str, Any], tenant: str
) -> None:
    """So a program may be changed from one to the other under a warm cache."""
    one, two = (
        driver.cache(redis_server.url, l1_enabled=False, **secrets) for _ in range(2)
    )
    text = driver.work(one, name="same", tenant=tenant)
    asked = driver.work(two, name="same", tenant=lambda n: tenant)
    assert text(1)["run"] == 1 and text.key_for(1) == asked.key_for(1)
    assert asked(1)["run"] == 1 and asked.runs == 0
    asked(2)
    assert text(2)["run"] == 1 and text.runs == 1
    asked.put("put", 1)
    assert text(1) == "put"


# -- invalidation ----------------------------------------------------------------------


@SECRETS
@TIERS
@pytest.mark.parametrize("method", ["invalidate", "put"])
def test_one_entry_of_one_tenant(
    driver: Driver,
    redis_server: RedisServer,
    tier: str,
    secrets: dict[str, Any],
    method: str,
) -> None:
    cache = of_tier(driver, redis_server, tier, tenant=who, **secrets)
    work = driver.work(cache)
    for name in ("a", "b"):
        who.set(name)
        work(1)
    if method == "invalidate":
        assert work.invalidate(1) is Invalidation.DELIVERED
    else:
        work.put("put", 1)
    who.set("a")
    assert work(1)["run"] == 1
    who.set("b")
    assert work(1) == ({"n": 1, "run": 3} if method == "invalidate" else "put")
    who.set("nobody")


@SECRETS
@TIERS
@pytest.mark.parametrize("how", ["invalidate_all", "tags", "clear"])
@pytest.mark.parametrize("kind", ["text", "variable"])
def test_all_tenants_at_once(
    driver: Driver,
    redis_server: RedisServer,
    tier: str,
    secrets: dict[str, Any],
    how: str,
    kind: str,
) -> None:
    cache = of_tier(driver, redis_server, tier, **secrets)
    if kind == "text":
        works = [
            driver.work(cache, name="all", tenant=name, tags=["t"]) for name in "abc"
        ]
    else:
        works = [driver.work(cache, name="all", tenant=who, tags=["t"])] * 3
    for name, work in zip("abc", works, strict=True):
        who.set(name)
        work(1)
    if how == "invalidate_all" and kind == "variable":
        assert works[0].invalidate_all() is Invalidation.DELIVERED
    elif how == "tags":
        assert cache.invalidate_tags("t") is Invalidation.DELIVERED
    elif how == "clear":
        assert cache.clear() is Invalidation.DELIVERED
    else:
        for work in works:
            assert work.invalidate_all() is Invalidation.DELIVERED
    runs = sum(work.runs for work in set(works))
    for name, work in zip("abc", works, strict=True):
        who.set(name)
        work(1)
    assert sum(work.runs for work in set(works)) == 2 * runs == 6
    who.set("nobody")


@SECRETS
def test_invalidate_all_reaches_tenants_that_are_given_as_text(
    driver: Driver, redis_server: RedisServer, secrets: dict[str, Any]
) -> None:
    cache = driver.cache(redis_server.url, **secrets)
    blue, green = (driver.work(cache, name="all", tenant=t) for t in ("blue", "green"))
    blue(1), green(1)
    assert blue.invalidate_all() is Invalidation.DELIVERED
    assert blue(1)["run"] == 2
    assert green(1)["run"] == 2


class Program:
    """Another process."""

    def __init__(self, url: str, secrets: dict[str, Any]) -> None:
        self.cache = Cache(CacheConfig(namespace="test", **secrets), backend=url)
        self.runs = 0

        @self.cache(name="shared", tenant=lambda n, tenant: tenant, ignore="tenant")
        def shared(n: int, tenant: str) -> list[Any]:
            self.runs += 1
            return [tenant, n, self.runs]

        self.shared = shared

    def read(self, n: int, tenant: str) -> list[Any]:
        value: list[Any] = self.shared(n, tenant)
        assert value[:2] == [tenant, n]
        return value

    def invalidate(self, n: int, tenant: str) -> None:
        self.shared.invalidate(n, tenant)


@SECRETS
def test_memory_of_another_process_loses_only_the_tenants_entry(
    redis_server: RedisServer, secrets: dict[str, Any]
) -> None:
    driver = Driver()
    with Peer(lambda: Program(redis_server.url, secrets)) as peer:
        here = Program(redis_server.url, secrets)
        for tenant in ("a", "b"):
            assert peer.call("read", 1, tenant) == here.read(1, tenant)
        here.invalidate(1, "a")
        assert here.read(1, "a") == ["a", 1, 1]
        driver.wait_until(lambda: peer.call("read", 1, "a") == ["a", 1, 1])
        hits = here.shared.cache_info().l1_hits
        assert here.read(1, "b") == ["b", 1, 2]
        assert here.shared.cache_info().l1_hits == hits + 1
        here.cache.close()


# -- many at once ----------------------------------------------------------------------

MANY = 400


@SECRETS
@TIERS
@pytest.mark.parametrize("kind", ["arguments", "variable"])
def test_threads_of_different_tenants_never_see_each_other(
    redis_server: RedisServer, tier: str, secrets: dict[str, Any], kind: str
) -> None:
    driver = Driver()
    cache = of_tier(driver, redis_server, tier, **secrets)
    crossed: list[Any] = []

    @cache(
        tenant=who if kind == "variable" else (lambda tenant, n: tenant),
        ignore="tenant",
        ttl=0.05,
        stale_ttl=60,
    )
    def shared(tenant: str, n: int) -> list[Any]:
        return [tenant, n]

    def work(tenant: str) -> None:
        who.set(tenant)
        chance = random.Random(tenant)
        for _ in range(MANY):
            n = chance.randrange(3)
            got = shared(tenant, n)
            if got != [tenant, n]:
                crossed.append((tenant, got))
            if chance.random() < 0.05:
                shared.invalidate(tenant, n)

    threads = [
        threading.Thread(target=copy_context().run, args=(work, f"tenant {i}"))
        for i in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert crossed == []
    driver.close()


@SECRETS
@TIERS
def test_tasks_of_different_tenants_never_see_each_other(
    redis_server: RedisServer, tier: str, secrets: dict[str, Any]
) -> None:
    """They share a loop, single flights, and background refreshes."""
    driver = Driver()
    cache = of_tier(driver, redis_server, tier, **secrets)

    @cache(tenant=who, ttl=0.02, stale_ttl=60)
    async def shared(n: int) -> list[Any]:
        before = who.get()
        await asyncio.sleep(0)
        return [before, n]

    async def work(tenant: str) -> None:
        who.set(tenant)
        for n in range(MANY):
            assert await shared(n % 3) == [tenant, n % 3]
            if n % 50 == 0:
                await shared.invalidate(n % 3)

    async def main() -> None:
        await asyncio.gather(*(work(f"tenant {i}") for i in range(6)))
        await cache.aclose()

    asyncio.run(main())
    driver.close()


@SECRETS
@TIERS
def test_a_background_refresh_runs_for_the_tenant_of_the_caller(
    driver: Driver, redis_server: RedisServer, tier: str, secrets: dict[str, Any]
) -> None:
    cache = of_tier(driver, redis_server, tier, **secrets)
    work = driver.work(cache, tenant=who, ttl=0.03, stale_ttl=60)
    work.answer = lambda n: [who.get(), work.runs]
    for tenant in ("a", "b"):
        who.set(tenant)
        work(1)
    driver.rest(0.05)
    for _ in range(3):
        for tenant in ("a", "b"):
            who.set(tenant)
            assert work(1)[0] == tenant
        driver.rest(0.04)
    assert work.runs > 2
    for tenant in ("a", "b"):
        who.set(tenant)
        assert work(1)[0] == tenant
    who.set("nobody")
