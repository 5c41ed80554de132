"""Health: what is said of a cache, and that asking changes nothing."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from basic_store import BasicStore
from faces import FACES, Face
from servers import RedisServer, free_port

import cachekit
from cachekit import BackendConnectionError, Cache, CacheConfig, health
from cachekit.backends import MemoryBackend, RedisBackend
from cachekit.health import SLOW_MS, describe, liveness, readiness

KEYS = {
    "status",
    "backend",
    "latency_ms",
    "circuit_breaker",
    "pool",
    "memory",
    "fenced",
    "errors",
    "warnings",
}


@pytest.fixture(params=FACES)
def face(request: pytest.FixtureRequest) -> Iterator[Face]:
    with Face(request.param) as face:
        yield face


def on(server: RedisServer, **config: Any) -> Cache:
    config.setdefault("namespace", "test")
    return Cache(CacheConfig(redis_url=server.url, **config))


def nowhere(**config: Any) -> Cache:
    config.setdefault("namespace", "test")
    url = f"redis://127.0.0.1:{free_port()}"
    return Cache(CacheConfig(redis_url=url, **config))


class Scripted(BasicStore):
    """A store whose PING does what it is told."""

    asyncio = None  # type: ignore[assignment]
    address = "scripted"
    seconds = 0.0
    failure: Exception | None = None

    def ping(self, timeout: float) -> None:
        time.sleep(self.seconds)
        if self.failure is not None:
            raise self.failure


# -- the report -----------------------------------------------------------------------


def test_memory_only_is_healthy(face: Face) -> None:
    cache = Cache(backend=None)
    report = face.do(cache, "detailed_health_check")
    assert set(report) == KEYS
    assert report["status"] == "healthy"
    assert report["backend"] == "memory"
    assert report["latency_ms"] is None
    assert report["circuit_breaker"] == {"state": "closed", "failure_count": 0}
    assert report["pool"] is None
    assert report["fenced"] is True
    assert report["errors"] == report["warnings"] == []
    assert face.do(cache, "ping") is True
    assert face.do(cache, "health_check") is True


def test_a_store_that_answers_is_healthy(face: Face, redis_server: RedisServer) -> None:
    cache = on(redis_server)
    face.do(cache, "set", "key", "value")
    report = face.do(cache, "detailed_health_check")
    assert report["status"] == "healthy"
    assert report["backend"] == f"127.0.0.1:{redis_server.port}"
    assert 0 < report["latency_ms"] < 1000
    assert report["circuit_breaker"]["state"] == "closed"
    assert report["circuit_breaker"]["failure_count"] == 0
    pool = report["pool"]["asyncio"] if face.is_async else report["pool"]
    assert pool["created"] == pool["size"] == 1
    assert {"size", "idle", "waiting", "created", "asyncio"} <= set(report["pool"])
    assert face.do(cache, "health_check") is True
    face.do(cache, "close")


def test_the_report_is_plain_data(face: Face, redis_server: RedisServer) -> None:
    for cache in (Cache(backend=None), on(redis_server), nowhere()):
        report = face.do(cache, "detailed_health_check")
        assert json.loads(json.dumps(report)) == report
        face.do(cache, "close")


def test_memory_figures_are_those_of_the_memory(face: Face) -> None:
    cache = Cache(CacheConfig(l1_max_size_mb=2, l1_max_entries=50), backend=None)
    for i in range(3):
        face.do(cache, "set", str(i), str(i) * 1000)
    memory = face.do(cache, "detailed_health_check")["memory"]
    assert memory["entries"] == 3
    assert 3000 < memory["bytes"] < 10_000
    assert memory["max_bytes"] == 2 * 1024 * 1024
    assert memory["max_entries"] == 50


def test_without_a_memory_tier_there_are_no_figures(
    face: Face, redis_server: RedisServer
) -> None:
    cache = on(redis_server, l1_enabled=False)
    report = face.do(cache, "detailed_health_check")
    assert report["memory"] is None
    assert report["status"] == "healthy"
    face.do(cache, "close")


def test_a_store_that_is_down_is_degraded_while_failures_are_hidden(
    face: Face,
) -> None:
    cache = nowhere()
    report = face.do(cache, "detailed_health_check")
    assert report["status"] == "degraded"
    assert report["latency_ms"] is None
    assert len(report["errors"]) == 1 and "refused" in report["errors"][0]
    assert face.do(cache, "ping") is False
    assert face.do(cache, "health_check") is False


def test_a_store_that_is_down_is_unhealthy_where_failures_are_raised(
    face: Face,
) -> None:
    report = face.do(nowhere(fallback_enabled=False), "detailed_health_check")
    assert report["status"] == "unhealthy"


def test_a_slow_store_is_degraded(face: Face) -> None:
    store = Scripted()
    store.seconds = SLOW_MS / 1000 + 0.02
    report = face.do(Cache(backend=store), "detailed_health_check")
    assert report["status"] == "degraded"
    assert report["latency_ms"] > SLOW_MS
    assert "slow" in report["errors"][0]
    assert face.do(Cache(backend=store), "ping") is True


def test_a_stalled_server_is_told_within_the_deadline(
    face: Face, own_redis: RedisServer
) -> None:
    cache = on(own_redis, socket_timeout=0.2)
    assert face.do(cache, "ping") is True
    own_redis.stop()
    began = time.monotonic()
    report = face.do(cache, "detailed_health_check")
    assert time.monotonic() - began < 0.8
    assert report["status"] == "degraded"
    assert "timeout" in report["errors"][0]
    own_redis.cont()
    assert face.do(cache, "detailed_health_check")["status"] == "healthy"
    face.do(cache, "close")


def test_the_deadline_is_one_second_at_most(face: Face) -> None:
    asked: list[float] = []

    class Store(Scripted):
        def ping(self, timeout: float) -> None:
            asked.append(timeout)

    for seconds in (30.0, 0.3):
        cache = Cache(CacheConfig(socket_timeout=seconds), backend=Store())
        assert face.do(cache, "ping") is True
    assert asked[0] == pytest.approx(1.0, abs=0.1)
    assert asked[1] == pytest.approx(0.3, abs=0.1)


def test_a_store_that_ignores_its_deadline_does_not_hold_a_task() -> None:
    released = threading.Event()

    class Store(Scripted):
        def ping(self, timeout: float) -> None:
            released.wait(10)

    cache = Cache(CacheConfig(socket_timeout=0.05), backend=Store())
    began = time.monotonic()
    assert asyncio.run(cache.aping()) is False
    assert time.monotonic() - began < 1.0
    released.set()


def test_a_wrong_password_is_told_without_it(
    face: Face, redis_server: RedisServer
) -> None:
    with RedisServer(password="right") as server:
        url = server.url.replace("right", "hunter2")
        cache = Cache(CacheConfig(redis_url=url, namespace="test"))
        report = face.do(cache, "detailed_health_check")
        assert report["status"] == "degraded"
        assert "auth" in report["errors"][0]
        assert "hunter2" not in json.dumps(report)
        face.do(cache, "close")


def test_a_wrong_configuration_is_unhealthy(
    face: Face, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CACHEKIT_DEFAULT_TTL", "soon")
    cache = Cache()
    report = face.do(cache, "detailed_health_check")
    assert set(report) == KEYS
    assert report["status"] == "unhealthy"
    assert "CACHEKIT_DEFAULT_TTL" in report["errors"][0]
    assert face.do(cache, "ping") is False
    assert face.do(cache, "health_check") is False


@pytest.mark.parametrize(
    "failure", [RuntimeError("secret"), KeyError("secret"), BackendConnectionError()]
)
def test_whatever_a_backend_raises_nothing_is_raised(
    face: Face, failure: Exception
) -> None:
    store = Scripted()
    store.failure = failure
    report = face.do(Cache(backend=store), "detailed_health_check")
    assert report["status"] == "degraded"
    assert "secret" not in json.dumps(report)
    assert face.do(Cache(backend=store), "ping") is False


def test_a_backend_without_a_ping_is_read(face: Face) -> None:
    class Store:
        reads = 0

        def read(self, key: str, timeout: float) -> None:
            self.reads += 1

        def write(self, key: str, data: bytes, ttl_ms: int, timeout: float) -> None:
            raise AssertionError

        def delete(self, keys: Any, timeout: float) -> int:
            raise AssertionError

    store = Store()
    report = face.do(Cache(backend=store), "detailed_health_check")
    assert report["status"] == "healthy"
    assert store.reads == 1


def test_cancelling_a_check_cancels_it() -> None:
    store = Scripted()
    store.seconds = 0.3

    async def main() -> None:
        task = asyncio.create_task(Cache(backend=store).adetailed_health_check())
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


def test_what_is_switched_off_is_said(face: Face) -> None:
    cache = Cache(CacheConfig(enabled=False), backend=None)
    report = face.do(cache, "detailed_health_check")
    assert report["status"] == "healthy"
    assert "switched off" in report["warnings"][0]


def test_kept_invalidations_are_said(face: Face, own_redis: RedisServer) -> None:
    cache = on(own_redis, socket_timeout=0.2)
    own_redis.kill()
    face.do(cache, "delete", "one")
    face.do(cache, "delete", "two")
    report = face.do(cache, "detailed_health_check")
    assert any("2 invalidations wait" in text for text in report["warnings"])


def test_a_disabled_breaker_is_said(face: Face, redis_server: RedisServer) -> None:
    cache = on(redis_server, enable_circuit_breaker=False)
    report = face.do(cache, "detailed_health_check")
    assert report["circuit_breaker"]["state"] == "disabled"
    assert report["status"] == "healthy"
    face.do(cache, "close")


# -- what asking does -----------------------------------------------------------------


def test_asking_does_not_change_statistics(
    face: Face, redis_server: RedisServer
) -> None:
    cache = on(redis_server)
    cached = face.function(cache(name="one"), lambda number: number)
    face.call(cached, 1)
    face.call(cached, 1)
    counts = cached.cache_info()
    breaker = face.do(cache, "detailed_health_check")["circuit_breaker"]
    for _ in range(3):
        face.do(cache, "ping")
        face.call(cached.check_health)
        face.do(cache, "detailed_health_check")
    assert cached.cache_info() == counts
    after = face.do(cache, "detailed_health_check")["circuit_breaker"]
    assert after["successes"] == breaker["successes"]
    face.do(cache, "close")


def test_failed_checks_do_not_open_the_breaker(face: Face) -> None:
    cache = nowhere(circuit_breaker_failure_threshold=2)
    for _ in range(5):
        assert face.do(cache, "ping") is False
    breaker = face.do(cache, "detailed_health_check")["circuit_breaker"]
    assert breaker["state"] == "closed"
    assert breaker["failure_count"] == breaker["failures"] == 0


def test_an_answer_lets_calls_use_the_store_again(
    face: Face, own_redis: RedisServer
) -> None:
    cache = on(
        own_redis,
        socket_timeout=0.2,
        circuit_breaker_failure_threshold=1,
        l1_enabled=False,
    )
    face.do(cache, "set", "key", 1)
    own_redis.kill()
    face.do(cache, "get", "key")
    report = face.do(cache, "detailed_health_check")
    assert report["circuit_breaker"]["state"] == "open"
    assert any("open" in text for text in report["warnings"])
    own_redis.start()
    report = face.do(cache, "detailed_health_check")
    assert report["status"] == "healthy"
    assert report["circuit_breaker"]["state"] == "half-open"
    face.do(cache, "set", "key", 2)
    report = face.do(cache, "detailed_health_check")
    assert report["circuit_breaker"]["state"] == "closed"
    assert face.do(cache, "get", "key") == 2
    face.do(cache, "close")


def test_a_check_takes_no_place_of_the_limit(face: Face) -> None:
    cache = Cache(CacheConfig(max_concurrent_requests=1), backend=MemoryBackend())
    face.do(cache, "get", "key")
    (store,) = cache._stores.values()
    assert store.limit is not None
    place = store.limit.take(1.0)
    assert face.do(cache, "ping") is True
    assert store.limit.skipped == 0
    store.limit.give_back(place)


def test_check_health_is_of_the_functions_own_store(face: Face) -> None:
    cache = Cache(backend=None)
    down = Scripted()
    down.failure = BackendConnectionError("down")
    here = face.function(cache(), lambda: 1)
    there = face.function(cache(backend=down, name="there", namespace="t"), lambda: 1)
    assert face.call(here.check_health) is True
    assert face.call(there.check_health) is False
    down.failure = None
    assert face.call(there.check_health) is True


def test_a_closed_cache_can_be_used_again(
    face: Face, redis_server: RedisServer
) -> None:
    cache = on(redis_server, l1_enabled=False)
    face.do(cache, "set", "key", 1)
    face.do(cache, "close")
    assert face.do(cache, "get", "key") == 1
    assert face.do(cache, "ping") is True
    face.do(cache, "close")


# -- endpoints ------------------------------------------------------------------------


def test_liveness_does_not_touch_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Cache, "config", property(lambda self: pytest.fail("asked")))
    assert liveness() == {"status": "alive"}


def ready(face: Face, cache: Cache | None, **options: Any) -> tuple[bool, Any]:
    function = health.areadiness if face.is_async else readiness
    result: tuple[bool, Any] = face.call(function, cache, **options)
    return result


def test_readiness_accepts_degraded_unless_strict(face: Face) -> None:
    cache = nowhere()
    accepted, report = ready(face, cache)
    assert accepted is True
    assert report["status"] == "degraded"
    assert ready(face, cache, strict=True)[0] is False


def test_readiness_refuses_unhealthy(face: Face) -> None:
    assert ready(face, nowhere(fallback_enabled=False))[0] is False


def test_readiness_is_of_the_default_cache(face: Face) -> None:
    accepted, report = ready(face, None, strict=True)
    assert accepted is True
    assert report["backend"] == "memory"


def test_descriptions_hold_no_text_of_strangers() -> None:
    assert describe(OSError("password=hunter2")) == "OSError"
    assert describe(BackendConnectionError("h:1: gone", kind="reset")) == (
        "reset: h:1: gone"
    )
    assert "E003" in describe(cachekit.DecryptionError())


def test_a_blocking_check_imports_no_asyncio(tmp_path: Path) -> None:
    program = (
        "import sys, cachekit\n"
        "cachekit.Cache(backend=None).detailed_health_check()\n"
        "sys.exit('asyncio' in sys.modules)\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], cwd=tmp_path)
    assert ran.returncode == 0


# -- the probe of the settings --------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "password"),
    [({}, None), ({"password": "a b"}, "a b"), ({"unixsocket": True}, None)],
    ids=["plain", "password", "unix"],
)
def test_the_breaker_finds_the_server_again_by_itself(
    options: dict[str, Any], password: str | None
) -> None:
    with RedisServer(**options) as server:
        url = server.url if password is None else server.url.replace(" ", "%20")
        backend = RedisBackend(url, CacheConfig(socket_timeout=0.3))
        cache = Cache(
            CacheConfig(
                circuit_breaker_failure_threshold=1,
                circuit_breaker_timeout=3600,
                namespace="test",
                l1_enabled=False,
            ),
            backend=backend,
        )
        cache.set("key", 1)
        server.kill()
        cache.get("key")
        (store,) = cache._stores.values()
        assert store.guard.state()["state"] == "open"
        server.start()
        deadline = time.monotonic() + 10
        while store.guard.state()["state"] == "open":
            assert time.monotonic() < deadline
            cache.get("key")
            time.sleep(0.01)
        cache.set("key", 2)
        assert cache.get("key") == 2
        cache.close()
