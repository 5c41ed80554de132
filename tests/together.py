"""Helpers for tests in which threads and tasks meet."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from cachekit._core import current_flight

MAX = 10.0  # seconds: enough for everything that is meant to happen


def wait_until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + MAX
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.001)


async def wait_until_async(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + MAX
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        await asyncio.sleep(0.001)


def followed_by(count: int) -> Callable[[], bool]:
    """Inside a leading function: do that many follow?"""
    flight = current_flight.get()
    return lambda: flight.followers >= count


def in_threads(count: int, job: Callable[[], Any]) -> list[Any]:
    """What `job` returned or raised in each of `count` threads."""
    results: list[Any] = []

    def run() -> None:
        try:
            results.append(job())
        except BaseException as error:
            results.append(error)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(MAX)
        assert not thread.is_alive()
    return results


@contextlib.contextmanager
def background(job: Callable[[], Any]) -> Iterator[Any]:
    """`job` in a thread, from before the block to its end; its future."""
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(job)
