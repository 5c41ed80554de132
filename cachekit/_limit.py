# SPDX-License-Identifier: MIT
"""``max_concurrent_requests``: at most so many operations of a store at once.

One `Limit` per store and process counts for threads and tasks alike. Whoever finds no
place waits in line, within the deadline of the operation, and then skips the store.

The line is a queue of waiters, the free places are another. `_match` brings the two
together; whoever adds to either calls it. It never blocks on a lock (a try that fails
means that somebody else is matching, who looks again before stopping), because a place
may be given back from anywhere: by a signal handler's exception, or by a forgotten
coroutine that the garbage collector closes in the middle of `_match` itself.
"""

from __future__ import annotations

import _thread
import os
import weakref
from collections import deque
from time import monotonic

from cachekit._errors import PoolTimeout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future
    from collections.abc import Callable, Sequence
    from typing import Any

    from cachekit.backends._protocol import Claim, Fill, Removal

__all__ = ["AsyncLimited", "Limit", "Limited"]


class _Waiter:
    """One operation: in line, then in its place, or gone.

    Two locks are each taken once. Whoever takes ``decided`` says whether it gets a
    place or leaves without; whoever takes ``returned`` gives its place back.
    """

    __slots__ = ("bell", "decided", "left", "placed", "returned")

    def __init__(self, timeout: float) -> None:
        self.decided = _thread.allocate_lock()
        self.returned = _thread.allocate_lock()
        self.placed = False
        self.bell: Callable[[], Any] | None = None
        self.left = timeout  # seconds, for the operation itself


