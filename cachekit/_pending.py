# SPDX-License-Identifier: MIT
"""Invalidations that a store did not take: kept, and delivered before its next read.

Until the store has taken one, this process treats what it covers as a miss and fills
nothing there. At most ``LIMIT`` entries are kept one by one; past that those of a
function are replaced by the function as a whole.

A store that lives and refuses to delete (a read-only replica) is still read for what no
kept invalidation covers, and asked again every ``PAUSE``. So is one that answers reads
and hangs on writes: a delivery before a read is a write, with a ticket of its own.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import namedtuple
from contextlib import contextmanager
from itertools import islice
from time import monotonic

from cachekit._core import Flag, Guard
from cachekit._errors import BackendError, BackendTimeout, BackendUnavailable
from cachekit.backends._protocol import Removal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any, NamedTuple

    from cachekit.backends._protocol import Claim, Claimed, Fill

__all__ = ["LIMIT", "AsyncCareful", "Careful", "Gone", "Pending", "removal_of"]

#: Entries that are kept one by one.
LIMIT = 10_000
#: Names that are sent in one command.
BATCH = 1_000
#: Seconds until a store that refused is asked again.
PAUSE = 1.0

if TYPE_CHECKING:

    class Gone(NamedTuple):
        """One thing that has to go from a store, and what the others are told."""

        name: str
        is_version: bool
        channel: str
        message: bytes
        whole: Gone | None
        also: tuple[tuple[str, bytes], ...] = ()
        listed: tuple[str, str] | None = None

else:
    Gone = namedtuple(
        "Gone",
        ("name", "is_version", "channel", "message", "whole", "also", "listed"),
        defaults=((), None),
    )
    Gone.__doc__ = """What has to go from a store, and what the others are told of it.

    ``name``        a store key, or the name of a version key
    ``is_version``  which of the two
    ``channel``     where ``message`` is published
    ``whole``       of an entry: what takes its place when too many wait
    ``also``        further pairs of a channel and what is published there
    ``listed``      of a version key that no entry carries: the set that names the
                    entries, and what stands before each member
    """


def removal_of(gone: Iterable[Gone]) -> Removal:
    """All of it in one command."""
    gone = list(gone)
    return Removal(
        keys=tuple(one.name for one in gone if not one.is_version),
        versions=tuple(one.name for one in gone if one.is_version),
        messages=tuple(
            pair for one in gone for pair in ((one.channel, one.message), *one.also)
        ),
        listed=tuple(one.listed for one in gone if one.listed is not None),
    )


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
        self._entries: dict[str, tuple[Gone, int]] = {}
        self._versions: dict[str, tuple[Gone, int]] = {}
        self.asks_again = 0.0  # monotonic seconds; before, deliveries are not tried
        self.flag = Flag()
        _all.add(self)

    def __len__(self) -> int:
        return len(self._entries) + len(self._versions)

    def keep(self, gone: Gone) -> None:
        """Remember that it has to go."""
        with self._lock:
            self._kept += 1
            whole = gone.whole
            if gone.is_version:
                self._versions[gone.name] = gone, self._kept
            elif whole is not None and whole.name in self._versions:
                self._versions[whole.name] = whole, self._kept
            else:
                self._entries[gone.name] = gone, self._kept
            if len(self._entries) > self._limit:
                self._merge()
            self.flag.value = len(self)

    def _merge(self) -> None:
        """Replace the entries of the function that has most of them by the function.

        Entries of functions that nothing invalidates as a whole stay, however many.
        """
        counts: dict[Gone, int] = {}
        for gone, _ in self._entries.values():
            if gone.whole is not None:
                counts[gone.whole] = counts.get(gone.whole, 0) + 1
        if not counts:
            return
        largest = max(counts, key=counts.__getitem__)
        self._versions[largest.name] = largest, self._kept
        self._entries = {
            name: kept
            for name, kept in self._entries.items()
            if kept[0].whole != largest
        }

    def covers(self, key: str, sides: Sequence[str]) -> bool:
        """Does what waits say that the entry must not be used?

        ``sides``  its version keys; where a store has none, functions and namespaces
                   are told by what the key begins with
        """
        with self._lock:
            if key in self._entries:
                return True
            if not self._versions:
                return False
            if any(side in self._versions for side in sides):
                return True
            return any(
                key.startswith(_prefix_of(name))
                for name, (gone, _) in self._versions.items()
                if not sides or gone.listed is not None
            )

    def deliveries(self) -> Iterator[Removal]:
        """What to send, until nothing is left. To go on to the next one says that the
        store took the last; what was kept again meanwhile stays."""
        while True:
            with self._lock:
                # Apart: a store that cannot do the one may do the other.
                waiting = self._entries or self._versions
                some = list(islice(waiting.values(), BATCH))
            if not some:
                return
            yield removal_of(gone for gone, _ in some)
            with self._lock:
                for kept in some:
                    where = self._versions if kept[0].is_version else self._entries
                    if where.get(kept[0].name) == kept:
                        del where[kept[0].name]
                self.flag.value = len(self)

    def refused(self, error: Exception) -> None:
        """A delivery failed. Raises ``error`` again, unless the store lives and may be
        used for what is not covered."""
        if getattr(error, "counts", True):
            raise error
        self.asks_again = monotonic() + PAUSE


def _prefix_of(version: str) -> str:
    """What the keys begin with that the version key of a function or a namespace is
    for."""
    return version.rpartition("v:")[0]


class _Deadline:
    def __init__(self, seconds: float) -> None:
        self._end = monotonic() + seconds

    def within(self, seconds: float) -> _Deadline:
        """One that ends no later than this one."""
        sooner = _Deadline(seconds)
        sooner._end = min(sooner._end, self._end)
        return sooner

    def left(self) -> float:
        seconds = self._end - monotonic()
        if seconds <= 0:
            raise BackendTimeout("delivering kept invalidations took the whole time")
        return seconds


class _Common:
    def __init__(
        self, pending: Pending, transport: Any, guard: Guard | None = None
    ) -> None:
        self._pending = pending
        self._transport = transport
        self._guard = guard

    def _due(self) -> bool:
        return (
            bool(self._pending.flag.value) and monotonic() >= self._pending.asks_again
        )

    @contextmanager
    def _before_read(self, deadline: _Deadline) -> Iterator[_Deadline | None]:
        """Around a delivery before a read: until when it may last, None: not now.

        It is a write, and counted as one; the read that fails with it does not count.
        """
        guard = self._guard
        ticket = None if guard is None else guard.enter(Guard.WRITE)
        if guard is None or ticket is None:
            # The leave that the read has will do, unless it is for reads alone.
            alone = guard is not None and guard.state()["writes"] != "closed"
            yield None if alone else deadline
            return
        outcome = Guard.NEUTRAL
        try:
            yield deadline.within(ticket[0])
            if not self._pending.flag.value:
                outcome = Guard.SUCCESS
        except Exception as error:
            if not getattr(error, "counts", True):
                raise
            outcome = Guard.FAILURE
            raise BackendError(
                "the store did not take the invalidations that wait",
                kind=getattr(error, "kind", None) or type(error).__name__,
                counts=False,
            ) from error
        finally:
            guard.leave(ticket, outcome)

    def _covered(self, key: str, sides: Sequence[str]) -> bool:
        return bool(self._pending.flag.value) and self._pending.covers(key, sides)

    def _refuse(self, key: str, sides: Sequence[str]) -> None:
        if self._covered(key, sides):
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
            for removal in self._pending.deliveries():
                self._transport.remove(removal, deadline.left())
        except Exception as error:
            self._pending.refused(error)

    def lookup(self, key: str, sides: tuple[str, ...], timeout: float) -> Any:
        deadline = _Deadline(timeout)
        if self._due():
            with self._before_read(deadline) as until:
                if until is not None:
                    self.deliver(until)
        if self._covered(key, sides):
            return None, -2, (None,) * len(sides)
        return self._transport.lookup(key, sides, deadline.left())

    def claim(self, request: Claim, timeout: float) -> Claimed:
        deadline = _Deadline(timeout)
        self.deliver(deadline)
        self._refuse(request.key, request.sides)
        claimed: Claimed = self._transport.claim(request, deadline.left())
        return claimed

    def fill(self, request: Fill, timeout: float) -> bool:
        deadline = _Deadline(timeout)
        self.deliver(deadline)
        self._refuse(request.key, request.sides)
        stored: bool = self._transport.fill(request, deadline.left())
        return stored

    def remove(self, removal: Removal, timeout: float) -> None:
        deadline = _Deadline(timeout)
        self.deliver(deadline)
        self._transport.remove(removal, deadline.left())

    def delete(self, keys: Sequence[str], timeout: float) -> Any:
        deadline = _Deadline(timeout)
        self.deliver(deadline)
        return self._transport.delete(keys, deadline.left())

    def __getattr__(self, name: str) -> Any:
        # What concerns no entry (locks, PING) need not wait for deliveries.
        return getattr(self._transport, name)


class AsyncCareful(_Common):
    """The asyncio transport while invalidations wait."""

    async def deliver(self, deadline: _Deadline) -> None:
        """Send what waits; raises what the store raises, unless it lives."""
        if not self._due():
            return
        try:
            for removal in self._pending.deliveries():
                await self._transport.remove(removal, deadline.left())
        except Exception as error:
            self._pending.refused(error)

    async def lookup(self, key: str, sides: tuple[str, ...], timeout: float) -> Any:
        deadline = _Deadline(timeout)
        if self._due():
            with self._before_read(deadline) as until:
                if until is not None:
                    await self.deliver(until)
        if self._covered(key, sides):
            return None, -2, (None,) * len(sides)
        return await self._transport.lookup(key, sides, deadline.left())

    async def claim(self, request: Claim, timeout: float) -> Claimed:
        deadline = _Deadline(timeout)
        await self.deliver(deadline)
        self._refuse(request.key, request.sides)
        claimed: Claimed = await self._transport.claim(request, deadline.left())
        return claimed

    async def fill(self, request: Fill, timeout: float) -> bool:
        deadline = _Deadline(timeout)
        await self.deliver(deadline)
        self._refuse(request.key, request.sides)
        stored: bool = await self._transport.fill(request, deadline.left())
        return stored

    async def remove(self, removal: Removal, timeout: float) -> None:
        deadline = _Deadline(timeout)
        await self.deliver(deadline)
        await self._transport.remove(removal, deadline.left())

    async def delete(self, keys: Sequence[str], timeout: float) -> Any:
        deadline = _Deadline(timeout)
        await self.deliver(deadline)
        return await self._transport.delete(keys, deadline.left())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


# --- fork ---

_all: weakref.WeakSet[Pending] = weakref.WeakSet()


def _after_fork() -> None:
    """Parent and child both deliver what waits; whoever held a lock is not here."""
    for pending in list(_all):
        pending._lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
