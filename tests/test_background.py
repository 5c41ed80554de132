"""Background refreshes: who runs them, what they know, and how they end."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import pytest
from together import MAX, wait_until, wait_until_async

from cachekit import Cache, _background
from cachekit._background import Workers

SHORT = 0.01  # seconds: a fresh period that ends at once


@pytest.fixture
def workers() -> Iterator[Workers]:
    workers = Workers(limit=4, idle=MAX)
    yield workers
    workers.close()


@pytest.fixture
def cache() -> Cache:
    return Cache(backend=None)


# -- the threads ----------------------------------------------------------------------


def test_jobs_run_in_at_most_four_threads(workers: Workers) -> None:
    go = threading.Event()
    running: list[threading.Thread] = []
    done: list[int] = []

    def job(number: int) -> None:
        running.append(threading.current_thread())
        assert go.wait(MAX)
        done.append(number)

    for number in range(20):
        workers.submit(lambda number=number: job(number))
    wait_until(lambda: len(running) == 4)
    time.sleep(0.02)
    assert len(set(running)) == 4
    assert all(thread.daemon for thread in running)
    go.set()
    wait_until(lambda: len(done) == 20)
    assert sorted(done) == list(range(20))
    assert len(set(running)) == 4


def test_a_waiting_thread_takes_the_next_job(workers: Workers) -> None:
    seen: list[threading.Thread] = []
    for count in range(1, 6):
        workers.submit(lambda: seen.append(threading.current_thread()))
        wait_until(lambda count=count: len(seen) == count)
        wait_until(lambda: workers._waiting == 1)
    assert len(set(seen)) == 1


def test_an_idle_thread_ends_and_a_new_one_starts() -> None:
    workers = Workers(limit=4, idle=0.02)
    seen: list[threading.Thread] = []
    for count in (1, 2):
        workers.submit(lambda: seen.append(threading.current_thread()))
        wait_until(lambda count=count: len(seen) == count)
        wait_until(lambda: not seen[-1].is_alive())
        assert not workers._threads
    assert seen[0] is not seen[1]


def test_a_job_knows_the_context_of_its_caller(workers: Workers) -> None:
    request: ContextVar[str] = ContextVar("request", default="none")
    seen: list[str] = []
    for name in ("one", "other"):
        token = request.set(name)
        workers.submit(lambda: seen.append(request.get()))
        request.reset(token)
    wait_until(lambda: len(seen) == 2)
    assert sorted(seen) == ["one", "other"]


@pytest.mark.parametrize("end", [ValueError, SystemExit, KeyboardInterrupt])
def test_a_job_that_raises_costs_no_thread(
    workers: Workers, end: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []
    monkeypatch.setattr(
        threading, "excepthook", lambda info: told.append(info.exc_type)
    )

    def failing() -> None:
        raise end

    for _ in range(8):
        workers.submit(failing)
    wait_until(lambda: len(told) == 8)
    assert told == [end] * 8
    done: list[int] = []
    workers.submit(lambda: done.append(1))
    wait_until(lambda: done)


def test_a_thread_that_cannot_start_costs_nothing(
    workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        for _ in range(8):
            with pytest.raises(RuntimeError, match="new thread"):
                workers.submit(lambda: done.append(0))
    done: list[int] = []
    workers.submit(lambda: done.append(1))
    wait_until(lambda: done)
    assert done == [1]


def test_close_waits_for_what_has_begun_and_drops_the_rest() -> None:
    workers = Workers(limit=1)
    begun, done = threading.Event(), []

    def job() -> None:
        begun.set()
        time.sleep(0.03)
        done.append(1)

    workers.submit(job)
    assert begun.wait(MAX)
    workers.submit(lambda: done.append(2))
    workers.close()
    assert done == [1]
    workers.submit(lambda: done.append(3))
    assert done == [1] and not workers._jobs


def test_close_has_limited_patience() -> None:
    workers = Workers(limit=1)
    go, begun = threading.Event(), threading.Event()

    def job() -> None:
        begun.set()
        go.wait(MAX)

    workers.submit(job)
    assert begun.wait(MAX)
    began = time.monotonic()
    workers.close(patience=0.02)
    assert time.monotonic() - began < 1
    go.set()


def run(code: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """The code in a new interpreter."""
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=30,
        **options,
    )


def test_no_thread_starts_before_the_first_stale_hit() -> None:
    code = """if True:
        import threading, sys
        from cachekit import Cache
        cache = Cache(backend=None)
        @cache(ttl=60, stale_ttl=60)
        def double(number): return 2 * number
        double(1), double(1), double.refresh(1), double.invalidate(1)
        assert threading.active_count() == 1
        assert "cachekit._background" not in sys.modules
    """
    result = run(code)
    assert result.returncode == 0, result.stderr


def test_a_refresh_under_way_is_waited_for_at_exit() -> None:
    code = """if True:
        import threading, time
        from cachekit import Cache
        cache = Cache(backend=None)
        runs, begun = [], threading.Event()
        @cache(ttl=0.001, stale_ttl=60)
        def load():
            runs.append(1)
            if len(runs) > 1:
                begun.set()
                time.sleep(0.1)
                print("refreshed", flush=True)
            return len(runs)
        load()
        time.sleep(0.01)
        load()
        assert begun.wait(10)
    """
    result = run(code)
    assert (result.returncode, result.stdout, result.stderr) == (0, "refreshed\n", "")


def test_exit_does_not_wait_for_a_refresh_that_hangs() -> None:
    code = """if True:
        import threading, time
        from cachekit import Cache, _background
        _background.Workers.close.__defaults__ = (0.05,)
        cache = Cache(backend=None)
        runs, begun = [], threading.Event()
        @cache(ttl=0.001, stale_ttl=60)
        def load():
            runs.append(1)
            if len(runs) > 1:
                begun.set()
                time.sleep(60)
            return len(runs)
        load()
        time.sleep(0.01)
        load()
        assert begun.wait(10)
    """
    began = time.monotonic()
    result = run(code)
    assert (result.returncode, result.stderr) == (0, "")
    assert time.monotonic() - began < 20


# -- refreshes of cached functions ----------------------------------------------------


def stale(function: Any, *args: Any, **kwargs: Any) -> None:
    """Wait until the entry has had its fresh period, by the clock of hits too."""
    wait_until(lambda: function.entry(*args, **kwargs).stale)
    time.sleep(0.01)  # theirs is coarser


def test_a_stale_hit_returns_the_old_value_and_refreshes_once(cache: Cache) -> None:
    runs: list[int] = []
    go = threading.Event()

    @cache(ttl=SHORT, stale_ttl=MAX)
    def load() -> int:
        runs.append(1)
        if len(runs) > 1:
            assert go.wait(MAX)
        return len(runs)

    assert load() == 1
    stale(load)
    began = time.monotonic()
    assert [load() for _ in range(20)] == [1] * 20
    assert time.monotonic() - began < 1
    wait_until(lambda: len(runs) == 2)
    assert [load() for _ in range(20)] == [1] * 20
    assert len(runs) == 2
    go.set()
    wait_until(lambda: load() != 1)
    assert load.cache_info().stale_hits >= 40


def test_a_refresh_knows_the_context_of_its_caller(cache: Cache) -> None:
    request: ContextVar[str] = ContextVar("request", default="none")
    seen: list[str] = []

    @cache(ttl=SHORT, stale_ttl=MAX)
    def load() -> str:
        seen.append(request.get())
        return "value"

    load()
    stale(load)
    token = request.set("mine")
    load()
    request.reset(token)
    wait_until(lambda: len(seen) == 2)
    assert seen == ["none", "mine"]


def test_a_refresh_gets_the_arguments_of_the_call(cache: Cache) -> None:
    seen: list[Any] = []

    @cache(ttl=SHORT, stale_ttl=MAX)
    def load(*args: Any, **kwargs: Any) -> int:
        seen.append((args, kwargs))
        return 1

    load(1, [2], key="word")
    stale(load, 1, [2], key="word")
    load(1, [2], key="word")
    wait_until(lambda: len(seen) == 2)
    assert seen == [((1, [2]), {"key": "word"})] * 2


@pytest.mark.parametrize("end", [ValueError, SystemExit])
def test_a_refresh_that_fails_leaves_the_old_value_and_is_tried_again(
    cache: Cache,
    end: type[BaseException],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda info: None)
    runs: list[float] = []

    @cache(ttl=SHORT, stale_ttl=MAX, name=f"failing with {end.__name__}")
    def load() -> int:
        runs.append(time.monotonic())
        if len(runs) == 2:
            raise end
        return len(runs)

    load()
    stale(load)
    gc.collect()
    gc.disable()  # the next attempt must not depend on it
    try:
        with caplog.at_level(logging.WARNING, "cachekit"):
            assert load() == 1
            wait_until(lambda: len(runs) == 2)
            wait_until(lambda: load() == 3)
    finally:
        gc.enable()
    assert len(runs) == 3
    if end is ValueError:
        assert runs[2] - runs[1] >= 0.95  # the pause between attempts
        assert [record.levelno for record in caplog.records] == [logging.WARNING]
        assert "ValueError" in caplog.text


def test_an_async_refresh_that_fails_is_tried_again(cache: Cache) -> None:
    runs: list[int] = []

    @cache(ttl=SHORT, stale_ttl=MAX)
    async def load() -> int:
        runs.append(1)
        if len(runs) == 2:
            raise ValueError
        return len(runs)

    async def main() -> None:
        await load()
        await asyncio.sleep(2 * SHORT)
        deadline = time.monotonic() + MAX
        while await load() != 3:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)

    gc.collect()
    gc.disable()
    try:
        asyncio.run(main())
    finally:
        gc.enable()
    assert len(runs) == 3


def test_an_async_refresh_is_not_cancelled_with_its_caller(cache: Cache) -> None:
    runs: list[str] = []
    request: ContextVar[str] = ContextVar("request", default="none")

    async def main() -> None:
        go = asyncio.Event()

        @cache(ttl=SHORT, stale_ttl=MAX)
        async def load() -> int:
            runs.append(request.get())
            if len(runs) > 1:
                await go.wait()
            return len(runs)

        async def caller() -> None:
            request.set("mine")
            assert await load() == 1
            await asyncio.sleep(MAX)

        await load()
        await asyncio.sleep(2 * SHORT)
        task = asyncio.ensure_future(caller())
        await wait_until_async(lambda: len(runs) == 2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert [await load() for _ in range(5)] == [1] * 5
        go.set()
        await wait_until_async(lambda: load.cache_info().loads == 2)

    asyncio.run(main())
    assert runs[:2] == ["none", "mine"]


def test_a_loop_that_ends_ends_its_refreshes(cache: Cache) -> None:
    runs: list[int] = []

    @cache(ttl=SHORT, stale_ttl=MAX)
    async def load() -> int:
        runs.append(1)
        if len(runs) == 2:
            await asyncio.sleep(MAX)
        return len(runs)

    async def first() -> None:
        await load()
        await asyncio.sleep(2 * SHORT)
        assert await load() == 1
        await wait_until_async(lambda: len(runs) == 2)

    async def second() -> None:
        assert await load() == 1  # stale, and refreshed on this loop
        await wait_until_async(lambda: len(runs) == 3)

    gc.collect()
    gc.disable()
    try:
        asyncio.run(first())
        asyncio.run(second())
    finally:
        gc.enable()


def test_a_loop_that_is_closed_under_a_refresh_blocks_nobody() -> None:
    cache = Cache(backend=None)
    runs: list[int] = []

    @cache(ttl=SHORT, stale_ttl=0.15)
    async def load() -> int:
        runs.append(1)
        if len(runs) == 2:
            await asyncio.sleep(MAX)
        return len(runs)

    async def first() -> None:
        await load()
        await asyncio.sleep(2 * SHORT)
        assert await load() == 1
        await wait_until_async(lambda: len(runs) == 2)

    async def second() -> None:
        await asyncio.sleep(0.16)
        assert await asyncio.wait_for(load(), MAX / 2) == 3  # the entry is gone
        await asyncio.sleep(2 * SHORT)
        await load()
        await wait_until_async(lambda: len(runs) == 4)  # refreshes go on

    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda loop, context: None)  # a task is destroyed
    loop.run_until_complete(first())
    loop.close()
    asyncio.run(second())
    from cachekit import _aio

    for task in list(_aio._refreshes):
        if task.get_loop().is_closed():
            _aio._refreshes.discard(task)
    del task
    gc.collect()


def forked(job: Callable[[], Any]) -> None:
    """Run `job` in a forked child, which must end well within a few seconds."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            signal.alarm(8)
            job()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_refreshes_with_threads_of_its_own(cache: Cache) -> None:
    runs: list[int] = []
    go = threading.Event()
    parent = os.getpid()

    @cache(ttl=SHORT, stale_ttl=MAX)
    def load() -> int:
        runs.append(1)
        if os.getpid() == parent and len(runs) > 1:
            assert go.wait(MAX)
        return len(runs)

    def in_child() -> None:
        assert not _background._workers._threads
        assert load() == 1
        # The parent's refresh of this key is none of the child's.
        wait_until(lambda: load() == 3)
        assert threading.active_count() == 2

    load()
    stale(load)
    load()
    wait_until(lambda: len(runs) == 2)
    forked(in_child)
    go.set()
    wait_until(lambda: load() == 2)
