# SPDX-License-Identifier: MIT
"""Invalidations that a store did not take: kept, and delivered before its next read.

Until the store has taken one, this process treats what it covers as a miss and fills
nothing there. At most ``LIMIT`` names are kept; past that a function's names are
replaced by the function as a whole.
"""

from __future__ import annotations

import threading

from cachekit._core import Flag
from cachekit._errors import BackendUnavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

__all__ = ["LIMIT", "AsyncCareful", "Careful", "Pending"]

#: Names that are kept one by one.
LIMIT = 10_000
#: Names that are sent in one command.
BATCH = 1_000


class Pending:
    """What one store has yet to be told.

    ``flag.value`` is not 0 while something waits: the core reads it before each
    operation and then goes through the careful transport.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._kept = 0  # how often anything was kept: numbers what waits
        self._names: dict[str, tuple[str, int]] = {}  # name -> function prefix, number
        self._prefixes: dict[str, int] = {}  # whole functions -> number
        self.flag = Flag()

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
                self._prefixes[prefix] = self._kept
                self._names = {n: k for n, k in self._names.items() if k[0] != prefix}
            self.flag.value = len(self)

    def covers(self, name: str) -> bool:
        """Does what waits say that this name must not be used?"""
        with self._lock:
            if name in self._names:
                return True
            return any(name.startswith(prefix) for prefix in self._prefixes)

    def batch(self) -> tuple[list[str], list[str], int]:
        """What to send next: names, prefixes of whole functions, and for `taken`
        how much had been kept by now."""
        with self._lock:
            names = list(self._names)[:BATCH]
            return names, [] if names else list(self._prefixes), self._kept

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

    def refuse(self, name: str) -> None:
        """Raise BackendUnavailable for a name that must not be used."""
        if self.covers(name):
            raise BackendUnavailable(
                "an invalidation of this entry has not reached the store yet"
            )


class Careful:
    """The blocking transport while invalidations wait: delivers them first."""

    def __init__(self, pending: Pending, transport: Any) -> None:
        self._pending = pending
        self._transport = transport

    def deliver(self, timeout: float) -> None:
        """Send what waits; raises what the store raises."""
        while self._pending.flag.value:
            names, prefixes, kept = self._pending.batch()
            if names:
                self._transport.delete(names, timeout)
            for prefix in prefixes:
                self._transport.delete_prefix(prefix, timeout)
            self._pending.taken(names, prefixes, kept)

    def read(self, key: str, timeout: float) -> Any:
        self.deliver(timeout)
        return self._transport.read(key, timeout)

    def write(self, key: str, data: bytes, ttl_ms: int, timeout: float) -> None:
        self._pending.refuse(key)
        self._transport.write(key, data, ttl_ms, timeout)

    def delete(self, keys: Sequence[str], timeout: float) -> Any:
        self.deliver(timeout)
        return self._transport.delete(keys, timeout)


class AsyncCareful:
    """The asyncio transport while invalidations wait."""

    def __init__(self, pending: Pending, transport: Any) -> None:
        self._pending = pending
        self._transport = transport

    async def deliver(self, timeout: float) -> None:
        """Send what waits; raises what the store raises."""
        while self._pending.flag.value:
            names, prefixes, kept = self._pending.batch()
            if names:
                await self._transport.delete(names, timeout)
            for prefix in prefixes:
                await self._transport.delete_prefix(prefix, timeout)
            self._pending.taken(names, prefixes, kept)

    async def read(self, key: str, timeout: float) -> Any:
        await self.deliver(timeout)
        return await self._transport.read(key, timeout)

    async def write(self, key: str, data: bytes, ttl_ms: int, timeout: float) -> None:
        self._pending.refuse(key)
        await self._transport.write(key, data, ttl_ms, timeout)

    async def delete(self, keys: Sequence[str], timeout: float) -> Any:
        await self.deliver(timeout)
        return await self._transport.delete(keys, timeout)
