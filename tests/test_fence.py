"""What was computed before an invalidation is not kept after it, within one process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from basic_store import BasicStore
from together import MAX, background, wait_until

from cachekit import Cache, CacheConfig
from cachekit.backends import MemoryBackend


class Steps:
    """A function whose first run waits in the middle, with what it read before."""

    def __init__(self, decorate: Callable[[Any], Any]) -> None:
        self.row = "old"
        self.runs = 0
        self.go = threading.Event()
        self.reading = threading.Event()
        self.function = decorate(self.load)

    def load(self, key: int) -> str:
        row = self.row
        self.runs += 1
        if self.runs == 1:
            self.reading.set()
            assert self.go.wait(MAX)
        return row

    def during_the_first_run(self, happens: Callable[[], Any]) -> str:
        with background(lambda: self.function(1)) as first:
            assert self.reading.wait(MAX)
            self.row = "new"
            try:
                happens()
            finally:
                self.go.set()
        return first.result()


NEWER = {
    "invalidate": lambda fn: fn.invalidate(1),
    "put": lambda fn: fn.put("new", 1),
    "refresh": lambda fn: fn.refresh(1),
    "bypass": lambda fn: fn.using("BYPASS")(1),
    "strategy invalidate": lambda fn: fn.using("INVALIDATE")(1),
}


@pytest.mark.parametrize("single_flight", [True, False])
@pytest.mark.parametrize("tier", ["memory", "store", "both"])
@pytest.mark.parametrize("newer", NEWER)
def test_an_older_run_fills_nothing(newer: str, tier: str, single_flight: bool) -> None:
    store = MemoryBackend() if tier != "memory" else None
    config = CacheConfig(l1_enabled=tier != "store", namespace="t")
    cache = Cache(config, backend=store)
    steps = Steps(cache(single_flight=single_flight, name="steps"))
    fn = steps.function
    assert steps.during_the_first_run(lambda: NEWER[newer](fn)) == "old"
    assert fn(1) == "new"
    if store is not None:
        other = Cache(config, backend=store)(name="steps")(steps.load)
        assert other(1) == "new"


@pytest.mark.parametrize("mode", ["BYPASS", "INVALIDATE"])
@pytest.mark.parametrize("newer", NEWER)
def test_an_older_run_of_another_strategy_fills_nothing(mode: str, newer: str) -> None:
    cache = Cache(backend=None)
    steps = Steps(cache)
    fn = steps.function
    steps.function = fn.using(mode)
    assert steps.during_the_first_run(lambda: NEWER[newer](fn)) == "old"
    assert fn(1) == "new"


def test_an_older_refresh_fills_nothing() -> None:
    cache = Cache(backend=None)
    steps = Steps(cache)
    fn = steps.function
    steps.function = fn.refresh
    assert steps.during_the_first_run(lambda: fn.invalidate(1)) == "old"
    assert fn(1) == "new"


def test_a_follower_that_runs_alone_fills_nothing_after_an_invalidation() -> None:
    cache = Cache(backend=None)
    go = threading.Event()
    runs: list[int] = []
    row = ["old"]

    @cache(single_flight_timeout=0.02)
    def load(key: int) -> str:
        value = row[0]
        runs.append(1)
        if len(runs) <= 2:
            assert go.wait(MAX)
        return value

    with background(lambda: load(1)) as leader:
        wait_until(lambda: len(runs) == 1)
        with background(lambda: load(1)) as follower:
            wait_until(lambda: len(runs) == 2)
            row[0] = "new"
            load.invalidate(1)
            go.set()
    assert leader.result() == follower.result() == "old"
    assert load(1) == "new"


def test_whoever_asks_after_an_invalidation_does_not_get_the_older_run() -> None:
    steps = Steps(Cache(backend=None))
    fn = steps.function

    def happens() -> None:
        fn.invalidate(1)
        assert fn(1) == "new"

    assert steps.during_the_first_run(happens) == "old"
    assert fn(1) == "new"
    assert steps.runs == 2


def test_cache_clear_keeps_an_older_run_from_filling() -> None:
    steps = Steps(Cache(backend=None))
    fn = steps.function
    assert steps.during_the_first_run(fn.cache_clear) == "old"
    assert fn(1) == "new"


def test_a_run_for_another_key_is_not_held_back() -> None:
    steps = Steps(Cache(backend=None))
    fn = steps.function
    assert steps.during_the_first_run(lambda: fn.invalidate(2)) == "old"
    assert fn(1) == "old"
    assert steps.runs == 1


def test_an_older_run_of_a_function_that_shares_the_name_fills_nothing() -> None:
    cache = Cache(backend=None)
    steps = Steps(cache(full_key=lambda key: f"row:{key}"))

    @cache(full_key=lambda key: f"row:{key}")
    def other(key: int) -> str:
        return "other"

    other(2)
    assert steps.during_the_first_run(lambda: other.put("new", 1)) == "old"
    assert steps.function(1) == "new"
    assert cache.get("row:1") == "new"


@pytest.mark.parametrize("newer", ["invalidate", "put", "refresh"])
def test_an_older_async_run_fills_nothing(newer: str) -> None:
    cache = Cache(backend=None)

    async def main() -> None:
        go, reading = asyncio.Event(), asyncio.Event()
        rows = ["old"]

        @cache
        async def load(key: int) -> str:
            row = rows[0]
            if not reading.is_set():
                reading.set()
                await go.wait()
            return row

        first = asyncio.ensure_future(load(1))
        await reading.wait()
        rows[0] = "new"
        await NEWER[newer](load)
        go.set()
        assert await first == "old"
        assert await load(1) == "new"

    asyncio.run(main())


class PausedStore(BasicStore):
    """A store that stops in the middle of a delete or a write, once."""

    def __init__(self, method: str) -> None:
        super().__init__()
        self.method = method
        self.inside, self.go = threading.Event(), threading.Event()

    def _pause(self, method: str) -> None:
        if method == self.method and not self.inside.is_set():
            self.inside.set()
            assert self.go.wait(MAX)

    def delete(self, keys: Any, timeout: float) -> int:
        self._pause("delete")
        return super().delete(keys, timeout)

    def write(self, key: str, data: bytes, ttl_ms: int, timeout: float) -> None:
        self._pause("write")
        super().write(key, data, ttl_ms, timeout)


@pytest.mark.parametrize("newer", ["invalidate", "strategy invalidate"])
def test_what_is_read_before_the_delete_arrives_is_not_kept(newer: str) -> None:
    store = PausedStore("delete")
    config = CacheConfig(namespace="t")
    rows = ["old"]

    def load(key: int) -> str:
        return rows[0]

    assert Cache(config, backend=store)(name="load")(load)(1) == "old"
    fn = Cache(config, backend=store)(name="load")(load)
    with background(lambda: NEWER[newer](fn)) as ended:
        assert store.inside.wait(MAX)
        assert fn(1) == "old"  # from the store, where it still is
        rows[0] = "new"
        store.go.set()
    ended.result()
    assert fn(1) == "new"


def test_what_is_read_before_a_put_arrives_is_not_kept() -> None:
    store = PausedStore("write")
    config = CacheConfig(namespace="t")

    def load(key: int) -> str:
        return "old"

    store.inside.set()
    assert Cache(config, backend=store)(name="load")(load)(1) == "old"
    store.inside.clear()
    fn = Cache(config, backend=store)(name="load")(load)
    reading, go = threading.Event(), threading.Event()
    read = store.read

    def paused_read(key: str, timeout: float) -> Any:
        found = read(key, timeout)
        reading.set()
        assert go.wait(MAX)
        return found

    with background(lambda: fn.put("new", 1)) as put:
        assert store.inside.wait(MAX)
        store.read = paused_read  # type: ignore[method-assign]
        with background(lambda: fn(1)) as reader:
            assert reading.wait(MAX)
            store.go.set()
            put.result(MAX)
            go.set()
        assert reader.result() == "old"
    assert fn(1) == "new"