class Limit:
    """``limit`` places, taken in the order of asking.

    ``skipped``  how many operations left without one
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.skipped = 0
        self._renew()
        _limits.add(self)

    def _renew(self) -> None:
        self._free: deque[None] = deque([None] * self.limit)
        self._line: deque[_Waiter] = deque()
        self._matching = _thread.allocate_lock()
        self._counting = _thread.allocate_lock()

    @property
    def figures(self) -> dict[str, int]:
        """For reports."""
        return {
            "limit": self.limit,
            "in_use": self.limit - len(self._free),
            "waiting": sum(not waiter.decided.locked() for waiter in [*self._line]),
            "skipped": self.skipped,
        }

    def _match(self) -> None:
        """Give free places to those who wait, first come, first served."""
        while self._free and self._line and self._matching.acquire(False):
            try:
                self._match_locked()
            finally:
                self._matching.release()

    def _match_locked(self) -> None:
        while self._free and self._line:
            waiter = self._line.popleft()
            if not waiter.decided.acquire(False):
                continue  # it has left
            self._free.pop()
            waiter.placed = True
            try:
                if waiter.bell is not None:
                    waiter.bell()
            except RuntimeError:  # its loop is closed
                if waiter.returned.acquire(False):
                    self._free.append(None)

    def _ask(self, timeout: float, waiter: _Waiter | None) -> _Waiter:
        waiter = waiter or _Waiter(timeout)
        self._line.append(waiter)
        self._match()
        return waiter

    def give_back(self, waiter: _Waiter) -> None:
        """The operation is over, or does not want its place any more."""
        if waiter.returned.acquire(False):
            self._free.append(None)
            self._match()

    def leave(self, waiter: _Waiter) -> None:
        """Be done, in whatever state: out of the line, or out of the place. A place
        that came meanwhile goes to the next. Leaving twice does nothing."""
        if waiter.decided.acquire(False):
            waiter.returned.acquire(False)  # it will never have one
        else:
            self.give_back(waiter)

    def _settle(self, waiter: _Waiter, deadline: float) -> _Waiter:
        """The wait is over: with a place in time, or without."""
        waiter.left = deadline - monotonic()
        if waiter.placed and waiter.left > 0:
            return waiter
        self.leave(waiter)
        with self._counting:
            self.skipped += 1
        raise PoolTimeout(
            f"the store is busy with {self.limit} operations, as many as "
            "max_concurrent_requests allows",
            kind="busy",
            counts=False,
        )

    def take(self, timeout: float, waiter: _Waiter | None = None) -> _Waiter:
        """Take a place, to be given back; ``left`` is what is left of ``timeout``.

        ``waiter`` is one's own, to `leave` with whatever happens: an exception of a
        signal handler may come between the end of this call and what follows it.

        Raises PoolTimeout when there is none in time.
        """
        deadline = monotonic() + timeout
        waiter = self._ask(timeout, waiter)
        if waiter.placed:
            return waiter
        try:
            bell = _thread.allocate_lock()
            bell.acquire()
            waiter.bell = bell.release
            if not waiter.placed:  # before the bell hung
                bell.acquire(timeout=max(0.0, timeout))
        except BaseException:
            self.leave(waiter)
            raise
        return self._settle(waiter, deadline)

    async def atake(self, timeout: float, waiter: _Waiter | None = None) -> _Waiter:
        """The same for asyncio."""
        deadline = monotonic() + timeout
        waiter = self._ask(timeout, waiter)
        if waiter.placed:
            return waiter
        from asyncio import get_running_loop

        loop = get_running_loop()
        future: Future[None] = loop.create_future()
        timer = loop.call_later(max(0.0, timeout), _finish, future)
        try:
            waiter.bell = _bell(loop, future)
            if not waiter.placed:
                await future
        except BaseException:
            self.leave(waiter)
            raise
        finally:
            timer.cancel()
        return self._settle(waiter, deadline)


def _finish(future: Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _bell(loop: AbstractEventLoop, future: Future[None]) -> Callable[[], Any]:
    return lambda: loop.call_soon_threadsafe(_finish, future)


class Limited:
    """A blocking transport of which at most so many operations run at once."""

    def __init__(self, transport: Any, limit: Limit) -> None:
        self._transport = transport
        self._limit = limit

    def lookup(self, key: str, sides: tuple[str, ...], timeout: float) -> Any:
        return self._run("lookup", (key, sides), timeout)

    def claim(self, request: Claim, timeout: float) -> Any:
        return self._run("claim", (request,), timeout)

    def fill(self, request: Fill, timeout: float) -> Any:
        return self._run("fill", (request,), timeout)

    def remove(self, removal: Removal, timeout: float) -> None:
        self._run("remove", (removal,), timeout)

    def delete(self, keys: Sequence[str], timeout: float) -> Any:
        return self._run("delete", (keys,), timeout)

    def _run(self, method: str, args: tuple[Any, ...], timeout: float) -> Any:
        place = _Waiter(timeout)
        try:
            self._limit.take(timeout, place)
            return getattr(self._transport, method)(*args, place.left)
        finally:
            self._limit.leave(place)

    def __getattr__(self, name: str) -> Any:
        # What nobody waits for (renewing a lock, a PING) is not counted.
        return getattr(self._transport, name)


class AsyncLimited:
    """The same for an asyncio transport."""

    def __init__(self, transport: Any, limit: Limit) -> None:
        self._transport = transport
        self._limit = limit

    async def lookup(self, key: str, sides: tuple[str, ...], timeout: float) -> Any:
        return await self._run("lookup", (key, sides), timeout)

    async def claim(self, request: Claim, timeout: float) -> Any:
        return await self._run("claim", (request,), timeout)

    async def fill(self, request: Fill, timeout: float) -> Any:
        return await self._run("fill", (request,), timeout)

    async def remove(self, removal: Removal, timeout: float) -> None:
        await self._run("remove", (removal,), timeout)

    async def delete(self, keys: Sequence[str], timeout: float) -> Any:
        return await self._run("delete", (keys,), timeout)

    async def _run(self, method: str, args: tuple[Any, ...], timeout: float) -> Any:
        place = _Waiter(timeout)
        try:
            await self._limit.atake(timeout, place)
            return await getattr(self._transport, method)(*args, place.left)
        finally:
            self._limit.leave(place)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


# --- fork ---

_limits: weakref.WeakSet[Limit] = weakref.WeakSet()


def _after_fork() -> None:
    """What the threads of the parent hold, nobody here will give back."""
    for limit in list(_limits):
        limit._renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
