# SPDX-License-Identifier: MIT
"""A store in a dict: for tests, and as the shortest example of a full backend."""

from __future__ import annotations

import os
import threading
from functools import partial
from time import monotonic

from cachekit.backends._protocol import Claimed, fence_key, lock_key

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cachekit.backends._protocol import Claim, Fill, Found, Release, Removal

__all__ = ["MemoryBackend"]

#: Side keys that are kept before those that have expired are looked for.
_MANY = 1000
#: Bytes of an entry that a claim returns.
_HEAD = 96


class _Subscriber:
    """What ``_core.Subscriber`` is to a server: hears what others publish."""

    def __init__(
        self,
        backend: MemoryBackend,
        on_messages: Callable[[list[tuple[bytes, bytes]]], object],
        on_state: Callable[[int], object],
    ) -> None:
        self._backend = backend
        self._on_messages = on_messages
        self._on_state = on_state
        self._ends: dict[str, Callable[[], object]] = {}
        self._channels: list[str] = []
        self._started = False

    def subscribe(self, channels: Sequence[str]) -> None:
        self._channels += channels
        if self._started:
            self._listen()

    def _listen(self) -> None:
        for channel in self._channels:
            if channel not in self._ends:
                hear = partial(self._hear, channel.encode())
                self._ends[channel] = self._backend.subscribe(channel, hear)

    def _hear(self, channel: bytes, text: bytes) -> None:
        self._on_messages([(channel, text)])

    def track(self, prefixes: Sequence[str]) -> None:
        """Nobody but us touches what is in here."""

    def start(self) -> None:
        self._started = True
        self._listen()
        self._on_state(1)

    def stop(self, timeout: float) -> None:
        self._started = False
        while self._ends:
            self._ends.popitem()[1]()

    def wait(self, seconds: float) -> int:
        return int(self._started)

    def confirmed(self, channel: str) -> bool:
        return channel in self._ends


