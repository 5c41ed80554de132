"""A blocking backend under async functions: its methods run in threads."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest
from basic_store import BasicStore

from cachekit import BackendConnectionError, BackendTimeout, Cache, CacheConfig
from cachekit.backends import AsyncBackend
from cachekit.backends._threads import InThreads


class Blocking(BasicStore):
    """A store without an asyncio face, which notes the threads that it is used from."""

    asyncio = None  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self.threads: set[int] = set()
        self.inside = self.most = self.begun = 0
        self.held: threading.Event | None = None
        self._counting = threading.Lock()

    def read(self, key: str, timeout: float) -> tuple[bytes, int] | None:
        self.threads.add(threading.get_ident())
        with self._counting:
            self.begun += 1
            self.inside += 1
            self.most = max(self.most, self.inside)
        try:
            if self.held is not None:
                self.held.wait(5)
            return super().read(key, timeout)
        finally:
            with self._counting:
                self.inside -= 1


def test_it_is_an_asyncio_backend() -> None:
    async def main() -> None:
        face = InThreads(Blocking())
        assert isinstance(face, AsyncBackend)
        await face.write("key", b"data", 5000, 1.0)
        found = await face.read("key", 1.0)
        assert found is not None and found[0] == b"data"
        await face.ping(1.0)
        assert await face.delete(["key", "other"], 1.0) == 1
        await face.write("p:1", b"", 0, 1.0)
        assert await face.delete_prefix("p:", 1.0) == 1
        await face.close()

    asyncio.run(main())


def test_async_functions_use_it() -> None:
    store = Blocking()
    cache = Cache(CacheConfig(namespace="test", l1_enabled=False), backend=store)
    runs: list[int] = []

    @cache(name="work")
    async def work(number: int) -> int:
        runs.append(number)
        return number

    async def main() -> None:
        assert await work(1) == await work(1) == 1

    asyncio.run(main())
    assert runs == [1]
    assert threading.get_ident() not in store.threads


def test_the_loop_is_not_held_up() -> None:
    store = Blocking()
    store.held = threading.Event()

    async def main() -> None:
        reading = asyncio.create_task(InThreads(store).read("key", 5.0))
        for _ in range(5):
            await asyncio.sleep(0.001)
        assert not reading.done()
        assert store.held is not None
        store.held.set()
        assert await reading is None

    asyncio.run(main())


def test_no_more_operations_at_once_than_threads() -> None:
    store = Blocking()

    async def main() -> None:
        face = InThreads(store, threads=3)
        await asyncio.gather(*(face.read(str(i), 5.0) for i in range(50)))

    asyncio.run(main())
    assert store.begun == 50
    assert store.most <= 3
    assert len(store.threads) <= 3


def test_its_failures_are_raised() -> None:
    class Failing(Blocking):
        def read(self, key: str, timeout: float) -> Any:
            raise {"stop": StopIteration, "down": BackendConnectionError}[key]("down")

    async def main() -> None:
        with pytest.raises(BackendConnectionError, match="down"):
            await InThreads(Failing()).read("down", 1.0)
        with pytest.raises(RuntimeError, match="StopIteration"):
            await InThreads(Failing()).read("stop", 1.0)

    asyncio.run(main())


def test_a_method_that_ignores_its_deadline_is_left_behind() -> None:
    store = Blocking()
    store.held = threading.Event()

    async def main() -> None:
        began = time.monotonic()
        with pytest.raises(BackendTimeout):
            await InThreads(store).read("key", 0.03)
        assert time.monotonic() - began < 1.0

    asyncio.run(main())
    store.held.set()


def test_what_nobody_waits_for_any_more_is_not_begun() -> None:
    store = Blocking()
    store.held = threading.Event()

    async def main() -> None:
        face = InThreads(store, threads=1)
        first = asyncio.create_task(face.read("first", 5.0))
        second = asyncio.create_task(face.read("cancelled", 5.0))
        while store.begun == 0:
            await asyncio.sleep(0.001)
        second.cancel()
        with pytest.raises(BackendTimeout):
            await face.read("late", 0.02)
        assert store.held is not None
        store.held.set()
        await first
        assert await face.read("next", 5.0) is None

    asyncio.run(main())
    assert store.begun == 2  # the first and the next


def test_the_deadline_that_is_left_is_passed_on() -> None:
    given: list[float] = []

    class Noting(Blocking):
        def delete(self, keys: Sequence[str], timeout: float) -> int:
            given.append(timeout)
            return 0

    asyncio.run(InThreads(Noting()).delete(["key"], 0.5))
    assert 0 < given[0] <= 0.5


def test_an_answer_after_the_loop_is_closed_is_dropped() -> None:
    store = Blocking()
    store.held = threading.Event()
    face = InThreads(store)

    async def main() -> None:
        with pytest.raises(BackendTimeout):
            await face.read("key", 0.01)

    asyncio.run(main())
    store.held.set()
    deadline = time.monotonic() + 5
    while store.inside:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    assert asyncio.run(face.read("key", 5.0)) is None


def test_what_a_backend_lacks_is_missing_here_too() -> None:
    class Plain:
        read = write = delete = None

    face = InThreads(Plain())
    assert face.ping is None
    assert face.delete_prefix is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_starts_threads_of_its_own() -> None:
    store = Blocking()
    face = InThreads(store)
    asyncio.run(face.read("key", 5.0))
    child = os.fork()
    if child == 0:
        try:
            asyncio.run(face.read("key", 2.0))
        except BaseException:
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
