# SPDX-License-Identifier: MIT
"""Those in this process who wait for somebody else's lock to be released.

A waiter is registered before it looks whether the lock is still held; a wake from then
on is not lost: the next wait returns at once. The same holds for one who closes a
waiter, looks, and registers another. Waits are for threads or for tasks; both return
early when woken and never later than asked.
"""

from __future__ import annotations

from _thread import RLock, allocate_lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import Future

    from typing_extensions import Self

__all__ = ["Waiter", "Waiters"]

#: Keys whose waiters have left that are remembered: they may be back in a moment.
_MAX_LEFT = 1000


class Waiter:
    """One who waits; a context manager that closes it.

    >>> waiters = Waiters()
    >>> with waiters.register("cachekit:load:1") as waiter:
    ...     waiters.wake("cachekit:load:1")
    ...     waiter.wait(60), waiter.wait(0)
    (True, False)
    """

    __slots__ = ("_asleep", "_future", "_waiters", "store_key")

    def __init__(self, waiters: Waiters, store_key: str) -> None:
        self.store_key = store_key
        self._waiters = waiters
        # Locked, until a wake: waiting is to lock it once more.
        self._asleep = allocate_lock()
        self._asleep.acquire()
        self._future: Future[None] | None = None

    def wait(self, seconds: float) -> bool:
        """Block the thread until woken; whether it was. Signals are handled."""
        return self._asleep.acquire(True, max(0.0, seconds))

    async def await_(self, seconds: float) -> bool:
        """The same for a task."""
        from asyncio import get_running_loop

        loop = get_running_loop()
        self._future = future = loop.create_future()
        # From here on a wake finds the future; one before has left its mark.
        if self._asleep.acquire(False):
            self._future = None
            return True
        timer = loop.call_later(max(0.0, seconds), _finish, future)
        try:
            await future
        finally:
            timer.cancel()
            self._future = None
        return self._asleep.acquire(False)

    def wake(self) -> None:
        """End a wait, this or the next one. Any thread."""
        try:
            self._asleep.release()
        except RuntimeError:
            pass  # it has been woken before
        future = self._future
        if future is not None:
            try:
                future.get_loop().call_soon_threadsafe(_finish, future)
            except RuntimeError:
                pass  # its loop is closed: nobody waits any more

    def close(self) -> None:
        """Be woken no more."""
        self._waiters.remove(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class Waiters:
    """All who wait, by the store key whose lock they wait for."""

    def __init__(self) -> None:
        # Re-entrant: a finalizer that runs inside may leave or come.
        self._lock = RLock()
        self._waiters: dict[str, dict[int, Waiter]] = {}  # guarded by _lock
        #: Keys that were left -> whether a wake has come since; guarded by _lock
        self._left: dict[str, bool] = {}

    def __len__(self) -> int:
        return sum(map(len, list(self._waiters.values())))

    def register(self, store_key: str) -> Waiter:
        """A new waiter, which is woken until it is closed."""
        waiter = Waiter(self, store_key)
        with self._lock:
            self._waiters.setdefault(store_key, {})[id(waiter)] = waiter
            if self._left.pop(store_key, False):
                waiter.wake()
        return waiter

    def remove(self, waiter: Waiter) -> None:
        with self._lock:
            several = self._waiters.get(waiter.store_key, {})
            if id(waiter) not in several:
                return  # it has been closed before
            self._left[waiter.store_key] = self._left.pop(waiter.store_key, False)
            while len(self._left) > _MAX_LEFT:
                del self._left[next(iter(self._left))]
            several.pop(id(waiter), None)
            if not several:
                self._waiters.pop(waiter.store_key, None)

    def wake(self, store_key: str) -> None:
        """Wake those who wait for that key. Any thread; never blocks for long."""
        with self._lock:
            if store_key in self._left:
                self._left[store_key] = True
            several = list(self._waiters.get(store_key, {}).values())
        for waiter in several:
            waiter.wake()

    def after_fork(self) -> None:
        """In a forked child: they have stayed with the parent."""
        self._lock = RLock()
        self._waiters, self._left = {}, {}


def _finish(future: Future[None]) -> None:
    if not future.done():
        future.set_result(None)
