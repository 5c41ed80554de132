"""Fixtures that every test may use."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from proxy import Proxy
from servers import MemcachedServer, RedisServer

SANITIZED = os.environ.get("CACHEKIT_SANITIZED") == "1"

settings.register_profile(
    "cachekit",
    deadline=None,
    derandomize=os.environ.get("CI") == "true",
    max_examples=30 if SANITIZED else 100,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "cachekit"))


def pytest_configure() -> None:
    """A shell starts background jobs with SIGINT ignored, and then Python has no
    handler for it: the tests that interrupt themselves need one."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if SANITIZED:
        skip = pytest.mark.skip(reason="cannot run with a sanitizer loaded")
        for item in items:
            if "no_sanitizer" in item.keywords:
                item.add_marker(skip)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The configuration that tests read is the one they make."""
    for name in list(os.environ):
        keep = name in ("CACHEKIT_SANITIZED", "CACHEKIT_WERROR")
        if name == "REDIS_URL" or (name.startswith("CACHEKIT_") and not keep):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def quiet_logger() -> Iterator[None]:
    """`@cache.dev` sets the level of the logger: not for the tests after it."""
    logger = logging.getLogger("cachekit")
    level, handlers = logger.level, list(logger.handlers)
    yield
    logger.setLevel(level)
    logger.handlers[:] = handlers


@pytest.fixture(scope="module")
def _module_redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def redis_server(_module_redis: RedisServer) -> RedisServer:
    """A Redis that is up and empty. It is shared within the file: do not break it."""
    with _module_redis.client() as client:
        client.call("FLUSHALL")
        client.call("CONFIG", "RESETSTAT")
    return _module_redis


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A Redis for this test alone, to kill, stop and restart."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def proxy(redis_server: RedisServer) -> Iterator[Proxy]:
    """A proxy in front of `redis_server`."""
    with Proxy(redis_server.port) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def _module_memcached() -> Iterator[MemcachedServer]:
    with MemcachedServer() as server:
        yield server


@pytest.fixture
def memcached_server(_module_memcached: MemcachedServer) -> MemcachedServer:
    """A memcached that is up and empty, shared within the file."""
    _module_memcached.flush()
    return _module_memcached
