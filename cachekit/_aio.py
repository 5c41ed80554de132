# SPDX-License-Identifier: MIT
"""The asyncio driver: the twin of ``csrc/py/driver.c``.

A ``Call`` (``csrc/py/call.h``) decides what happens to a call that memory could not
answer; ``drive`` carries out, for ``async def`` functions, what has to be waited for.

The function runs in a task of its own, in a copy of the caller's context, so that
cancelling any waiter, the first included, removes that waiter only; the last one to
leave cancels the task. Waiters may live on several loops.
"""

from __future__ import annotations

import asyncio
from asyncio import CancelledError, get_running_loop

from cachekit._core import (
    EVICT,
    FINAL,
    LINGER,
    READ,
    RUN,
    WAIT,
    WRITE,
    current_flight,
)
from cachekit._errors import LoaderTimeout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future, Task
    from typing import Any, TypeVar

    from cachekit._core import Call, Flight

    T = TypeVar("T")

__all__ = ["completed", "drive", "refresh", "wake"]

#: Seconds between two looks whether a leader's loop still lives.
WATCH = 0.25

#: Background refreshes under way: a loop only keeps weak references to its tasks.
_refreshes: set[Task[Any]] = set()


async def completed(value: T) -> T:
    """What an async hit returns."""
    return value


async def drive(call: Call) -> Any:
    """Carry a call to its end; returns or raises what it came to."""
    action = call.start()
    while action < FINAL:
        if action == READ:
            if call.leads:
                call.flight.loop = get_running_loop()
            action = await _use_store(call, action)
        elif action == RUN and (call.leads or call.soft_timeout is not None):
            if not await _lead(call):
                return call.leave()
            break
        elif action == WAIT:
            action = await _follow(call)
        else:
            action = await _act(call, action)
    return call.finish()


async def _act(call: Call, action: int) -> int:
    """Anything but WAIT, in this task."""
    if action == RUN:
        return await _run(call)
    if action == LINGER:
        return await _linger(call)
    return await _use_store(call, action)


async def _use_store(call: Call, action: int) -> int:
    """READ, CLAIM, WRITE, DELETE or EVICT."""
    try:
        transport = call.transport
        if action == READ:
            found = await transport.lookup(
                call.store_key, call.lookup_sides, call.allowance
            )
            return call.take_reply(found)
        plan = call.function._plan
        if action == WRITE:
            stored = await transport.fill(plan.fill_request(call), call.allowance)
            return call.take_filled(stored)
        if action != EVICT:
            claimed = await transport.claim(plan.claim_request(call), call.allowance)
            return call.take_claim(claimed)
        await transport.delete(plan.every_name(call), call.allowance)
    except Exception as failure:
        return call.take_failure(failure)
    except BaseException as abort:
        return call.take_exception(abort)
    return call.take_success()


async def _linger(call: Call) -> int:
    """Wait a moment for the process that holds the lock."""
    from cachekit._locks import alinger

    try:
        again = await alinger(call)
    except BaseException as abort:
        return call.take_exception(abort)
    return call.take_look(again)


async def _run(call: Call) -> int:
    """Call the function, in this task."""
    hard = call.hard_timeout
    try:
        value = await (call.invoke() if hard is None else _within(hard, call))
    except BaseException as raised:
        return call.take_exception(raised)
    return call.take_value(value)


async def _within(seconds: float, call: Call) -> Any:
    """Run the function; cancel it when it takes longer."""
    task = get_running_loop().create_task(_invoke(call))
    try:
        done, _ = await asyncio.wait((task,), timeout=seconds)
    except BaseException:
        task.cancel()
        raise
    if done:
        return task.result()
    task.cancel()
    raise LoaderTimeout.of(seconds)


async def _invoke(call: Call) -> Any:
    return await call.invoke()


# -- leading --------------------------------------------------------------------------


async def _work(call: Call) -> None:
    """From here to the end of the call, in a task of its own."""
    if call.leads:
        call.flight.loop = get_running_loop()
        current_flight.set(call.flight)
    action = call.action
    while action < FINAL:
        action = await _act(call, action)


async def _lead(call: Call) -> bool:
    """Have a task run the function and settle the flight; wait for that. False: not any
    longer, there is an old value; the task goes on."""
    loop = get_running_loop()
    task = loop.create_task(_work(call))
    soft = call.soft_timeout
    if not call.leads:
        return await _wait_for(task, call, soft)
    flight = call.flight
    flight.loop = loop
    if not flight.settled:  # by a task that began at once
        flight.task = task
    if not await _wait(flight, soft, leaves=False):
        _leave_to(task, call)
        return False
    if not task.done():
        # Settled: what is left of the task is its last step. A second wait would let a
        # cancellation in between hide the outcome, so there is none.
        assert call.action >= FINAL
    return True


