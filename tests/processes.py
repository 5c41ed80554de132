"""Helpers for tests in which processes share a store.

    answer = forked(lambda: shared.read(1))     # in a child that this process forks

A `Shared` is a cache with one ``def`` and one ``async def`` function whose values tell
who made them. Its functions have names, so that processes which import it share the
entries, however they were started.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import traceback
from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection
from typing import Any

from cachekit import Cache, CacheConfig

MAX = 20  # seconds: more than anything takes


class Shared:
    """A cache on the store at `url`, and two functions that count their runs."""

    def __init__(self, url: str, **config: Any) -> None:
        self.cache = Cache(CacheConfig(namespace="processes", **config), backend=url)
        self.runs = 0

        @self.cache(name="blocking", ttl=600)
        def blocking(n: int) -> dict[str, int]:
            return self._value(n)

        @self.cache(name="coroutine", ttl=600)
        async def coroutine(n: int) -> dict[str, int]:
            return self._value(n)

        self.blocking = blocking
        self.coroutine = coroutine

    def _value(self, n: int) -> dict[str, int]:
        self.runs += 1
        return {"n": n, "made by": os.getpid()}

    def read(self, numbers: Iterable[int]) -> list[int]:
        """Who made the values of the numbers, asked for in both ways."""
        numbers = list(numbers)
        values = [self.blocking(n) for n in numbers]
        values += asyncio.run(self._read(numbers))
        assert [value["n"] for value in values] == 2 * numbers
        return [value["made by"] for value in values]

    async def _read(self, numbers: list[int]) -> list[dict[str, int]]:
        values = await asyncio.gather(*map(self.coroutine, numbers))
        await self.cache.aclose()
        return values

    def close(self) -> None:
        self.cache.close()


class Child:
    """A forked child that runs `job`; `result()` waits for what it returned."""

    def __init__(self, job: Callable[[], Any]) -> None:
        self._reading, writing = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            self._run(job, writing)
        os.close(writing)

    def _run(self, job: Callable[[], Any], writing: int) -> None:
        status = 1
        try:
            signal.alarm(MAX)
            os.write(writing, pickle.dumps(job()))
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)

    def result(self) -> Any:
        with open(self._reading, "rb") as pipe:
            data = pipe.read()
        _, status = os.waitpid(self.pid, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        return pickle.loads(data)


def forked(job: Callable[[], Any]) -> Any:
    return Child(job).result()


# What a child of multiprocessing runs. One that was forked has what its parent had.
inherited: Shared | None = None


def child_of_multiprocessing(url: str, pipe: Connection) -> None:
    """Say who made what the parent made, then make something for the parent."""
    shared = inherited or Shared(url)
    before = shared.runs
    made_by = shared.read(range(5))
    runs = shared.runs - before
    shared.read(range(5, 10))
    pipe.send((os.getpid(), made_by, runs))
    pipe.close()
