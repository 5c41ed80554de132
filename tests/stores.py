"""Full backends for the tests: every face of each, with a look behind it.

    store = each_store  # a fixture: the tests of this file run on every face

A `Store` is one face; every operation is an ordinary call. `raw`, `ttl`, `age` and
`lose` look at side keys and change them, `hearing` collects what is published.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from proxy import Proxy
from servers import RedisServer

from cachekit import BackendError, CacheConfig
from cachekit.backends import MemoryBackend, RedisBackend
from cachekit.backends._protocol import (
    Claim,
    Fill,
    Release,
    Removal,
    fence_key,
    lock_key,
)

KEY = "ns:fn:" + 64 * "0"
FENCE, LOCK = fence_key(KEY), lock_key(KEY)
SIDES = ("ns:fn:v:" + 32 * "1", "ns:v:" + 32 * "2")
CHANNEL = "ns:invalidate"
TIMEOUT = 2.0
HOUR = 3_600_000


class Store:
    """One face of a backend: every operation is an ordinary call."""

    def __init__(self, backend: Any, is_async: bool) -> None:
        self.backend = backend
        self.loop = asyncio.new_event_loop() if is_async else None
        self.face = backend.asyncio() if is_async else backend

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.face, name)
        return lambda *args, timeout=TIMEOUT: self.finish(method(*args, timeout))

    def finish(self, result: Any) -> Any:
        if self.loop is None or not inspect.isawaitable(result):
            return result

        async def main() -> Any:
            return await result

        return self.loop.run_until_complete(main())

    @property
    def fenced(self) -> bool:
        return bool(self.face.fenced)

    def claim_it(self, **fields: Any) -> Any:
        return self.claim(Claim(KEY, **fields))

    def fill_it(
        self,
        claimed: Any,
        data: bytes = b"value",
        timeout: float = TIMEOUT,
        **fields: Any,
    ) -> Any:
        fields = {"ttl_ms": 60_000, "lock": claimed.lock, **fields}
        request = Fill(KEY, data, fence=claimed.fence, **fields)
        return self.fill(request, timeout=timeout)

    def close(self) -> None:
        if self.loop is not None:
            self.loop.run_until_complete(self.backend.asyncio().close())
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.close()
        self.backend.close()


class OnRedis(Store):
    def __init__(
        self, server: Any, is_async: bool, url: str | None = None, **config: Any
    ) -> None:
        config = {"connection_retries": 1, "retry_delay": 0.01, **config}
        backend = RedisBackend(url or server.url, CacheConfig(**config))
        super().__init__(backend, is_async)
        self.server = server

    def raw(self, key: str) -> Any:
        return self.server.call("GET", key)

    def ttl(self, key: str) -> int:
        return int(self.server.call("PTTL", key))

    def age(self, key: str, left_ms: int) -> None:
        """Let it expire in so long."""
        self.server.call("PEXPIRE", key, left_ms)

    def lose(self, *keys: str) -> None:
        self.server.call("DEL", *keys)

    @contextlib.contextmanager
    def hearing(self) -> Iterator[list[bytes]]:
        """What was published, once the block is over."""
        heard: list[bytes] = []
        with self.server.client() as client:
            client.call("SUBSCRIBE", CHANNEL)
            yield heard
            self.server.call("PUBLISH", CHANNEL, "the end")
            while (message := client.read()[2]) != b"the end":
                heard.append(message)


class OnMemory(Store):
    def __init__(self, is_async: bool) -> None:
        self.now = 1000.0
        super().__init__(MemoryBackend(clock=lambda: self.now), is_async)

    def raw(self, key: str) -> Any:
        found = self.backend._get(self.backend._sides, key)
        found = found or self.backend._get(self.backend._entries, key)
        return found and found[0]

    def ttl(self, key: str) -> int:
        found = self.backend._get(self.backend._sides, key)
        return (found or self.backend._get(self.backend._entries, key) or (0, -2))[1]

    def age(self, key: str, left_ms: int) -> None:
        data, _ = self.backend._sides[key]
        self.backend._sides[key] = (data, self.now + left_ms / 1000)

    def lose(self, *keys: str) -> None:
        self.backend.delete(keys, TIMEOUT)

    @contextlib.contextmanager
    def hearing(self) -> Iterator[list[bytes]]:
        heard: list[bytes] = []
        unsubscribe = self.backend.subscribe(CHANNEL, heard.append)
        yield heard
        unsubscribe()


FACES = pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])


@pytest.fixture(params=["redis-sync", "redis-async", "memory-sync", "memory-async"])
def each_store(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Every face of every full backend."""
    kind, _, face = request.param.partition("-")
    if kind == "redis":
        server = request.getfixturevalue("redis_server")
        store: Store = OnRedis(server, face == "async")
    else:
        store = OnMemory(face == "async")
    yield store
    store.close()


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def each_redis(
    request: pytest.FixtureRequest, redis_server: RedisServer
) -> Iterator[Any]:
    """Both faces of Redis."""
    store = OnRedis(redis_server, request.param)
    yield store
    store.close()


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def each_proxied(request: pytest.FixtureRequest, proxy: Proxy) -> Iterator[Any]:
    """The same behind the proxy, connected, and with all scripts known."""
    store = OnRedis(proxy, request.param, connection_retries=0)
    every_operation(store)
    yield store
    store.close()


def every_operation(store: Any) -> list[Any]:
    """Do everything once."""
    return [operation() for operation in operations(store).values()]


def operations(store: Any, timeout: float = TIMEOUT) -> dict[str, Callable[[], Any]]:
    token = 16 * "a"
    fill = Fill(KEY, b"x", 1000, token, token, SIDES, CHANNEL, b"m", b"w")
    removal = Removal((KEY,), SIDES, ((CHANNEL, b"m"),))
    return {
        "lookup": lambda: store.lookup(KEY, SIDES, timeout=timeout),
        "claim": lambda: store.claim(Claim(KEY, SIDES, 1000), timeout=timeout),
        "fill": lambda: store.fill(fill, timeout=timeout),
        "plain fill": lambda: store.fill(fill._replace(fence=None), timeout=timeout),
        "remove": lambda: store.remove(removal, timeout=timeout),
        "renew": lambda: store.renew(KEY, token, 1000, timeout=timeout),
        "release": lambda: store.release(Release(KEY, token), timeout=timeout),
    }


def failure_of(operation: Callable[[], Any]) -> BackendError:
    with pytest.raises(BackendError) as caught:
        operation()
    return caught.value


def in_threads(*jobs: Callable[[], None]) -> None:
    threads = [threading.Thread(target=job) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