class MemoryBackend:
    """Entries of this process, shared by every `Cache` that is given the object.

    ``clock``  seconds, monotonic; tests give their own

    >>> store = MemoryBackend()
    >>> store.write("a", b"1", 1000, timeout=1.0)
    >>> store.read("a", timeout=1.0)[0]
    b'1'
    """

    address = "memory"
    fenced = True
    versioned = True

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        # Everything below is guarded by it.
        self._entries: dict[str, tuple[bytes, float | None]] = {}
        self._sides: dict[str, tuple[bytes, float | None]] = {}
        self._many = _MANY
        self._ears: dict[str, list[Callable[[bytes], object]]] = {}

    # --- a basic backend ---

    def read(self, key: str, timeout: float) -> tuple[bytes, int] | None:
        """The entry and its remaining lifetime in ms (-1: no expiry), or None."""
        with self._lock:
            return self._get(self._entries, key)

    def write(self, key: str, data: bytes, ttl_ms: int, timeout: float) -> None:
        """Store a copy for ``ttl_ms`` (0: no expiry), replacing what is there."""
        with self._lock:
            self._entries[key] = (bytes(data), self._end(ttl_ms))

    def delete(self, keys: Sequence[str], timeout: float) -> int:
        """Remove; how many were there."""
        with self._lock:
            return sum(
                place.pop(key, None) is not None
                for key in keys
                for place in (self._entries, self._sides)
            )

    def delete_prefix(self, prefix: str, timeout: float) -> int:
        """Remove every key that begins so; how many there were."""
        with self._lock:
            count = 0
            for place in (self._entries, self._sides):
                for key in [key for key in place if key.startswith(prefix)]:
                    del place[key]
                    count += 1
            return count

    def ping(self, timeout: float) -> None:
        """It always answers."""

    def close(self) -> None:
        """Nothing to close: the entries stay."""

    def __len__(self) -> int:
        return len(self._entries)

    def asyncio(self) -> _Immediate:
        """The same store for async functions: it never waits."""
        return _Immediate(self)

    # --- a full one ---

    def lookup(self, key: str, sides: tuple[str, ...], timeout: float) -> Found:
        """The entry, its remaining lifetime in ms, and what the side keys hold."""
        with self._lock:
            data, left = self._get(self._entries, key) or (None, -2)
            return data, left, tuple(map(self._any, sides))

    def claim(self, request: Claim, timeout: float) -> Claimed:
        """Fence, lock and versions, before a function runs."""
        key = request.key
        life = request.life_ms and request.life_ms + request.fence_ttl_ms
        with self._lock:
            fence = self._side(fence_key(key))
            if request.delete:
                self._entries.pop(key, None)
                fence = None
            if fence is None or request.replace:
                fence = _token()
                self._put(fence_key(key), fence, request.fence_ttl_ms)
            lock, busy = self._take_lock(key, request)
            numbers = tuple(self._version(side, life) for side in request.sides)
            head = self._get(self._entries, key) if request.head else None
            for other, _ in request.others:
                self._outdate(other, request.replace, request.delete)
        if request.delete:
            self._publish(request.channel, request.message)
            for _, message in request.others:
                self._publish(request.channel, message)
        return Claimed(
            fence.decode(),
            lock.decode(),
            busy,
            numbers,
            head and (head[0][:_HEAD] or None),
        )

    def fill(self, request: Fill, timeout: float) -> bool:
        """Store an entry; False when it was invalidated since its claim."""
        key, fence = request.key, fence_key(request.key)
        with self._lock:
            stored = request.fence is None or _is(self._side(fence), request.fence)
            if stored:
                data = bytes(request.data)
                self._entries[key] = (data, self._end(request.ttl_ms))
            if stored and request.fence is not None:
                del self._sides[fence]
            for side in request.sides if stored else ():
                self._extend(side, request.ttl_ms)
            for other, _ in request.others:
                self._outdate(other, True, True)
            awaited = self._let_go(key, request.lock)
        self._publish(request.channel, request.message if stored else None)
        if stored and request.message is not None:
            for _, message in request.others:
                self._publish(request.channel, message)
        self._publish(request.channel, request.wake if awaited else None)
        return stored

    def _outdate(self, key: str, fence: bool, entry: bool) -> None:
        """Holds the lock."""
        if fence:
            self._sides.pop(fence_key(key), None)
        if entry:
            self._entries.pop(key, None)

    def remove(self, request: Removal, timeout: float) -> None:
        """Invalidate entries and versions, and tell."""
        with self._lock:
            for key in request.keys:
                self._sides.pop(fence_key(key), None)
                self._entries.pop(key, None)
            for version in request.versions:
                self._sides.pop(version, None)
        for channel, message in request.messages:
            self._publish(channel, message)

    def subscriber(
        self,
        *,
        on_messages: Callable[[list[tuple[bytes, bytes]]], object],
        on_state: Callable[[int], object],
        on_answer: Callable[[int], object] | None = None,
    ) -> _Subscriber:
        """What hears of invalidations for the memory of one `Cache`."""
        return _Subscriber(self, on_messages, on_state)

    def renew(self, key: str, lock: str, ttl_ms: int, timeout: float) -> bool:
        """Keep our lock for so long from now; False: it is no longer ours."""
        with self._lock:
            held = self._side(lock_key(key))
            if held is None or not _is(held, lock):
                return False
            self._put(lock_key(key), held, ttl_ms)
            return True

    def release(self, request: Release, timeout: float) -> None:
        """Give up our lock."""
        with self._lock:
            awaited = self._let_go(request.key, request.lock)
        self._publish(request.channel, request.wake if awaited else None)

    def subscribe(
        self, channel: str, hear: Callable[[bytes], object]
    ) -> Callable[[], None]:
        """Call ``hear(message)``, in the thread that publishes, for every message of
        ``channel``; until what is returned is called."""
        with self._lock:
            ears = self._ears.setdefault(channel, [])
            ears.append(hear)

        def unsubscribe() -> None:
            with self._lock:
                if hear in ears:
                    ears.remove(hear)

        return unsubscribe

    # --- within: with the lock held ---

    def _end(self, ttl_ms: int) -> float | None:
        return self._clock() + ttl_ms / 1000 if ttl_ms else None

    def _any(self, key: str) -> bytes | None:
        """What a key holds: a side key, or another name of an entry."""
        held = self._side(key)
        if held is None:
            held = (self._get(self._entries, key) or (None,))[0]
        return held

    def _get(
        self, place: dict[str, tuple[bytes, float | None]], key: str
    ) -> tuple[bytes, int] | None:
        data, end = place.get(key, (None, None))
        if data is None:
            return None
        if end is None:
            return data, -1
        left = int((end - self._clock()) * 1000)
        if left <= 0:
            del place[key]
            return None
        return data, left

    def _side(self, key: str) -> bytes | None:
        held = self._get(self._sides, key)
        return None if held is None else held[0]

    def _put(self, key: str, data: bytes, ttl_ms: int) -> None:
        self._sides[key] = (data, self._end(ttl_ms))
        if len(self._sides) > self._many:
            for name in list(self._sides):
                self._get(self._sides, name)  # drops what has expired
            self._many = max(_MANY, 2 * len(self._sides))

    def _version(self, side: str, life: int) -> bytes:
        number = self._side(side)
        if number is None:
            number = _token()
            self._put(side, number, life)
        else:
            self._extend(side, life)
        return number

    def _extend(self, side: str, life: int) -> None:
        number, left = self._get(self._sides, side) or (None, -2)
        if number is not None and left >= 0 and (life == 0 or left < life):
            self._put(side, number, life)

    def _take_lock(self, key: str, request: Claim) -> tuple[bytes, bool]:
        """The token where it is ours now, and whether somebody else has it, or has just
        had it."""
        if not request.lock_ms:
            return b"", False
        name = lock_key(key)
        held = self._side(name)
        there = self._get(self._entries, key) is not None
        if held is None and request.unseen and there:
            return b"", True
        if held is None:
            token = request.lock.encode() or _token()
            self._put(name, token, request.lock_ms)
            return token, False
        if len(held) == 16:
            self._sides[name] = (held + b"w", self._sides[name][1])
        return b"", True

    def _let_go(self, key: str, lock: str) -> bool:
        """Release the lock where it is ours. Does somebody wait for it?"""
        held = self._side(lock_key(key))
        if not lock or held is None or not _is(held, lock):
            return False
        del self._sides[lock_key(key)]
        return len(held) > 16

    # --- without ---

    def _publish(self, channel: str, message: bytes | None) -> None:
        if message is not None:
            with self._lock:
                ears = list(self._ears.get(channel, ()))
            for hear in ears:
                hear(message)


def _token() -> bytes:
    return os.urandom(8).hex().encode()


def _is(held: bytes | None, token: str) -> bool:
    """Is that our token, whoever may wait for it?"""
    return held is not None and held[:16] == token.encode()


class _Immediate:
    """The asyncio face of a `MemoryBackend`."""

    fenced = True
    versioned = True

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

    async def lookup(self, key: str, sides: tuple[str, ...], timeout: float) -> Found:
        return self._store.lookup(key, sides, timeout)

    async def claim(self, request: Claim, timeout: float) -> Claimed:
        return self._store.claim(request, timeout)

    async def fill(self, request: Fill, timeout: float) -> bool:
        return self._store.fill(request, timeout)

    async def remove(self, request: Removal, timeout: float) -> None:
        self._store.remove(request, timeout)

    async def renew(self, key: str, lock: str, ttl_ms: int, timeout: float) -> bool:
        return self._store.renew(key, lock, ttl_ms, timeout)

    async def release(self, request: Release, timeout: float) -> None:
        self._store.release(request, timeout)
