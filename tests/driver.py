"""One behaviour, written once, for ``def`` and ``async def`` functions alike.

    driver = each_driver  # a fixture: the tests of this file run under both

    def test_second_call_is_a_hit(driver, redis_server):
        cache = driver.cache(redis_server.url)
        work = driver.work(cache, ttl=60)
        assert work(1) == work(1)
        assert work.runs == 1

A `Work` is a cached function that counts its runs and does as it is told. Everything
it offers is an ordinary call here; under asyncio it runs on the driver's loop, which
stands still in between (`wait_until` and `rest` let it turn).
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cachekit import Cache, CacheConfig
from cachekit._checks import UNSET

PATIENCE = 5.0  # seconds until something that must happen has not
_names = itertools.count(1)


class Work:
    """A cached function that counts its runs.

    Called with n it returns ``{"n": n, "run": which run this is}``, so that a value
    tells which run made it. Tests may set, at any time:

    error    what it raises instead, or None
    answer   answer(n) is returned instead, or None
    before   before() is called inside each run, or None

    ``cached`` is the wrapper; calling the Work calls that.
    """

    def __init__(self, driver: Driver, decorate: Callable[[Any], Any]) -> None:
        self.driver = driver
        self.runs = 0
        self.error: BaseException | None = None
        self.answer: Callable[[Any], Any] | None = None
        self.before: Callable[[], Any] | None = None
        self._lock = threading.Lock()
        self.cached = decorate(driver.plain(self._run))

    def _run(self, n: Any) -> Any:
        with self._lock:
            self.runs += 1
            run = self.runs
        if self.before is not None:
            self.before()
        if self.error is not None:
            raise self.error
        return {"n": n, "run": run} if self.answer is None else self.answer(n)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.driver.finish(self.cached(*args, **kwargs))

    def using(self, strategy: Any) -> Callable[..., Any]:
        chosen = self.cached.using(strategy)
        return lambda *args, **kwargs: self.driver.finish(chosen(*args, **kwargs))

    def __getattr__(self, name: str) -> Any:
        """A method of the wrapper; what it returns is awaited where it has to be."""
        method = getattr(self.cached, name)
        return lambda *args, **kwargs: self.driver.finish(method(*args, **kwargs))

    @property
    def info(self) -> Any:
        return self.cached.cache_info()


class Driver:
    """For ``def`` functions."""

    name = "sync"
    is_async = False

    def __init__(self) -> None:
        self._caches: list[Cache] = []

    def cache(self, backend: Any = UNSET, **config: Any) -> Cache:
        """A cache that is closed with the driver; memory only with backend=None."""
        config.setdefault("namespace", "test")
        cache = Cache(CacheConfig(**config), backend=backend)
        self._caches.append(cache)
        return cache

    def work(self, cache: Cache, preset: str = "", **options: Any) -> Work:
        """A cached function with a name of its own."""
        options.setdefault("name", f"work{next(_names)}")
        decorate = getattr(cache, preset) if preset else cache
        return Work(self, decorate(**options))

    def plain(self, run: Callable[[Any], Any]) -> Callable[..., Any]:
        def function(n: Any) -> Any:
            return run(n)

        return function

    def finish(self, result: Any) -> Any:
        """The value of what a call returned."""
        return result

    def rest(self, seconds: float) -> None:
        """Let time pass, and what runs in the background run."""
        time.sleep(seconds)

    def wait_until(self, holds: Callable[[], Any], seconds: float = PATIENCE) -> None:
        """Let time pass until holds(); fails when it does not in time."""
        deadline = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < deadline, "it did not happen in time"
            self.rest(0.002)

    def close(self) -> None:
        for cache in self._caches:
            cache.close()


class AsyncDriver(Driver):
    """For ``async def`` functions, on one loop."""

    name = "async"
    is_async = True

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()

    def plain(self, run: Callable[[Any], Any]) -> Callable[..., Any]:
        async def function(n: Any) -> Any:
            result = run(n)
            return await result if inspect.isawaitable(result) else result

        return function

    def finish(self, result: Any) -> Any:
        if not inspect.isawaitable(result):
            return result
        return self.loop.run_until_complete(_await(result))

    def rest(self, seconds: float) -> None:
        self.loop.run_until_complete(asyncio.sleep(seconds))

    def close(self) -> None:
        for cache in self._caches:
            self.finish(cache.aclose())
        self.rest(0)
        self.loop.close()


async def _await(awaitable: Any) -> Any:
    return await awaitable


DRIVERS = (Driver, AsyncDriver)


@pytest.fixture(params=DRIVERS, ids=lambda kind: kind.name)
def each_driver(request: pytest.FixtureRequest) -> Iterator[Driver]:
    driver = request.param()
    yield driver
    driver.close()
