# SPDX-License-Identifier: MIT
"""A store in a dict: for tests, and as the shortest example of a backend."""

from __future__ import annotations

import threading
from time import monotonic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["MemoryBackend"]


class MemoryBackend:
    """Entries of this process, shared by every `Cache` that is given the object.

    ``clock``  seconds, monotonic; tests give their own

    >>> store = MemoryBackend()
    >>> store.write("a", b"1", 1000, timeout=1.0)
    >>> store.read("a", timeout=1.0)[0]
    b'1'
    """

    address = "memory"

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: dict[str, tuple[bytes, float | None]] = {}

    def read(self, key: str, timeout: float) -> tuple[bytes, int] | None:
        """The entry and its remaining lifetime in ms (-1: no expiry), or None."""
        with self._lock:
            data, end = self._entries.get(key, (None, None))
            if data is None:
                return None
            if end is None:
                return data, -1
            left = int((end - self._clock()) * 1000)
            if left <= 0:
                del self._entries[key]
                return None
            return data, left

    def write(self, key: str, data: bytes, ttl_ms: int, timeout: float) -> None:
        """Store a copy for ``ttl_ms`` (0: no expiry), replacing what is there."""
        end = self._clock() + ttl_ms / 1000 if ttl_ms else None
        with self._lock:
            self._entries[key] = (bytes(data), end)

    def delete(self, keys: Sequence[str], timeout: float) -> int:
        """Remove; how many were there."""
        with self._lock:
            return sum(self._entries.pop(key, None) is not None for key in keys)

    def delete_prefix(self, prefix: str, timeout: float) -> int:
        """Remove every key that begins so; how many there were."""
        with self._lock:
            names = [key for key in self._entries if key.startswith(prefix)]
            for key in names:
                del self._entries[key]
            return len(names)

    def ping(self, timeout: float) -> None:
        """It always answers."""

    def close(self) -> None:
        """Nothing to close: the entries stay."""

    def __len__(self) -> int:
        return len(self._entries)

    def asyncio(self) -> _Immediate:
        """The same store for async functions: it never waits."""
        return _Immediate(self)


class _Immediate:
    """The asyncio face of a `MemoryBackend`."""

    def __init__(self, store: MemoryBackend) -> None:
        self._store = store

    async def read(self, key: str, timeout: float) -> tuple[bytes, int] | None:
        return self._store.read(key, timeout)

    async def write(self, key: str, data: bytes, ttl_ms: int, timeout: float) -> None:
        self._store.write(key, data, ttl_ms, timeout)

    async def delete(self, keys: Sequence[str], timeout: float) -> int:
        return self._store.delete(keys, timeout)

    async def delete_prefix(self, prefix: str, timeout: float) -> int:
        return self._store.delete_prefix(prefix, timeout)

    async def ping(self, timeout: float) -> None:
        pass

    async def close(self) -> None:
        pass
