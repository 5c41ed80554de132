# SPDX-License-Identifier: MIT
"""What a type checker must make of cachekit: checked by mypy and pyright, not run.

``assert_type`` holds what must be inferred; a line with ``type: ignore`` must be an
error (an ignore that nothing needs is one itself).
"""

from __future__ import annotations

from collections.abc import Awaitable
from datetime import timedelta

from typing_extensions import assert_type

import cachekit
from cachekit import (
    CacheConfig,
    CacheInfo,
    Entry,
    Invalidation,
    Strategy,
    aio,
    cache,
)
from cachekit.core import generate_cache_key
from cachekit.serializers import DefaultSerializer, PickleSerializer, Serializer


@cache
def plain(user_id: int, *, full: bool = False) -> dict[str, int]:
    return {"id": user_id, "full": int(full)}


@cache()
def with_parentheses(user_id: int) -> str:
    return str(user_id)


@cache(ttl=timedelta(minutes=5), stale_ttl=60, serve_stale_on_error=True, ignore="db")
def with_options(db: object, user_id: int) -> list[int]:
    return [user_id]


@cache.production(ttl=cachekit.NEVER)
def production(a: str) -> str:
    return a


@cache.local(max_entries=10)
def local(a: object) -> object:
    return a


@cache
async def asynchronous(user_id: int) -> str:
    return str(user_id)


@cache(ttl=lambda result: 5.0 if result else 1.0, key=lambda user_id: user_id)
async def asynchronous_with_options(user_id: int) -> int:
    return user_id


@aio.cached(ttl=60)
async def with_aio(user_id: int) -> str:
    return str(user_id)


pages = aio.Cache(backend=None)


@pages.production(ttl=60)
async def page(path: str) -> bytes:
    return path.encode()


@aio.cached(cache=pages)
async def front_page() -> bytes:
    return await page("/")


class Service:
    @cache
    def method(self, a: int) -> str:
        return str(a)

    @cache(ttl=5)
    async def async_method(self, a: int) -> str:
        return str(a)

    @staticmethod
    @cache
    def under_static(a: int) -> str:
        return str(a)


def calls() -> None:
    assert_type(plain(1), dict[str, int])
    assert_type(plain(1, full=True), dict[str, int])
    assert_type(with_parentheses(1), str)
    assert_type(with_options(None, user_id=1), list[int])
    assert_type(production("a"), str)
    assert_type(local([]), object)
    plain("1")  # type: ignore[arg-type]
    plain(1, True)  # type: ignore[call-arg]
    plain()  # type: ignore[call-arg]


async def async_calls() -> None:
    assert_type(await asynchronous(1), str)
    assert_type(await asynchronous_with_options(1), int)
    assert_type(await with_aio(1), str)
    assert_type(await page("/"), bytes)
    assert_type(await front_page(), bytes)
    await asynchronous("1")  # type: ignore[arg-type]
    await with_aio("1")  # type: ignore[arg-type]
    await page(1)  # type: ignore[arg-type]


def methods() -> None:
    service = Service()
    assert_type(service.method(1), str)
    assert_type(service.method.invalidate(1), Invalidation)
    assert_type(service.method.peek(1), str)
    assert_type(Service.under_static(1), str)
    assert_type(Service.method(service, 1), str)
    service.method("1")  # type: ignore[arg-type]


async def async_methods() -> None:
    service = Service()
    assert_type(await service.async_method(1), str)
    assert_type(await service.async_method.invalidate(1), Invalidation)


def attributes() -> None:
    assert_type(plain.cache_info(), CacheInfo)
    assert_type(plain.cache_info().hits, int)
    assert_type(plain.invalidate(1), Invalidation)
    assert_type(plain.refresh(1), dict[str, int])
    assert_type(plain.peek(1, full=True), dict[str, int])
    assert_type(plain.key_for(1), str)
    assert_type(plain.entry(1), Entry | None)
    assert_type(plain.using("fresh")(1), dict[str, int])
    assert_type(plain.using(Strategy.BYPASS).peek(1), dict[str, int])
    plain.put({"id": 1}, 1)
    plain.cache_clear()
    plain.peek("1")  # type: ignore[arg-type]
    plain.__wrapped__(1)


async def async_attributes() -> None:
    assert_type(asynchronous.cache_info(), CacheInfo)
    assert_type(await asynchronous.refresh(1), str)
    assert_type(await asynchronous.peek(1), str)
    assert_type(await asynchronous.entry(1), Entry | None)
    assert_type(asynchronous.check_health(), Awaitable[bool])
    assert_type(asynchronous.key_for(1), str)
    assert_type(await asynchronous.using("bypass")(1), str)
    asynchronous.cache_clear()


def options() -> None:
    cache(tll=5)  # type: ignore[call-overload]
    cache(ttl="5")  # type: ignore[call-overload]
    cache(max_entries=5, strategy="fresh", backend=None)
    assert_type(cache(len, ttl=5)("ab"), int)
    cache(len, tll=5)  # type: ignore[call-overload]
    aio.cached(cache=cache, tll=5)  # type: ignore[call-overload]
    cache.local(namespace="a")  # type: ignore[call-overload]


def configuration() -> None:
    config = CacheConfig(redis_url="redis://localhost", default_ttl=60)
    assert_type(config.redis_url, str | None)
    assert_type(config.socket_timeout, float)
    assert_type(config.replace(default_ttl=5), CacheConfig)
    CacheConfig(default_tll=60)  # type: ignore[call-arg]
    CacheConfig(default_ttl="60")  # type: ignore[arg-type]
    config.namespace = "a"  # type: ignore[misc]


class Upper:
    name = "upper"

    def serialize(self, value: str) -> bytes:
        return value.upper().encode()

    def deserialize(self, data: memoryview) -> str:
        return bytes(data).decode()


def serializers() -> None:
    chosen: list[Serializer] = [DefaultSerializer(), PickleSerializer(), Upper()]
    cache(serializer=Upper())
    assert_type(DefaultSerializer().serialize(chosen), bytes)
    assert_type(generate_cache_key("f", (1,), {}), str)


def errors() -> None:
    try:
        plain.using(Strategy.FRESH)(1)
    except cachekit.CacheMiss as miss:
        assert_type(miss.hint, str | None)
    except cachekit.BackendError as error:
        assert_type(error.counts, bool)
