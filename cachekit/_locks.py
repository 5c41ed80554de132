# SPDX-License-Identifier: MIT
"""The locks that this process holds in a store: renewed while functions run, released.

One daemon thread does both, so that neither a function nor an event loop waits for it:
started with the first lock, ended when idle, started anew in a forked child, told to
end when the interpreter exits. A store that fails is nobody's concern here: a lock that
is not renewed, or not released, expires by itself.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections import deque
from heapq import heappop, heappush
from time import monotonic

from cachekit._errors import BackendError
from cachekit._logging import default_log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from cachekit._core import Call
    from cachekit._waiters import Waiter

    class Store(Protocol):
        """What is used of a ``SharedStore``."""

        def use(self, method: str, /, *args: object) -> object: ...


__all__ = ["Held", "Keeper", "alinger", "hold", "linger", "pause_before"]

#: Seconds without a lock after which the thread ends.
IDLE = 5.0
#: Seconds that exit waits for releases; past it the locks expire by themselves.
EXIT_PATIENCE = 0.25
#: A lock is renewed so often within its lifetime.
_RENEWALS = 3
#: Of the time that a caller follows a flight, its leader waits for another process no
#: longer than this: when it gives up and runs, there is time left for its followers.
_SHARE = 0.5
#: The shortest and the longest pause between two looks at somebody else's lock.
_SHORTEST, _LONGEST = 0.005, 0.25


def pause_before(elapsed: float, random: Callable[[], float] | None = None) -> float:
    """Seconds to wait before looking again whether somebody else's lock is free.

    ``elapsed``  seconds waited so far
    ``random``   gives 0 to 1 (None: a random number), so that those who wait do not
                 look all at once

    >>> pause_before(0.8, lambda: 1.0)
    0.1
    """
    if random is None:
        import random as numbers

        random = numbers.random
    pause = min(max(elapsed / 8, _SHORTEST), _LONGEST)
    return pause * (0.5 + random() / 2)


def linger(call: Call) -> bool:
    """Wait a moment for the process that holds the lock of ``call``; False: that has
    taken too long."""
    lingered = call.lingered
    if lingered >= call.flight_timeout * _SHARE:
        return False
    with _waiter(call) as waiter:
        waiter.wait(pause_before(lingered))
    return True


async def alinger(call: Call) -> bool:
    """The same for a task."""
    lingered = call.lingered
    if lingered >= call.flight_timeout * _SHARE:
        return False
    with _waiter(call) as waiter:
        await waiter.await_(pause_before(lingered))
    return True


def _waiter(call: Call) -> Waiter:
    waiter: Waiter
    waiter = call.function._plan.store.coherence.waiters.register(call.store_key)
    return waiter


class Held:
    """A lock of ours. ``release`` or ``done`` ends it; both may be called again."""

    __slots__ = ("_keeper", "_place", "lock_ms", "wake", "work")

    def __init__(
        self,
        keeper: Keeper,
        place: object,
        work: tuple[Store, str, str],
        lock_ms: int,
        wake: tuple[str, bytes],
    ) -> None:
        self._keeper = keeper
        self._place = place  # the keeper's state that knows it: another one after fork
        self.lock_ms = lock_ms
        self.wake = wake
        #: Store, key and token; None once it is not ours any more.
        self.work: tuple[Store, str, str] | None = work

    @property
    def token(self) -> str:
        """What the lock holds in the store; "" once it is not ours any more."""
        work = self.work
        return "" if work is None else work[2]

    def release(self) -> None:
        """Give it up soon, and wake those who wait for it. Does not wait for that."""
        self._keeper.release(self)

    def done(self) -> None:
        """It has been released, or is no longer wanted: renew it no more."""
        self.work = None


class Keeper:
    """Renews and releases; one per process.

    ``clock``  seconds, monotonic; tests give their own
    ``start``  starts a thread with a target; tests give one that does not
    """

    def __init__(
        self,
        clock: Callable[[], float] = monotonic,
        start: Callable[[Callable[[], None]], None] | None = None,
    ) -> None:
        self._clock = clock
        self._start = start or _start_thread
        self._renew()

    def _renew(self) -> None:
        """As new: also in a forked child, whose locks are the parent's."""
        self._place = object()
        # Re-entrant: a finalizer that runs inside may release.
        self._wake = threading.Condition()
        self._count = 0
        self._due: list[tuple[float, int, Held]] = []  # a heap
        self._releases: deque[tuple[tuple[Store, str, str], tuple[str, bytes]]]
        self._releases = deque()
        self._running = False
        self._closed = False
        self._thread: threading.Thread | None = None

    def hold(
        self,
        store: Store,
        key: str,
        lock: str,
        lock_ms: int,
        channel: str = "",
        wake: bytes = b"",
    ) -> Held:
        """Renew the lock of ``key`` with the token ``lock`` until it is given up.

        ``lock_ms``  how long it lives without; renewed every third of that
        ``wake``     published on ``channel`` by a release when somebody waits
        """
        held = Held(self, self._place, (store, key, lock), lock_ms, (channel, wake))
        with self._wake:
            self._push(held)
            self._run_or_notify()
        return held

    def release(self, held: Held) -> None:
        work = held.work
        if work is None or held._place is not self._place:
            return
        held.work = None
        with self._wake:
            self._releases.append((work, held.wake))
            self._run_or_notify()

    def _push(self, held: Held) -> None:
        self._count += 1
        due = self._clock() + held.lock_ms / 1000 / _RENEWALS
        heappush(self._due, (due, self._count, held))

    def _run_or_notify(self) -> None:
        if self._running or self._closed:
            self._wake.notify()
            return
        self._running = True
        try:
            self._start(self._work)
        except RuntimeError:  # no more threads, or exit has begun
            self._running = False

    # -- the thread -------------------------------------------------------------------

    def _work(self) -> None:
        place = self._place
        self._thread = threading.current_thread()
        idle_since = self._clock()
        while self._place is place:
            pause = self.step()
            with self._wake:
                if self._releases:
                    continue
                if pause is not None:
                    idle_since = self._clock()
                else:
                    pause = idle_since + IDLE - self._clock()
                if self._closed or pause <= 0 and not self._due:
                    self._running = False
                    return
                self._wake.wait(max(0.0, pause))

    def step(self) -> float | None:
        """Do what is due; seconds until the next renewal, None when there is none."""
        while self._releases:
            self._send_release(*self._releases.popleft())
        while (held := self._next()) is not None:
            if self._send_renewal(held):
                with self._wake:
                    self._push(held)
            if self._releases:
                return 0.0
        with self._wake:
            return self._due[0][0] - self._clock() if self._due else None

    def _next(self) -> Held | None:
        """One whose renewal is due; those that have ended are dropped."""
        with self._wake:
            while self._due and not self._closed:
                due, _, held = self._due[0]
                if held.work is not None and due > self._clock():
                    return None
                heappop(self._due)
                if held.work is not None:
                    return held
            return None

    def _send_renewal(self, held: Held) -> bool:
        """Whether it may still be ours."""
        work = held.work
        if work is None:
            return False
        store, key, lock = work
        try:
            ours = store.use("renew", key, lock, held.lock_ms)
        except BaseException as error:
            _failed("renew", error)
            return held.work is not None  # tried again in time
        if not ours:
            held.work = None
        return held.work is not None

    @staticmethod
    def _send_release(work: tuple[Store, str, str], wake: tuple[str, bytes]) -> None:
        from cachekit.backends._protocol import Release

        store, key, lock = work
        try:
            store.use("release", Release(key, lock, *wake))
        except BaseException as error:
            _failed("release", error)

    # -- the end ----------------------------------------------------------------------

    def close(self, patience: float = EXIT_PATIENCE) -> None:
        """Renew no more; wait up to ``patience`` seconds for releases."""
        with self._wake:
            self._closed = True
            self._due.clear()
            self._wake.notify_all()
            thread = self._thread if self._running else None
        if thread is not None and thread is not threading.current_thread():
            thread.join(patience)


def _failed(what: str, error: BaseException) -> None:
    """The store says itself when it fails; what is not its failure is said here."""
    if not isinstance(error, BackendError):
        default_log().limited(
            ("lock", what, type(error)),
            "warning",
            "a lock could not be %sd (%s); it expires by itself",
            what,
            type(error).__name__,
            event="lock_failed",
            kind=type(error).__name__,
        )


def _start_thread(target: Callable[[], None]) -> None:
    threading.Thread(target=target, name="cachekit-locks", daemon=True).start()


_keeper = Keeper()
hold = _keeper.hold
atexit.register(_keeper.close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_keeper._renew)
