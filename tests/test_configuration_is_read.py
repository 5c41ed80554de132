# SPDX-License-Identifier: MIT
"""Every setting does something: a case for each that fails when its value is ignored.

A `Case` names a setting, a value for it, and a small experiment whose result differs
between that value and the default. Each experiment runs with the setting as an argument
of `CacheConfig`, as a variable, or as a keyword of the decorator, whichever there are,
for blocking and for async functions.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from basic_store import BasicStore
from faces import FACES, Face
from servers import RedisServer

from cachekit import (
    NEVER,
    BackendError,
    Cache,
    CacheConfig,
    CacheMiss,
    ConfigurationError,
    DecryptionError,
    LoaderTimeout,
    NotBuiltYet,
    UncacheableArgument,
)
from cachekit._config import FIELDS
from cachekit._errors import BackendConnectionError
from cachekit._options import OPTIONS, PRESETS, FunctionOptions
from cachekit.backends import RedisBackend
from cachekit.backends._protocol import fence_key, lock_key

#: A wait that a healthy run never sees the end of (seconds).
LONG = 20.0


# ---- what experiments are made of ----------------------------------------------------


class Shelf(BasicStore):
    """A store that notes what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0
        self.timeouts: list[float] = []
        self.written: list[tuple[str, bytes, int]] = []
        self.fails = False
        self.together = 0
        self.most_together = 0
        self.pause = 0.0

    def read(self, key: str, timeout: float) -> tuple[bytes, int] | None:
        self.reads += 1
        self.timeouts.append(timeout)
        self.together += 1
        self.most_together = max(self.most_together, self.together)
        try:
            time.sleep(self.pause)
            if self.fails:
                raise BackendConnectionError("broken", kind="refused")
            return super().read(key, timeout)
        finally:
            self.together -= 1

    def write(self, key: str, data: bytes, ttl_ms: int, timeout: float) -> None:
        self.written.append((key, bytes(data), ttl_ms))
        super().write(key, data, ttl_ms, timeout)

    asyncio = None  # type: ignore[assignment]  # async functions go through threads


