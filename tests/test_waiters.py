"""Waiting for somebody else's lock: no wake is lost, no wait is too long."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from typing import Any

import pytest
from together import MAX, background, wait_until

from cachekit._waiters import Waiters

KEY = "cachekit:load:1"


@pytest.fixture
def waiters() -> Waiters:
    return Waiters()


def test_a_wake_before_the_wait_is_not_lost(waiters: Waiters) -> None:
    with waiters.register(KEY) as waiter:
        waiters.wake(KEY)
        waiters.wake(KEY)
        assert waiter.wait(MAX)
        assert not waiter.wait(0)


def test_a_wake_ends_a_wait(waiters: Waiters) -> None:
    with waiters.register(KEY) as waiter:
        with background(lambda: waiter.wait(MAX)) as waiting:
            time.sleep(0.01)
            assert not waiting.done()
            waiters.wake(KEY)
            assert waiting.result(MAX)


def test_a_wait_ends_in_time(waiters: Waiters) -> None:
    with waiters.register(KEY) as waiter:
        began = time.monotonic()
        assert not waiter.wait(0.01)
        assert not waiter.wait(-1)
        assert time.monotonic() - began < 1


def test_others_are_not_woken(waiters: Waiters) -> None:
    with waiters.register(KEY) as one, waiters.register("other") as other:
        waiters.wake("other")
        assert not one.wait(0)
        assert other.wait(0)


def test_all_who_wait_for_a_key_are_woken(waiters: Waiters) -> None:
    several = [waiters.register(KEY) for _ in range(5)]
    waiters.wake(KEY)
    assert all(waiter.wait(0) for waiter in several)


def test_who_has_left_is_forgotten(waiters: Waiters) -> None:
    with waiters.register(KEY), waiters.register(KEY):
        assert len(waiters) == 2
    assert len(waiters) == 0 and not waiters._waiters
    waiter = waiters.register(KEY)
    waiter.close()
    waiter.close()
    waiters.wake(KEY)
    assert not waiter.wait(0)  # it is another's, should one come


def test_a_wake_between_two_waiters_is_not_lost(waiters: Waiters) -> None:
    with waiters.register(KEY) as waiter:
        assert not waiter.wait(0)
    waiters.wake(KEY)
    for woken in (True, False):
        with waiters.register(KEY) as waiter:
            assert waiter.wait(0) == woken
            assert not waiter.wait(0)


def test_keys_that_were_left_are_forgotten_in_time(waiters: Waiters) -> None:
    for number in range(3000):
        waiters.register(f"key {number}").close()
    assert len(waiters._left) == 1000
    waiters.wake("key 0")
    with waiters.register("key 0") as waiter:
        assert not waiter.wait(0)


def test_a_task_is_woken_from_another_thread(waiters: Waiters) -> None:
    async def main() -> bool:
        with waiters.register(KEY) as waiter:
            timer = threading.Timer(0.01, waiters.wake, [KEY])
            timer.start()
            return await waiter.await_(MAX)

    assert asyncio.run(main())


def test_a_wake_before_a_task_waits_is_not_lost(waiters: Waiters) -> None:
    async def main() -> list[bool]:
        with waiters.register(KEY) as waiter:
            waiters.wake(KEY)
            return [await waiter.await_(MAX), await waiter.await_(0.001)]

    assert asyncio.run(main()) == [True, False]


def test_a_task_may_be_cancelled(waiters: Waiters) -> None:
    async def wait() -> None:
        with waiters.register(KEY) as waiter:
            await waiter.await_(MAX)

    async def main() -> None:
        task = asyncio.ensure_future(wait())
        await asyncio.sleep(0)
        assert len(waiters) == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(waiters) == 0

    asyncio.run(main())


def test_a_closed_loop_is_no_error(waiters: Waiters) -> None:
    waiter = waiters.register(KEY)
    loop = asyncio.new_event_loop()
    coroutine = waiter.await_(MAX)

    async def begin() -> None:
        task = asyncio.current_task()
        assert task is not None
        coroutine.send(None)

    loop.run_until_complete(begin())
    loop.close()
    waiters.wake(KEY)
    coroutine.close()


def test_no_wake_is_lost_between_threads(waiters: Waiters) -> None:
    woken: list[int] = []

    def wait(rounds: int = 300) -> None:
        with waiters.register(KEY) as waiter:
            for number in range(rounds):
                assert waiter.wait(MAX)
                woken.append(number)

    with background(wait) as waiting:
        wait_until(lambda: len(waiters) == 1)
        for number in range(300):
            waiters.wake(KEY)
            wait_until(lambda number=number: len(woken) > number)
        waiting.result(MAX)


def test_a_wait_is_interrupted_by_a_signal(waiters: Waiters) -> None:
    class Rang(Exception): ...

    def ring(*args: Any) -> None:
        raise Rang

    former = signal.signal(signal.SIGUSR1, ring)
    try:
        threading.Timer(0.02, os.kill, [os.getpid(), signal.SIGUSR1]).start()
        began = time.monotonic()
        with pytest.raises(Rang), waiters.register(KEY) as waiter:
            waiter.wait(MAX)
        assert time.monotonic() - began < MAX / 2
        assert len(waiters) == 0
    finally:
        signal.signal(signal.SIGUSR1, former)
