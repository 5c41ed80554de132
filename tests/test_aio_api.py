"""cachekit.aio: the same cache with awaitable methods under the plain names."""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from servers import RedisServer

import cachekit
from cachekit import CacheConfig, Invalidation, SerializationError
from cachekit.aio import Cache, cached
from cachekit.backends import MemoryBackend

#: Methods that wait for nothing and are plain calls in both.
PLAIN = {"disabled", "minimal", "production", "secure", "dev", "test", "local"}


def run(main: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    return asyncio.run(main())


def public(kind: type) -> set[str]:
    return {name for name in vars(kind) if not name.startswith("_")}


def test_every_method_of_the_blocking_cache_is_here() -> None:
    blocking = public(cachekit.Cache)
    twins = {name for name in blocking if name[1:] in blocking and name[0] == "a"}
    assert public(Cache) - {"blocking"} == blocking - twins
    assert {name[1:] for name in twins} == blocking - twins - PLAIN - {"config"}


def test_what_may_do_io_is_a_coroutine_function() -> None:
    for name in public(Cache) - PLAIN - {"config", "blocking"}:
        assert inspect.iscoroutinefunction(getattr(Cache, name)), name


def test_signatures_are_those_of_the_blocking_cache() -> None:
    for name in public(Cache) - {"config", "blocking"}:
        mine = inspect.signature(getattr(Cache, name))
        theirs = inspect.signature(getattr(cachekit.Cache, name))
        assert list(mine.parameters.values()) == list(theirs.parameters.values()), name


def test_named_entries() -> None:
    async def main() -> None:
        cache = Cache(backend=None)
        await cache.set("a", {"x": 1}, ttl=60)
        await cache.set_many({"b": 2, "c": 3})
        assert await cache.get("a") == {"x": 1}
        assert await cache.get("absent", 7) == 7
        assert await cache.get_many(["a", "b", "absent"]) == {"a": {"x": 1}, "b": 2}
        assert await cache.delete("a") is Invalidation.DELIVERED
        assert await cache.get("a") is None
        await cache.clear()
        assert await cache.get("b") is None
        with pytest.raises(SerializationError):
            await cache.set("a", object())

    run(main)


def test_it_invalidates_many_at_once() -> None:
    async def main() -> None:
        cache = Cache(backend=None)
        runs = []

        @cached(cache=cache, tags=["a"])
        async def work(number: int) -> int:
            runs.append(number)
            return number

        await work(1)
        assert await cache.invalidate_tags("a") is Invalidation.DELIVERED
        await work(1)
        assert await cache.clear(namespace="elsewhere") is Invalidation.DELIVERED
        await work(1)
        assert await cache.clear() is Invalidation.DELIVERED
        await work(1)
        assert runs == [1, 1, 1]

    run(main)


def test_it_decorates_with_and_without_parentheses() -> None:
    async def main() -> None:
        cache = Cache(backend=None)
        runs = []

        async def work(number: int) -> int:
            runs.append(number)
            return number

        for decorate in (cache, cache(), cache(ttl=60), cache.minimal, cache.test()):
            runs.clear()
            decorated = decorate(work)
            assert await decorated(1) == await decorated(1) == 1
            assert runs == [1]

    run(main)


def test_an_unknown_keyword_is_refused() -> None:
    with pytest.raises(TypeError, match="ttl"):
        cached(cache=Cache(backend=None), tll=3)


def test_cached_takes_a_cache_of_either_kind_or_the_default() -> None:
    async def work() -> object:
        return {}

    for cache in (Cache(backend=None), cachekit.Cache(backend=None), None):
        decorated = cached(cache=cache, ttl=60)(work)
        assert decorated._plan is None  # nothing is read at decoration
        run(decorated)
        owner = decorated._plan.cache
        assert owner is getattr(cache, "blocking", cache or cachekit.cache)
    assert inspect.iscoroutinefunction(cached(work))


def test_cached_refuses_what_is_no_cache() -> None:
    with pytest.raises(TypeError, match="cache must be a Cache, not dict"):
        cached(cache={})  # type: ignore[arg-type]


def test_both_kinds_share_entries() -> None:
    cache = Cache(backend=None)
    cache.blocking.set("key", 1)

    async def main() -> None:
        assert await cache.get("key") == 1
        with cache.disabled():
            assert await cache.get("key") is None

    run(main)


def test_health() -> None:
    async def main() -> None:
        cache = Cache(backend=MemoryBackend())
        details = await cache.detailed_health_check()
        assert details["circuit_breaker"]["state"] == "closed"
        assert details["circuit_breaker"]["failure_count"] == 0
        assert await cache.ping() is True
        assert await cache.health_check() is True

    run(main)


def test_leaving_the_block_closes_the_connections(redis_server: RedisServer) -> None:
    async def main() -> None:
        config = CacheConfig(redis_url=redis_server.url, namespace="test")
        async with Cache(config) as cache:
            await cache.set("key", 1)
            details = await cache.detailed_health_check()
            assert details["pool"]["asyncio"]["size"] == 1
        details = await cache.detailed_health_check()
        assert details["pool"]["asyncio"]["size"] == 1  # a new one
        await cache.close()

    run(main)


def test_the_repr_tells_the_stores_and_no_password() -> None:
    cache = Cache(CacheConfig(redis_url="redis://:hunter2@h:1", namespace="test"))
    cache.blocking._mine()
    assert repr(cache) == "<cachekit.aio.Cache on h:1>"


def test_it_is_imported_when_it_is_used(tmp_path: Path) -> None:
    program = (
        "import sys, cachekit\n"
        "assert 'cachekit.aio' not in sys.modules\n"
        "assert 'asyncio' not in sys.modules\n"
        "assert cachekit.aio.Cache and cachekit.health.report\n"
        "assert cachekit.serializers and cachekit.core and cachekit.backends\n"
        "try: cachekit.nothing\n"
        "except AttributeError: pass\n"
        "else: raise AssertionError\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)


# -- the patterns that async programs use ---------------------------------------------


class Data:
    """Where values come from; ``down`` makes it fail."""

    def __init__(self) -> None:
        self.runs = 0
        self.down = False

    async def fetch(self, *key: Any) -> dict[str, Any]:
        self.runs += 1
        await asyncio.sleep(0)
        if self.down:
            raise RuntimeError("DB is down")
        return {"key": key, "run": self.runs}


def test_a_store_that_is_down_is_not_felt() -> None:
    db, cache = (
        Data(),
        Cache(CacheConfig(redis_url="redis://127.0.0.1:1", namespace="test")),
    )

    @cached(cache=cache, ttl=300)
    async def get_user(number: int) -> Any:
        return await db.fetch(number)

    async def main() -> None:
        assert (await get_user(42))["key"] == (42,)
        with patch.object(cache, "get", side_effect=ConnectionError("down")):
            assert await get_user(42) is not None

    run(main)


def test_fifty_requests_are_one_run() -> None:
    db, cache = Data(), Cache(backend=None)

    @cached(cache=cache, ttl=300, single_flight=True)
    async def get(number: int) -> Any:
        return await db.fetch(number)

    async def main() -> None:
        values = await asyncio.gather(*(get(1) for _ in range(50)))
        assert all(value == values[0] for value in values)
        assert db.runs == 1

    run(main)


def test_a_named_entry_stands_in_for_a_database_that_is_down() -> None:
    db, cache = Data(), Cache(backend=None)

    @cached(
        cache=cache,
        ttl=300,
        stale_ttl=60,
        serve_stale_on_error=True,
        single_flight=True,
        full_key=lambda number: f"product:{number}",
    )
    async def get_product(number: str) -> Any:
        return await db.fetch(number)

    async def main() -> None:
        await cache.set("product:1", {"name": "Widget"}, ttl=300)
        db.down = True
        assert (await get_product("1"))["name"] == "Widget"
        with pytest.raises(RuntimeError, match="DB is down"):
            await get_product("2")

    run(main)


def test_every_setting_of_a_hardened_program_is_taken(
    redis_server: RedisServer,
) -> None:
    config = CacheConfig(
        redis_url=redis_server.url,
        namespace="test",
        connection_retries=3,
        retry_delay=0.1,
        enable_circuit_breaker=True,
        circuit_breaker_failure_threshold=5,
        circuit_breaker_timeout=60.0,
        connection_pool_kwargs={
            "socket_keepalive": True,
            "retry_on_timeout": True,
            "health_check_interval": 30,
        },
        fallback_enabled=True,
    )

    async def main() -> None:
        async with Cache(config) as cache:
            await cache.set("key", 1)
            assert await cache.get("key") == 1
            details = await cache.detailed_health_check()
            assert details["circuit_breaker"]["state"] == "closed"

    run(main)
