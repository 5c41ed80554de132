# SPDX-License-Identifier: MIT
"""The asyncio face of a blocking backend: its methods run in threads.

An operation that nobody waits for any more (its deadline passed, its task was
cancelled) is not begun; one that has begun ends by itself and is not heard. The threads
are daemons: few, started when needed, ended when idle, joined for a moment at exit,
started anew in a forked child.
"""

from __future__ import annotations

import atexit
import os
import weakref
from asyncio import get_running_loop
from time import monotonic

from cachekit._background import Workers
from cachekit._errors import BackendTimeout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future
    from collections.abc import Callable, Sequence
    from typing import Any

__all__ = ["InThreads"]

#: Seconds that exit waits for operations under way.
EXIT_PATIENCE = 1.0


def _most_threads() -> int:
    return min(32, (os.cpu_count() or 1) + 4)


class InThreads:
    """What async functions use where a backend has no ``asyncio()`` of its own.

    ``backend``  an object with the blocking methods of `cachekit.backends.Backend`
    ``threads``  how many of its operations run at once; the others wait their turn

    ``timeout`` bounds the whole of an operation, the wait for a thread included, also
    when the backend's method does not keep to it: then `BackendTimeout` is raised.
    """

    def __init__(self, backend: Any, threads: int | None = None) -> None:
        self._backend = backend
        self._workers = Workers(_most_threads() if threads is None else threads)
        # Optional in a backend, so optional here.
        for name in ("delete_prefix", "ping"):
            if not hasattr(backend, name):
                setattr(self, name, None)
        _alive.add(self)

    async def read(self, key: str, timeout: float) -> tuple[bytes, int] | None:
        result: tuple[bytes, int] | None = await self._run("read", (key,), timeout)
        return result

    async def write(self, key: str, data: bytes, ttl_ms: int, timeout: float) -> None:
        await self._run("write", (key, data, ttl_ms), timeout)

    async def delete(self, keys: Sequence[str], timeout: float) -> int:
        removed: int = await self._run("delete", (keys,), timeout)
        return removed

    async def delete_prefix(self, prefix: str, timeout: float) -> int:
        removed: int = await self._run("delete_prefix", (prefix,), timeout)
        return removed

    async def ping(self, timeout: float) -> None:
        await self._run("ping", (), timeout)

    async def close(self) -> None:
        """Nothing of its own to close: the blocking face closes the backend."""

    async def _run(self, name: str, args: tuple[Any, ...], timeout: float) -> Any:
        loop = get_running_loop()
        job = _Job(loop, getattr(self._backend, name), args, timeout)
        timer = loop.call_later(timeout, job.expire)
        try:
            self._workers.submit(job.run)
            return await job.future
        finally:
            job.dropped = True
            timer.cancel()

    def __repr__(self) -> str:
        return f"<InThreads {self._backend!r}>"


class _Job:
    """One operation: asked for on a loop, run in a thread, answered on the loop."""

    def __init__(
        self,
        loop: AbstractEventLoop,
        method: Callable[..., Any],
        args: tuple[Any, ...],
        timeout: float,
    ) -> None:
        self.future: Future[Any] = loop.create_future()
        self.dropped = False  # set by the loop, read by the thread
        self._loop = loop
        self._method = method
        self._args = args
        self._deadline = monotonic() + timeout

    def run(self) -> None:
        """In the thread."""
        left = self._deadline - monotonic()
        if self.dropped or left <= 0:
            return
        try:
            self._answer(self._method(*self._args, left), None)
        except BaseException as error:
            self._answer(None, error)

    def _answer(self, result: Any, error: BaseException | None) -> None:
        try:
            self._loop.call_soon_threadsafe(self._settle, result, error)
        except RuntimeError:
            pass  # the loop is closed, and who waited is gone with it

    def _settle(self, result: Any, error: BaseException | None) -> None:
        """On the loop."""
        if self.future.done():
            return
        if error is None:
            self.future.set_result(result)
        elif isinstance(error, StopIteration):  # which no future takes
            self.future.set_exception(RuntimeError("the backend raised StopIteration"))
        else:
            self.future.set_exception(error)

    def expire(self) -> None:
        """On the loop, when the time is up."""
        self._settle(None, BackendTimeout("the backend did not answer in time"))


# --- fork and exit ---

_alive: weakref.WeakSet[InThreads] = weakref.WeakSet()


def _after_fork() -> None:
    for face in list(_alive):
        face._workers._renew()


def _at_exit() -> None:
    deadline = monotonic() + EXIT_PATIENCE
    for face in list(_alive):
        face._workers.close(max(0.0, deadline - monotonic()))


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