async def _wait_for(task: Task[None], call: Call, soft: float | None) -> bool:
    """The same for a call that leads no flight."""
    try:
        done, _ = await asyncio.wait((task,), timeout=soft)
    except BaseException:
        task.cancel()
        raise
    if not done:
        _leave_to(task, call)
    return bool(done)


def _leave_to(task: Task[None], call: Call) -> None:
    """The task ends the call; nobody waits for it."""
    _refreshes.add(task)
    task.add_done_callback(_refreshes.discard)
    task.add_done_callback(lambda _: _conclude(call))


def _conclude(call: Call) -> None:
    try:
        call.finish()
    except Exception as error:
        call.function._plan.report("refresh_failed", error)
    except BaseException:
        pass  # cancelled with its loop


# -- following ------------------------------------------------------------------------


async def _follow(call: Call) -> int:
    flight = call.flight
    soft = call.soft_timeout
    try:
        settled = await _wait(flight, call.flight_timeout if soft is None else soft)
    except BaseException as abort:
        return call.take_exception(abort)
    if soft is not None and not settled:
        return call.take_patience()
    return call.take_flight(not settled)


async def _wait(flight: Flight, timeout: float | None, *, leaves: bool = True) -> bool:
    """Wait until the flight settles. False when the time came first; ``leaves``: and
    the last one to leave cancels the run."""
    loop = get_running_loop()
    deadline = None if timeout is None else loop.time() + timeout
    former: Future[None] | None = None
    while True:
        future: Future[None] = loop.create_future()
        if not flight.add_waiter(loop, future):
            return True
        if former is not None:
            # Not before: at no moment it may look as if nobody waited.
            flight.remove_waiter(former)
        former = future
        timer = _timer(loop, flight, future, deadline)
        try:
            await future
        except CancelledError:
            _leave(flight, future)
            raise
        finally:
            if timer is not None:
                timer.cancel()
        if flight.settled:
            return True
        if flight.loop is not None and flight.loop.is_closed():
            flight.abandon()
        elif deadline is not None and loop.time() >= deadline:
            if leaves:
                _leave(flight, future)
            else:
                flight.remove_waiter(future)
            return False


def _timer(
    loop: AbstractEventLoop,
    flight: Flight,
    future: Future[None],
    deadline: float | None,
) -> asyncio.TimerHandle | None:
    """What wakes a waiter by time: its deadline, or a look at the leader's loop."""
    foreign = flight.loop is not loop
    if deadline is None and not foreign:
        return None
    when = loop.time() + WATCH if foreign else deadline
    assert when is not None
    if deadline is not None:
        when = min(when, deadline)
    return loop.call_at(when, _finish, future)


def _leave(flight: Flight, future: Future[None]) -> None:
    """A waiter goes before the end; the last one to go cancels the run."""
    left = flight.remove_waiter(future)
    task = flight.task
    if left or task is None:
        return
    loop = task.get_loop()
    if loop is get_running_loop():
        task.cancel()
    elif not loop.is_closed():
        try:
            loop.call_soon_threadsafe(task.cancel)
        except RuntimeError:
            pass  # closed meanwhile: nothing runs there any more


def _finish(future: Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def wake(waiters: list[tuple[AbstractEventLoop, Future[None]]]) -> None:
    """Wake the waiters of a flight that has settled, each on its own loop."""
    running = asyncio._get_running_loop()
    for loop, future in waiters:
        if loop is running:
            _finish(future)
            continue
        try:
            loop.call_soon_threadsafe(_finish, future)
        except RuntimeError:
            pass  # that loop is closed, and its waiters with it


# -- refreshing in the background -----------------------------------------------------


def refresh(call: Call) -> None:
    """Start the background refresh of an entry; not cancelled with the caller."""
    loop = asyncio._get_running_loop()
    if loop is None:
        return  # a hit that was asked for before its loop runs: the next one refreshes
    task = loop.create_task(_refresh(call))
    _refreshes.add(task)
    task.add_done_callback(_refreshes.discard)


async def _refresh(call: Call) -> None:
    if call.start() < FINAL:
        await _work(call)
    _conclude(call)
