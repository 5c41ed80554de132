# SPDX-License-Identifier: MIT
"""Invalidations that a store did not take: kept, and delivered before its next read.

Until the store has taken one, this process treats what it covers as a miss and fills
nothing there. At most ``LIMIT`` names are kept; past that a function's names are
replaced by the function as a whole.

A store that lives and refuses to delete (a read-only replica) is still read for what no
kept invalidation covers, and asked again every ``PAUSE``. One that cannot delete whole
functions (``delete_prefix`` is optional in a backend) is not used for such a function
any more.
"""

from __future__ import annotations

import os
import threading
import weakref
from time import monotonic

from cachekit._core import Flag
from cachekit._errors import BackendTimeout, BackendUnavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

__all__ = ["LIMIT", "AsyncCareful", "Careful", "Pending"]

#: Names that are kept one by one.
LIMIT = 10_000
#: Names that are sent in one command.
BATCH = 1_000
#: Seconds until a store that refused is asked again.
PAUSE = 1.0


class Pending:
    """What one store has yet to be told.

    ``flag.value`` is not 0 while something waits: the core reads it before each
    operation and then goes through the careful transport.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        # Re-entrant: a forgotten coroutine may be closed, and keep a name, in here.
        self._lock = threading.RLock()
        self._kept = 0  # how often anything was kept: numbers what waits
        self._names: dict[str, tuple[str, int]] = {}  # name -> function prefix, number
        self._prefixes: dict[str, int] = {}  # whole functions -> number
        self.asks_again = 0.0  # monotonic seconds; before, deliveries are not tried
        self.flag = Flag()
        _all.add(self)

    def __len__(self) -> int:
        return len(self._names) + len(self._prefixes)

    def keep(self, name: str, prefix: str) -> None:
        """Remember that ``name``, of the function with that key prefix, has to go."""
        with self._lock:
            self._kept += 1
            if prefix in self._prefixes:
                self._prefixes[prefix] = self._kept
            else:
                self._names[name] = (prefix, self._kept)
            if len(self._names) > self._limit:
                self._merge()
            self.flag.value = len(self)

    def _merge(self) -> None:
        """Replace the names of the function that has most of them by the function."""
        counts: dict[str, int] = {}
        names = list(self._names.items())
        for _, (prefix, _) in names:
            counts[prefix] = counts.get(prefix, 0) + 1
        largest = max(counts, key=counts.__getitem__)
        self._prefixes[largest] = self._kept
        self._names = {name: of for name, of in names if of[0] != largest}

    def covers(self, name: str) -> bool:
        """Does what waits say that this name must not be used?"""
        with self._lock:
            if name in self._names:
                return True
            return any(name.startswith(prefix) for prefix in list(self._prefixes))

    def batch(self, whole: bool = True) -> tuple[list[str], list[str], int]:
        """What to send next: names, prefixes of whole functions (if the store can do
        that), and for `taken` how much had been kept by now."""
        with self._lock:
            names = list(self._names)[:BATCH]
            prefixes = list(self._prefixes) if whole and not names else []
            return names, prefixes, self._kept

    def taken(self, names: Sequence[str], prefixes: Sequence[str], kept: int) -> None:
        """The store took these; what was kept again meanwhile stays."""
        with self._lock:
            for name in names:
                if self._names.get(name, ("", kept + 1))[1] <= kept:
                    del self._names[name]
            for prefix in prefixes:
                if self._prefixes.get(prefix, kept + 1) <= kept:
                    del self._prefixes[prefix]
            self.flag.value = len(self)

    def deliveries(self, whole: bool) -> Iterator[tuple[str, Any]]:
        """Method and argument of each delivery, until nothing deliverable is left. To
        go on to the next one says that the store took the last."""
        while True:
            names, prefixes, kept = self.batch(whole)
            if names:
                yield "delete", names
                self.taken(names, (), kept)
            for prefix in prefixes:
                yield "delete_prefix", prefix
                self.taken((), (prefix,), kept)
            if not names and not prefixes:
                return

    def refused(self, error: Exception) -> None:
        """A delivery failed. Raises ``error`` again, unless the store lives and may be
        used for what is not covered."""
        if getattr(error, "counts", True):
            raise error
        self.asks_again = monotonic() + PAUSE


class _Deadline:
    def __init__(self, seconds: float) -> None:
        self._end = monotonic() + seconds

    def left(self) -> float:
        seconds = self._end - monotonic()
        if seconds <= 0:
            raise BackendTimeout("delivering kept invalidations took the whole time")
        return seconds


class _Common:
    def __init__(self, pending: Pending, transport: Any) -> None:
        self._pending = pending
        self._transport = transport
        self._whole = getattr(transport, "delete_prefix", None) is not None

    def _due(self) -> bool:
        return (
            bool(self._pending.flag.value) and monotonic() >= self._pending.asks_again
        )

    def _covered(self, key: str) -> bool:
        return bool(self._pending.flag.value) and self._pending.covers(key)

    def _refuse(self, key: str) -> None:
        if self._covered(key):
            raise BackendUnavailable(
                "an invalidation of this entry has not reached the store yet"
            )


class Careful(_Common):
    """The blocking transport while invalidations wait: delivers them first."""

    def deliver(self, deadline: _Deadline) -> None:
        """Send what waits; raises what the store raises, unless it lives."""
        if not self._due():
            return
        try:
            for method, what in self._pending.deliveries(self._whole):
                getattr(self._transport, method)(what, deadline.left())
        except Exception as error:
            self._pending.refused(error)

    def read(self, key: str, timeout: float) -> Any:
        deadline = _Deadline(timeout)
        self.deliver(deadline)
        if self._covered(key):
            return None
        return self._transport.read(key, deadline.left())

    def write(self, key: str, data: bytes, ttl_ms: int, timeout: float) -> None:
        deadline = _Deadline(timeout)
        if self._covered(key):
            self.deliver(deadline)
            self._refuse(key)
        self._transport.write(key, data, ttl_ms, deadline.left())

    def delete(self, keys: Sequence[str], timeout: float) -> Any:
        deadline = _Deadline(timeout)
        self.deliver(deadline)
        return self._transport.delete(keys, deadline.left())


class AsyncCareful(_Common):
    """The asyncio transport while invalidations wait."""

    async def deliver(self, deadline: _Deadline) -> None:
        """Send what waits; raises what the store raises, unless it lives."""
        if not self._due():
            return
        try:
            for method, what in self._pending.deliveries(self._whole):
                await getattr(self._transport, method)(what, deadline.left())
        except Exception as error:
            self._pending.refused(error)

    async def read(self, key: str, timeout: float) -> Any:
        deadline = _Deadline(timeout)
        await self.deliver(deadline)
        if self._covered(key):
            return None
        return await self._transport.read(key, deadline.left())

    async def write(self, key: str, data: bytes, ttl_ms: int, timeout: float) -> None:
        deadline = _Deadline(timeout)
        if self._covered(key):
            await self.deliver(deadline)
            self._refuse(key)
        await self._transport.write(key, data, ttl_ms, deadline.left())

    async def delete(self, keys: Sequence[str], timeout: float) -> Any:
        deadline = _Deadline(timeout)
        await self.deliver(deadline)
        return await self._transport.delete(keys, deadline.left())


# --- fork ---

_all: weakref.WeakSet[Pending] = weakref.WeakSet()


def _after_fork() -> None:
    """Parent and child both deliver what waits; whoever held a lock is not here."""
    for pending in list(_all):
        pending._lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