class Lab:
    """One experiment: `config` and `options` hold the setting, or neither does."""

    def __init__(
        self,
        face: Face,
        redis: RedisServer,
        config: dict[str, Any],
        options: dict[str, Any],
    ) -> None:
        self.face = face
        self.redis = redis
        self.config = config
        self.options = options
        self.shelf = Shelf()
        self.runs = 0

    def cache(self, backend: Any = "shelf", **config: Any) -> Cache:
        """A cache with the setting; on the shelf unless told."""
        given = CacheConfig(**{**config, **self.config})
        if backend == "configured":
            return Cache(given)
        return Cache(given, backend=self.shelf if backend == "shelf" else backend)

    def function(
        self, cache: Cache, function: Callable[..., Any] | None = None, **options: Any
    ) -> Any:
        """A decorated function with the setting, which counts its runs."""

        def plain(number: int = 0) -> Any:
            self.runs += 1
            return number

        chosen = {"name": "f", **options, **self.options}
        return self.face.function(cache(**chosen), function or plain)

    def counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        import functools

        @functools.wraps(function)
        def counting(*args: Any, **kwargs: Any) -> Any:
            self.runs += 1
            return function(*args, **kwargs)

        return counting

    def call(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        return self.face.call(function, *args, **kwargs)

    def outcome(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        """The value, or the class of what was raised."""
        try:
            return self.call(function, *args, **kwargs)
        except Exception as error:
            return type(error)

    def close(self, cache: Cache) -> None:
        self.call(cache.aclose) if self.face.is_async else cache.close()

    def backend(self, url: str, **config: Any) -> Any:
        """A Redis backend with the setting, for this face."""
        settings = CacheConfig(**{**config, **self.config}).over_environment()
        backend = RedisBackend(url, settings)
        return backend.asyncio() if self.face.is_async else backend


class Case(NamedTuple):
    given: Any
    without: Any
    changed: Any
    observe: Callable[[Lab], Any]
    text: str | None = None  # for the variable; default: str(given)


def expired(seconds: float) -> None:
    """Let a lifetime of so many seconds end."""
    time.sleep(seconds * 1.5 + 0.02)


class Silent:
    """A server that accepts and never answers."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Silent:
        return self

    def __exit__(self, *exc: object) -> None:
        self._listener.close()


class Loading:
    """A server that answers PING with an error that asks for patience, and counts."""

    def __init__(self) -> None:
        self.asked = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError):
            while data := sock.recv(65536):
                if b"SETNAME" in data:
                    sock.sendall(b"+OK\r\n")
                    data = data.partition(b"$7\r\nSETNAME\r\n")[2]
                if b"PING" in data:
                    self.asked += 1
                    sock.sendall(b"-LOADING a moment\r\n")

    def __enter__(self) -> Loading:
        return self

    def __exit__(self, *exc: object) -> None:
        self._listener.close()


def ping(lab: Lab, url: str, timeout: float, **config: Any) -> tuple[Any, float]:
    """What a PING came to, and how long it took."""
    backend = lab.backend(url, **config)

    async def main() -> Any:
        try:
            return await backend.ping(timeout)
        except Exception as error:
            return type(error)
        finally:
            await backend.close()

    began = time.monotonic()
    if lab.face.is_async:
        result = lab.call(main)
    else:
        result = lab.outcome(backend.ping, timeout)
        backend.close()
    return result, time.monotonic() - began


# ---- experiments that fields and keywords share --------------------------------------


def remaining(lab: Lab) -> int:
    cached = lab.function(lab.cache())
    lab.call(cached, 1)
    entry = lab.call(cached.entry, 1)
    left = entry.remaining_ttl
    assert (lab.shelf.written[-1][2] == 0) == (left is None)
    return -1 if left is None else round(left)


def lifetimes_differ(lab: Lab) -> bool:
    cached = lab.function(lab.cache())
    for number in range(20):
        lab.call(cached, number)
    ttls = {ttl for _, _, ttl in lab.shelf.written}
    assert max(ttls) <= 2 * min(ttls)
    return len(ttls) > 1


def prefix(lab: Lab) -> str:
    cached = lab.function(lab.cache())
    lab.call(cached, 1)
    assert lab.shelf.written[0][0] == cached.key_for(1)
    return lab.shelf.written[0][0].partition(":")[0]


def reads_of_two_calls(lab: Lab) -> int:
    cached = lab.function(lab.cache())
    lab.call(cached, 1)
    lab.call(cached, 1)
    assert lab.runs == 1
    return lab.shelf.reads


def reads_after_the_cap(lab: Lab) -> int:
    cached = lab.function(lab.cache())
    lab.call(cached, 1)
    expired(0.03)
    lab.call(cached, 1)
    return lab.shelf.reads


def call_on_a_broken_store(lab: Lab) -> Any:
    lab.shelf.fails = True
    return lab.outcome(lab.function(lab.cache()), 7)


def size_on_the_shelf(lab: Lab) -> bool:
    cached = lab.function(lab.cache(), lambda: "x" * 2000)
    lab.call(cached)
    return len(lab.shelf.written[0][1]) > 2000


def oversized(lab: Lab) -> int:
    cached = lab.function(lab.cache(), lambda: "x" * 2000)
    assert lab.call(cached) == "x" * 2000
    return int(cached.cache_info().oversized)


# ---- experiments of fields -----------------------------------------------------------


def named_on_redis(lab: Lab) -> int:
    """The port of the server is known only now."""
    lab.config = dict.fromkeys(lab.config, lab.redis.url)
    if "CACHEKIT_REDIS_URL" in os.environ:
        os.environ["CACHEKIT_REDIS_URL"] = lab.redis.url
    cache = lab.cache("configured")
    lab.face.do(cache, "set", "a", 1)
    lab.close(cache)
    return entries(lab.redis)


def entries(redis: RedisServer) -> int:
    """How many there are, version keys aside."""
    return sum(b":v:" not in key for key in redis.call("KEYS", "*"))


def version_of_entries(lab: Lab) -> int:
    cached = lab.function(lab.cache())
    lab.call(cached, 1)
    return lab.shelf.written[0][1][2]


def runs_of_two_calls(lab: Lab) -> int:
    cached = lab.function(lab.cache())
    lab.call(cached, 1)
    lab.call(cached, 1)
    return lab.runs


def evictions_of_four_megabytes(lab: Lab) -> bool:
    cached = lab.function(lab.cache(None), lambda number: bytes(10_000))
    for number in range(400):
        lab.call(cached, number)
    return bool(cached.cache_info().evictions > 0)


def entries_of_twenty(lab: Lab) -> bool:
    cached = lab.function(lab.cache(None))
    for number in range(20):
        lab.call(cached, number)
    return bool(cached.cache_info().currsize > 10)


def asked_while_broken(lab: Lab) -> int:
    lab.shelf.fails = True
    cached = lab.function(lab.cache())
    for number in range(8):
        assert lab.call(cached, number) == number
    return lab.shelf.reads


def guard_of(lab: Lab, **config: Any) -> Any:
    cache = lab.cache(circuit_breaker_failure_threshold=1, **config)
    lab.shelf.fails = True
    cached = lab.function(cache)
    lab.call(cached, 1)
    assert lab.shelf.reads == 1
    return cached, cached._plan.store.guard


def asked_after_the_timeout(lab: Lab) -> int:
    cached, _ = guard_of(lab)
    expired(0.03)
    lab.call(cached, 2)
    return lab.shelf.reads


def state_after_one_success(lab: Lab) -> str:
    cached, guard = guard_of(lab, circuit_breaker_timeout=0.03)
    expired(0.03)
    guard.leave(guard.enter(), guard.SUCCESS)
    return str(guard.state()["state"])


def admitted_half_open(lab: Lab) -> int:
    cached, guard = guard_of(lab, circuit_breaker_timeout=0.03)
    expired(0.03)
    return sum(guard.enter() is not None for _ in range(6))


def tries_of_a_loading_server(lab: Lab) -> int:
    with Loading() as server:
        ping(lab, server.url, LONG, **({} if "retry_delay" in lab.config else QUICK))
        return server.asked


QUICK = {"retry_delay": 0.001}


def tries_with_a_long_delay(lab: Lab) -> int:
    with Loading() as server:
        ping(lab, server.url, 2.0)
        return server.asked


def gives_up_soon(lab: Lab) -> bool:
    with Silent() as server:
        cached = lab.function(lab.cache(server.url, socket_connect_timeout=LONG))
        began = time.monotonic()
        lab.call(cached, 1)
        return time.monotonic() - began < 0.6


def connect_gives_up_soon(lab: Lab) -> bool:
    with Silent() as server:
        result, seconds = ping(lab, server.url, 5.0)
        assert issubclass(result, BackendError)
        return seconds < 0.6


def blocked_and_waiting(lab: Lab, **config: Any) -> tuple[Any, int]:
    """One connection is busy for 0.4 s; another operation is asked for. Only blocking
    callers have a pool."""
    settings = CacheConfig(**{**config, **lab.config}).over_environment()
    backend = RedisBackend(lab.redis.url, settings)
    client = backend._client

    def occupy() -> None:
        client.execute("BLPOP", "nothing", "0.4", timeout=5)

    busy = threading.Thread(target=occupy)
    busy.start()
    while not client.pool_stats()["in_use"]:
        time.sleep(0.002)
    time.sleep(0.02)
    try:
        client.execute("PING", timeout=5)
        result: Any = "answered"
    except BackendError as error:
        result = error.kind
    busy.join()
    created = client.pool_stats()["created"]
    backend.close()
    return result, created


def connections_of_two(lab: Lab) -> int:
    return blocked_and_waiting(lab, pool_timeout=2.0)[1]


def second_of_one_connection(lab: Lab) -> Any:
    return blocked_and_waiting(lab, connection_pool_size=1)[0]


def keepalive(lab: Lab) -> bool:
    def sockets() -> set[str]:
        found = set()
        for name in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                    found.add(name)
        return found

    backend = lab.backend(lab.redis.url)
    found: list[int] = []

    def look(before: set[str]) -> None:
        for name in sockets() - before:
            with socket.socket(fileno=os.dup(int(name))) as copy:
                found.append(copy.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))

    async def main() -> None:
        before = sockets()
        await backend.ping(5.0)
        look(before)
        await backend.close()

    if lab.face.is_async:
        lab.call(main)
    else:
        before = sockets()
        backend.ping(5.0)
        look(before)
        backend.close()
    (option,) = found
    return bool(option)


def pings_of_an_idle_connection(lab: Lab) -> bool:
    backend = lab.backend(lab.redis.url)
    lab.redis.call("CONFIG", "RESETSTAT")

    async def main() -> None:
        await backend.read("key", 5.0)
        await asyncio.sleep(0.05)
        await backend.read("key", 5.0)
        await backend.close()

    if lab.face.is_async:
        lab.call(main)
    else:
        backend.read("key", 5.0)
        time.sleep(0.05)
        backend.read("key", 5.0)
        backend.close()
    return b"cmdstat_ping:" in lab.redis.call("INFO", "commandstats")


def connects_of_a_silent_server(lab: Lab) -> bool:
    with Silent() as server:
        _, seconds = ping(lab, server.url, 5.0, socket_connect_timeout=0.1)
        return seconds > 0.35


def pool_size(lab: Lab) -> int:
    settings = CacheConfig(**lab.config).over_environment()
    return int(RedisBackend(lab.redis.url, settings).pool_stats()["max_size"])


def connections_of_a_loop(lab: Lab) -> int:
    settings = CacheConfig(**lab.config).over_environment()
    transport = RedisBackend(lab.redis.url, settings).asyncio()

    async def main() -> int:
        await asyncio.gather(*[transport.read("key", 5.0) for _ in range(8)])
        created = transport.figures()["created"]
        await transport.close()
        return int(created)

    return asyncio.run(main())


def most_together(lab: Lab) -> bool:
    lab.shelf.pause = 0.05
    cached = lab.function(lab.cache())

    async def main() -> None:
        await asyncio.gather(*[cached(number) for number in range(4)])

    if lab.face.is_async:
        lab.call(main)
    else:
        threads = [threading.Thread(target=cached, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return lab.shelf.most_together > 1


SHARED: dict[str, Case] = {
    "ttl_jitter": Case(0.5, False, True, lifetimes_differ),
    "namespace": Case("shop", "cachekit", "shop", prefix),
    "fallback_enabled": Case(
        False, 7, BackendConnectionError, call_on_a_broken_store, "no"
    ),
    "l1_enabled": Case(False, 1, 2, reads_of_two_calls, "0"),
    "l1_ttl": Case(0.03, 1, 2, reads_after_the_cap),
    "compress_min": Case(5000, False, True, size_on_the_shelf),
    "max_value_size": Case(1000, 0, 1, oversized),
}

KEY, FORMER_KEY = 32 * "ab", 32 * "cd"


def is_sealed(lab: Lab, **options: Any) -> Any:
    """Is what the store gets unreadable?"""
    config = {} if options else {"master_key": KEY}
    try:
        cached = lab.function(lab.cache(**config), lambda: "a plain text", **options)
    except ConfigurationError:
        return "refused"
    lab.call(cached)
    return b"a plain text" not in lab.shelf.written[0][1]


def seals(lab: Lab) -> Any:
    return is_sealed(lab, encryption=True)


def runs_beside(lab: Lab, **config: Any) -> int:
    """Another program has stored an entry; can ours read it?"""
    others = Cache(CacheConfig(**config), backend=lab.shelf)
    other = lab.face.function(others(name="f", encryption=True), lambda number=0: 0)
    lab.call(other, 1)
    ours = lab.function(lab.cache(master_key=KEY), encryption=True)
    lab.call(ours, 1)
    return lab.runs


def runs_beside_acme(lab: Lab) -> int:
    return runs_beside(lab, master_key=KEY, tenant="acme")


def runs_after_a_rotation(lab: Lab) -> int:
    return runs_beside(lab, master_key=FORMER_KEY)


def call_on_a_tampered_entry(lab: Lab) -> Any:
    cache = lab.cache(master_key=KEY, l1_enabled=False)
    cached = lab.function(cache, encryption=True)
    lab.call(cached, 7)
    key, data, ttl = lab.shelf.written[-1]
    lab.shelf.write(key, data[:-1] + bytes([data[-1] ^ 1]), ttl, 1.0)
    return lab.outcome(cached, 7)


SECRETS = {"master_key": Case(KEY, "refused", True, seals)}

FIELD_CASES: dict[str, Case] = {
    **SECRETS,
    "previous_master_keys": Case(FORMER_KEY, 1, 0, runs_after_a_rotation),
    "tenant": Case("acme", 1, 0, runs_beside_acme),
    "encryption_fail_closed": Case(
        True, 7, DecryptionError, call_on_a_tampered_entry, "1"
    ),
    **SHARED,
    "redis_url": Case("redis://127.0.0.1:1", 0, 1, named_on_redis),
    "wire": Case("3:0.24", 4, 3, version_of_entries),
    "enabled": Case(False, 1, 2, runs_of_two_calls, "off"),
    "default_ttl": Case(60, 3600, 60, remaining),
    "l1_max_size_mb": Case(1, False, True, evictions_of_four_megabytes),
    "l1_max_entries": Case(10, True, False, entries_of_twenty),
    "enable_circuit_breaker": Case(False, 5, 8, asked_while_broken, "false"),
    "circuit_breaker_failure_threshold": Case(2, 5, 2, asked_while_broken),
    "circuit_breaker_timeout": Case(0.03, 1, 2, asked_after_the_timeout),
    "circuit_breaker_success_threshold": Case(
        2, "closed", "half-open", state_after_one_success
    ),
    "circuit_breaker_half_open_requests": Case(3, 1, 3, admitted_half_open),
    "connection_retries": Case(1, 4, 2, tries_of_a_loading_server),
    "retry_delay": Case(1e8, 4, 1, tries_with_a_long_delay),
    "socket_timeout": Case(0.1, False, True, gives_up_soon),
    "socket_connect_timeout": Case(0.1, False, True, connect_gives_up_soon),
    "connection_pool_size": Case(1, 2, 1, connections_of_two),
    "pool_timeout": Case(5, "pool", "answered", second_of_one_connection),
    "async_connections": Case(3, 1, 3, connections_of_a_loop),
    "max_concurrent_requests": Case(1, True, False, most_together),
}

POOL_CASES: dict[str, Case] = {
    "socket_keepalive": Case(True, False, True, keepalive),
    "health_check_interval": Case(0.02, False, True, pings_of_an_idle_connection),
    "retry_on_timeout": Case(True, False, True, connects_of_a_silent_server),
    "max_connections": Case(7, 2 * len(os.sched_getaffinity(0)) + 1, 7, pool_size),
}


# ---- experiments of keywords ---------------------------------------------------------


class Boom(Exception):
    pass


class Crash(Exception):
    pass


def after_fresh(lab: Lab) -> Any:
    """What a call gives when the fresh period of an entry is over."""
    values = iter(["old", "new", "newer", "newest"])
    cached = lab.function(lab.cache(None), lambda: next(values), ttl=0.03)
    lab.call(cached)
    expired(0.03)
    return lab.call(cached)


def failing(lab: Lab, error: type[Exception] = Boom, **options: Any) -> Any:
    """What a call gives when the entry is old and the function raises."""
    state = {"fails": False}

    def function() -> str:
        lab.runs += 1
        if state["fails"]:
            raise error
        return "old"

    cached = lab.function(lab.cache(None), function, ttl=0.03, **options)
    lab.call(cached)
    expired(0.03)
    state["fails"] = True
    return cached


def stale_on_error(lab: Lab) -> Any:
    return lab.outcome(failing(lab))


def too_late_for_stale(lab: Lab) -> Any:
    cached = failing(lab, serve_stale_on_error=True)
    expired(0.03)
    return lab.outcome(cached)


def another_exception(lab: Lab) -> Any:
    return lab.outcome(failing(lab, Crash, serve_stale_on_error=True))


def tries_after_a_failure(lab: Lab) -> int:
    cached = failing(lab, serve_stale_on_error=True)
    assert lab.outcome(cached) == "old"
    expired(0.03)
    assert lab.outcome(cached) == "old"
    return lab.runs - 1


def none_is_kept(lab: Lab) -> int:
    cached = lab.function(lab.cache(None), lab.counted(lambda: None))
    lab.call(cached)
    lab.call(cached)
    return lab.runs


def runs_by_name(lab: Lab) -> bool:
    """Is `name` what the store key is made of?"""
    cache = lab.cache()

    def plain() -> int:
        return 1

    chosen = dict(lab.options)
    cached = lab.face.function(cache(**chosen), plain)
    return ":mine:" in cached.key_for()


def runs_of_unlike_arguments(lab: Lab) -> int:
    cached = lab.function(lab.cache(None), lab.counted(lambda number, other=0: number))
    lab.call(cached, 1, other=1)
    lab.call(cached, 1, other=2)
    return lab.runs


def shared_with_names(lab: Lab) -> Any:
    cache = lab.cache()
    cached = lab.function(cache)
    lab.call(cached, 5)
    return lab.face.do(cache, "get", "n:5")


def keys_of_all_languages(lab: Lab) -> bool:
    cached = lab.function(lab.cache(), namespace="users")
    lab.call(cached, 1)
    return lab.shelf.written[0][0].startswith("users:get_user:")


def uncacheable(lab: Lab) -> Any:
    cached = lab.function(lab.cache(None), lambda thing: "called")
    return lab.outcome(cached, object())


def on_miss(lab: Lab) -> Any:
    return lab.outcome(lab.function(lab.cache()), 3)


def runs_of_two_at_once(lab: Lab) -> int:
    """A second call comes while the first runs; it waits, for 0.6 s at most here."""
    inside, leave = threading.Event(), threading.Event()

    def slow() -> int:
        lab.runs += 1
        if lab.runs == 1:
            inside.set()
            leave.wait(LONG)
        return 1

    if lab.face.is_async:
        cached = lab.cache(None)(**{"name": "f", **lab.options})(_async_twin(lab))
        return int(lab.call(_two_tasks, lab, cached))
    cached = lab.function(lab.cache(None), slow)
    first = threading.Thread(target=cached)
    first.start()
    inside.wait(LONG)
    second = threading.Thread(target=cached)
    second.start()
    second.join(0.3)
    runs = lab.runs
    leave.set()
    first.join()
    second.join()
    return runs


def _async_twin(lab: Lab) -> Any:
    async def slow() -> int:
        lab.runs += 1
        if lab.runs == 1:
            await asyncio.sleep(0.5)
        return 1

    return slow


async def _two_tasks(lab: Lab, cached: Any) -> int:
    first = asyncio.ensure_future(cached())
    await asyncio.sleep(0.01)
    second = asyncio.ensure_future(cached())
    await asyncio.wait([second], timeout=0.3)
    runs = lab.runs
    await asyncio.gather(first, second)
    return runs


OTHER_SHELF = Shelf()


def writes_elsewhere(lab: Lab) -> int:
    before = len(OTHER_SHELF.written)
    OTHER_SHELF.delete_prefix("", 1.0)
    lab.call(lab.function(lab.cache()), 1)
    return len(OTHER_SHELF.written) - before


class Upper:
    """A serializer that cannot be taken for another."""

    name = "upper"

    def serialize(self, value: Any) -> bytes:
        return str(value).upper().encode()

    def deserialize(self, data: memoryview) -> Any:
        return bytes(data).decode()


def second_value(lab: Lab) -> Any:
    cached = lab.function(lab.cache(), lambda: "text")
    lab.call(cached)
    return lab.call(cached)


@dataclasses.dataclass
class Point:
    x: int


def runs_that_make_a_point(lab: Lab) -> int:
    cached = lab.function(lab.cache(), lab.counted(lambda: Point(1)))
    lab.call(cached)
    assert lab.call(cached) == Point(1)
    return lab.runs


def runs_after_the_tag(lab: Lab) -> int:
    cache = lab.cache(None)
    cached = lab.function(cache)
    lab.call(cached)
    lab.face.do(cache, "invalidate_tags", "t")
    lab.call(cached)
    return lab.runs


def runs_beside_another_program(lab: Lab) -> int:
    """One that knows nothing of the setting has stored an entry."""
    other = lab.face.function(lab.cache()(name="f"), lambda number=0: number)
    lab.call(other, 1)
    lab.call(lab.function(lab.cache()), 1)
    return lab.runs


def seen_on_redis(lab: Lab, look: Callable[[str], Any]) -> Any:
    """``look(key)`` while the function runs."""
    cache = lab.cache(lab.redis.url)
    cached = lab.function(cache, lambda: look(cached.key_for()))
    seen = lab.call(cached)
    lab.close(cache)
    return seen


def holds_a_lock(lab: Lab) -> Any:
    return seen_on_redis(lab, lambda key: lab.redis.call("EXISTS", lock_key(key)))


def life_of_the_fence(lab: Lab) -> Any:
    ms = seen_on_redis(lab, lambda key: lab.redis.call("PTTL", fence_key(key)))
    return round(ms / 1000)


def renewed_before_its_end(lab: Lab) -> bool:
    """A run takes 0.15 s, so that a key that is read all the time is renewed early."""
    cached = lab.function(lab.cache(None), lab.counted(lambda: time.sleep(0.15)), ttl=1)
    lab.call(cached)
    end = time.monotonic() + 0.7
    while lab.runs == 1 and time.monotonic() < end:
        lab.call(cached)
        time.sleep(0.001)
    if lab.face.is_async:
        lab.call(asyncio.sleep, 0.2)
    return lab.runs > 1


def slower_the_second_time(lab: Lab) -> Any:
    """What a call gives when its entry is old and a run takes 0.4 s."""

    def slow() -> int:
        lab.runs += 1
        if lab.runs > 1:
            time.sleep(0.4)
        return lab.runs

    async def twin() -> int:
        lab.runs += 1
        if lab.runs > 1:
            await asyncio.sleep(0.4)
        return lab.runs

    options = {"name": "f", "ttl": 0.03, **lab.options}
    if "soft_timeout" in options:
        options["serve_stale_on_error"] = True
    cached = lab.cache(None)(**options)(twin if lab.face.is_async else slow)
    lab.call(cached)
    expired(0.03)
    outcome = lab.outcome(cached)
    lab.call(asyncio.sleep, 0.5) if lab.face.is_async else time.sleep(0.5)
    return outcome


def runs_after_a_foreign_del(lab: Lab) -> int:
    cache = lab.cache(lab.redis.url)
    cached = lab.function(cache)
    while cached.cache_info().l1_hits == 0:
        lab.call(cached)
    lab.redis.call("DEL", cached.key_for())
    end = time.monotonic() + 0.7
    while lab.runs == 1 and time.monotonic() < end:
        lab.call(cached)
        time.sleep(0.005)
    lab.close(cache)
    return lab.runs


OPTION_CASES: dict[str, Case] = {
    **SHARED,
    **SECRETS,
    "encryption": Case(False, True, False, is_sealed),
    "tenant": Case("acme", 1, 0, runs_beside_acme),
    "fail_closed": Case(True, 7, DecryptionError, call_on_a_tampered_entry),
    "ttl": Case(60, 3600, 60, remaining),
    "stale_ttl": Case(60, "new", "old", after_fresh),
    "serve_stale_on_error": Case(True, Boom, "old", stale_on_error),
    "stale_if_error_ttl": Case(0.02, "old", Boom, too_late_for_stale),
    "stale_on": Case((Boom,), "old", Crash, another_exception),
    "stale_retry": Case(0.02, 1, 2, tries_after_a_failure),
    "negative_ttl": Case(0, 1, 2, none_is_kept),
    "cache_if": Case(lambda value: value is not None, 1, 2, none_is_kept),
    "name": Case("mine", False, True, runs_by_name),
    "key": Case(lambda number, other: number, 2, 1, runs_of_unlike_arguments),
    "full_key": Case(lambda number: f"n:{number}", None, 5, shared_with_names),
    "ignore": Case(("other",), 2, 1, runs_of_unlike_arguments),
    "on_uncacheable": Case("call", UncacheableArgument, "called", uncacheable),
    "strategy": Case("FRESH", 3, CacheMiss, on_miss),
    "single_flight": Case(False, 1, 2, runs_of_two_at_once),
    "single_flight_timeout": Case(0.02, 1, 2, runs_of_two_at_once),
    "backend": Case(OTHER_SHELF, 0, 1, writes_elsewhere),
    "serializer": Case(Upper(), "text", "TEXT", second_value),
    "returns": Case(Point, 2, 1, runs_that_make_a_point),
    "tags": Case(["t"], 1, 2, runs_after_the_tag),
    "version": Case(2, 0, 1, runs_beside_another_program),
    "schema": Case(Point, 0, 1, runs_beside_another_program),
    "distributed_lock": Case(True, 0, 1, holds_a_lock),
    "fence_ttl": Case(60, 3600, 60, life_of_the_fence),
    "early_refresh": Case(True, False, True, renewed_before_its_end),
    "soft_timeout": Case(0.05, 2, 1, slower_the_second_time),
    "hard_timeout": Case(0.05, 2, LoaderTimeout, slower_the_second_time),
    "coherence": Case("tracking", 1, 2, runs_after_a_foreign_del),
    "interop": Case("get_user", False, True, keys_of_all_languages),
}


# ---- the tests -----------------------------------------------------------------------


@pytest.fixture(params=FACES)
def face(request: pytest.FixtureRequest) -> Iterator[Face]:
    with Face(request.param) as face:
        yield face


def check(case: Case, bare: Lab, given: Lab) -> None:
    assert case.observe(bare) == case.without
    bare.redis.call("FLUSHALL")
    assert case.observe(given) == case.changed


def test_every_field_has_a_case() -> None:
    """Those that are not built have `test_field_that_is_not_built_is_refused`."""
    built = {field.name for field in FIELDS if field.built}
    assert built == {*FIELD_CASES, "connection_pool_kwargs"}
    from cachekit._fields import PoolOptions

    assert set(PoolOptions.KNOWN) == set(POOL_CASES)


def test_every_keyword_has_a_case() -> None:
    built = {o.name for o in OPTIONS if not o.preset_only}
    assert built == {*OPTION_CASES, "max_entries"}
    assert {o.name for o in OPTIONS if o.preset_only} == {
        *("enable_circuit_breaker", "connection_retries", "references", "debug")
    }


@pytest.mark.parametrize("name", FIELD_CASES)
def test_field_is_read(name: str, face: Face, redis_server: RedisServer) -> None:
    case = FIELD_CASES[name]
    bare = Lab(face, redis_server, {}, {})
    given = Lab(face, redis_server, {name: case.given}, {})
    check(case, bare, given)


@pytest.mark.parametrize("name", FIELD_CASES)
def test_variable_is_read(
    name: str, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = FIELD_CASES[name]
    text = str(case.given) if case.text is None else case.text
    with Face("sync") as face:
        given = Lab(face, redis_server, {}, {})
        monkeypatch.setenv("CACHEKIT_" + name.upper(), text)
        assert case.observe(given) == case.changed


@pytest.mark.parametrize("name", POOL_CASES)
def test_pool_option_is_read(name: str, face: Face, redis_server: RedisServer) -> None:
    case = POOL_CASES[name]
    bare = Lab(face, redis_server, {}, {})
    config = {"connection_pool_kwargs": {name: case.given}}
    check(case, bare, Lab(face, redis_server, config, {}))


@pytest.mark.parametrize("name", OPTION_CASES)
def test_keyword_is_read(name: str, face: Face, redis_server: RedisServer) -> None:
    case = OPTION_CASES[name]
    bare = Lab(face, redis_server, {}, {})
    given = Lab(face, redis_server, {}, {name: case.given})
    check(case, bare, given)


def test_platform_url_is_read(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", redis_server.url)
    cache = Cache()
    cache.set("a", 1)
    cache.close()
    assert entries(redis_server) == 1


def test_bound_in_entries_of_local_is_read() -> None:
    cache = Cache(backend=None)
    for given, most in (({}, 20), ({"max_entries": 10}, 10)):
        cached = cache.local(**given)(lambda number: number)
        for number in range(20):
            cached(number)
        assert cached.cache_info().currsize == most


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("memcached_servers", "h:1"),
        ("file_cache_dir", "/tmp/x"),
    ],
)
@pytest.mark.parametrize("source", ["argument", "variable"])
def test_field_that_is_not_built_is_refused(
    name: str, value: Any, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not next(field for field in FIELDS if field.name == name).built
    if source == "variable":
        monkeypatch.setenv("CACHEKIT_" + name.upper(), str(value))
        cache = Cache()
    else:
        cache = Cache(CacheConfig(**{name: value}))

    @cache(name="f")
    def function() -> int:
        return 1

    named = name if source == "argument" else "CACHEKIT_" + name.upper()
    with pytest.raises(NotBuiltYet, match=named):
        function()
    with pytest.raises(NotBuiltYet, match=named):
        cache.get("a")


def test_every_field_that_is_not_built_is_refused() -> None:
    mark = test_field_that_is_not_built_is_refused.pytestmark[-1]
    rows = {name for name, _ in mark.args[1]}
    assert rows == {field.name for field in FIELDS if not field.built}


# ---- presets -------------------------------------------------------------------------


def test_minimal_has_no_breaker_no_retries_and_no_flights(face: Face) -> None:
    lab = Lab(face, None, {}, {})  # type: ignore[arg-type]
    lab.shelf.fails = True
    cached = lab.function(lab.cache().minimal)
    for number in range(8):
        lab.call(cached, number)
    assert lab.shelf.reads == 8
    alone = Lab(face, None, {}, {})  # type: ignore[arg-type]
    alone.cache = lambda backend: Cache(backend=backend).minimal  # type: ignore
    assert runs_of_two_at_once(alone) == 2


def test_minimal_does_not_try_again() -> None:
    with Loading() as server:
        config = CacheConfig(socket_timeout=LONG, l1_enabled=False, **QUICK)
        cache = Cache(config, backend=server.url)
        cached = cache.minimal(name="f")(lambda: 1)
        cached._ready()
        with pytest.raises(BackendError):
            cached._plan.store.backend.ping(5.0)
        assert server.asked == 1
        cache.close()


def test_local_keeps_references(face: Face) -> None:
    cache = Cache(backend=None)
    for decorate, same in ((cache, False), (cache.local, True)):
        cached = face.function(decorate, lambda: [1])
        assert (face.call(cached) is face.call(cached)) is same


def test_dev_logs_at_debug(caplog: pytest.LogCaptureFixture) -> None:
    import logging

    logger = logging.getLogger("cachekit")
    logger.setLevel(logging.NOTSET)
    Cache().dev(lambda: 1)()
    assert logger.level == logging.DEBUG


@pytest.mark.parametrize("preset", ["test", "local"])
def test_entries_do_not_expire(preset: str) -> None:
    cached = getattr(Cache(CacheConfig(default_ttl=1)), preset)(lambda: 1)
    cached()
    assert cached.entry().remaining_ttl is None


@pytest.mark.parametrize("preset", ["dev", "test"])
def test_failures_of_the_cache_surface(preset: str) -> None:
    from cachekit import SerializationError

    cached = getattr(Cache(), preset)(lambda: object())
    with pytest.raises(SerializationError):
        cached()


def test_production_jitters_and_serves_stale(face: Face) -> None:
    lab = Lab(face, None, {}, {})  # type: ignore[arg-type]
    cache = lab.cache()
    lab.cache = lambda *args: cache.production  # type: ignore[method-assign]
    assert lifetimes_differ(lab)
    assert stale_on_error(lab) == "old"


def test_secure_needs_a_key() -> None:
    with pytest.raises(ConfigurationError, match="CACHEKIT_MASTER_KEY"):
        Cache().secure(lambda: 1)


def test_presets_set_nothing_that_is_not_tested_here() -> None:
    named = {name for preset in PRESETS.values() for name in preset.options}
    assert named == {
        *("enable_circuit_breaker", "connection_retries", "single_flight"),
        *("ttl_jitter", "serve_stale_on_error", "encryption", "distributed_lock"),
        *("backend", "debug", "fallback_enabled", "ttl", "references"),
    }
    assert FunctionOptions.of("test", {}).ttl is NEVER
