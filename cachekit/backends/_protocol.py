# SPDX-License-Identifier: MIT
"""What a backend is.

A *basic* backend has ``read``, ``write`` and ``delete``; see `Backend`. That is enough
to be cached in. A *full* backend can also fence its fills, lock and keep versions; see
`Transport`. `RedisBackend` and `MemoryBackend` are full; what a basic one cannot do is
left out for it (`cachekit.backends._simple`).

All times are seconds, lifetimes milliseconds. A failure is raised as a
`cachekit.BackendError` (any other exception counts as one). ``timeout`` bounds the
whole operation.

Side keys. An entry ``key`` has a fence ``{key}:f`` and a lock ``{key}:l`` (the braces
are part of the name, so that a cluster keeps the three together). A fence and a version
key hold 16 lower-case hex digits, a lock the same and a ``w`` when somebody waits for
it. A side key that holds anything else is somebody else's: it is never overwritten, and
an operation that needs it raises ``BackendReplyError`` of kind ``wrongtype``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "AsyncBackend",
    "AsyncTransport",
    "Backend",
    "Claim",
    "Claimed",
    "Fill",
    "Found",
    "Release",
    "Removal",
    "Transport",
    "fence_key",
    "lock_key",
]

#: An entry (None: there is none), its remaining lifetime in ms (-1: no expiry; -2: no
#: entry, or the store cannot tell), and what the side keys that were asked for hold, in
#: their order (None: nothing).
Found = tuple["bytes | None", int, "tuple[bytes | None, ...]"]


def fence_key(key: str) -> str:
    """Where the fence of an entry is."""
    return f"{{{key}}}:f"


def lock_key(key: str) -> str:
    """Where the lock of an entry is."""
    return f"{{{key}}}:l"


@runtime_checkable
class Backend(Protocol):
    """A shared store, blocking.

    An object may also have ``asyncio()``, which returns its `AsyncBackend` for async
    functions (without it they call the blocking methods in threads), ``ping(timeout)``,
    ``close()``, and ``delete_prefix(prefix, timeout)``.
    """

    def read(self, key: str, timeout: float) -> tuple[bytes, int] | None:
        """The entry and its remaining lifetime in ms (-1: no expiry, -2: the store
        cannot tell), or None."""
        ...

    def write(self, key: str, data: bytes, ttl_ms: int, timeout: float) -> None:
        """Store for ``ttl_ms`` (0: no expiry), replacing what is there."""
        ...

    def delete(self, keys: Sequence[str], timeout: float) -> int:
        """Remove; how many were there."""
        ...


@runtime_checkable
class AsyncBackend(Protocol):
    """The same for asyncio."""

    async def read(self, key: str, timeout: float) -> tuple[bytes, int] | None:
        """As ``Backend.read``."""
        ...

    async def write(self, key: str, data: bytes, ttl_ms: int, timeout: float) -> None:
        """As ``Backend.write``."""
        ...

    async def delete(self, keys: Sequence[str], timeout: float) -> int:
        """As ``Backend.delete``."""
        ...


# --- what a full backend is asked, and answers ---


class Claim(NamedTuple):
    """Asked before a function runs to fill ``key``."""

    key: str
    #: Version keys; one that is missing is created with a random number.
    sides: tuple[str, ...] = ()
    #: The version keys must outlive an entry of this lifetime; 0: for ever.
    life_ms: int = 0
    #: How long a fence is kept.
    fence_ttl_ms: int = 3_600_000
    #: Put a fence of our own in the place of any, so that earlier runs store nothing.
    replace: bool = False
    #: The lifetime of the lock that is wanted; 0: none is.
    lock_ms: int = 0
    #: The token to take it with, 16 hexadecimal digits that nobody else has: who never
    #: sees the answer can give it back. "": the store makes one.
    lock: str = ""
    #: The entry was not there when it was looked for. Where it is there now, its maker
    #: has stored it and given the lock back in between: that counts as ``busy``, and
    #: nothing is taken.
    unseen: bool = False
    #: Return the first 96 bytes of the entry.
    head: bool = False
    #: Delete the entry as well; replaces the fence.
    delete: bool = False
    #: Where, and what, to publish when ``delete``; None: nothing.
    channel: str = ""
    message: bytes | None = None
    #: Further names of the entry, with what is published of each: ``replace`` and
    #: ``delete`` hold for them as well.
    others: tuple[tuple[str, bytes], ...] = ()
    #: Published as well when ``delete``: pairs of a channel and a message.
    also: tuple[tuple[str, bytes], ...] = ()


class Claimed(NamedTuple):
    """The answer to a `Claim`."""

    #: The token to fill with; None: the store cannot fence, the fill is a plain write.
    fence: str | None
    #: The token of the lock when it is ours, else "".
    lock: str
    #: Somebody else has the lock; will hear that we wait.
    busy: bool
    #: What the version keys hold now, in their order.
    numbers: tuple[bytes | None, ...]
    #: The first bytes of the entry, if asked for and there.
    head: bytes | None


class Fill(NamedTuple):
    """Store an entry, unless it was invalidated since its claim."""

    key: str
    data: bytes
    #: 0: no expiry.
    ttl_ms: int
    #: The token that the claim gave; None: store without asking.
    fence: str | None
    #: Our lock, to be released whatever happens; "": none.
    lock: str = ""
    #: Version keys that must live at least ``ttl_ms``.
    sides: tuple[str, ...] = ()
    channel: str = ""
    #: Published after the entry was stored; None: nothing.
    message: bytes | None = None
    #: Published when the lock is released and somebody waits for it.
    wake: bytes = b""
    #: Further names of the entry, which are removed, with what is published of each
    #: when there is a ``message``.
    others: tuple[tuple[str, bytes], ...] = ()
    #: Published as well when there is a ``message``: pairs of a channel and a message.
    also: tuple[tuple[str, bytes], ...] = ()
    #: A set that the entry is noted in: its key, the member, and the seconds that the
    #: set is kept from now on; None: nowhere.
    listed: tuple[str, str, int] | None = None


class Removal(NamedTuple):
    """Invalidate: entries with their fences, version keys; then tell."""

    keys: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()
    #: Pairs of a channel and what to publish there.
    messages: tuple[tuple[str, bytes], ...] = ()
    #: Sets whose members are entries, which are all removed: the key of the set, and
    #: what stands before each member. Redis alone has such.
    listed: tuple[tuple[str, str], ...] = ()


class Release(NamedTuple):
    """Give up a lock without a fill."""

    key: str
    lock: str
    channel: str = ""
    #: Published when somebody waits for the lock.
    wake: bytes = b""


class Transport(Backend, Protocol):
    """A full backend, blocking. Each operation is one round trip. Its ``asyncio()``
    returns an `AsyncTransport`.

    Tokens and numbers never repeat: one that was lost or evicted errs to the safe side,
    a miss or a fill that is not stored.
    """

    #: Version keys can be read with an entry, and counted on.
    versioned: bool

    @property
    def fenced(self) -> bool:
        """Whether fills are fenced; False while the store refuses what it takes."""
        ...

    def lookup(self, key: str, sides: tuple[str, ...], timeout: float) -> Found:
        """An entry, its remaining lifetime, and what the keys ``sides`` hold."""
        ...

    def claim(self, request: Claim, timeout: float) -> Claimed:
        """Fence, lock and versions, before the function runs."""
        ...

    def fill(self, request: Fill, timeout: float) -> bool:
        """Store; False when the fence is another by now: nothing was stored."""
        ...

    def remove(self, request: Removal, timeout: float) -> None:
        """Invalidate. No fill of an earlier claim is stored after it."""
        ...

    def renew(self, key: str, lock: str, ttl_ms: int, timeout: float) -> bool:
        """Keep our lock for so long from now; False: it is no longer ours."""
        ...

    def release(self, request: Release, timeout: float) -> None:
        """Give up our lock; one that is no longer ours is left alone."""
        ...


class AsyncTransport(AsyncBackend, Protocol):
    """The same for asyncio."""

    versioned: bool

    @property
    def fenced(self) -> bool: ...

    async def lookup(self, key: str, sides: tuple[str, ...], timeout: float) -> Found:
        """As ``Transport.lookup``."""
        ...

    async def claim(self, request: Claim, timeout: float) -> Claimed:
        """As ``Transport.claim``."""
        ...

    async def fill(self, request: Fill, timeout: float) -> bool:
        """As ``Transport.fill``."""
        ...

    async def remove(self, request: Removal, timeout: float) -> None:
        """As ``Transport.remove``."""
        ...

    async def renew(self, key: str, lock: str, ttl_ms: int, timeout: float) -> bool:
        """As ``Transport.renew``."""
        ...

    async def release(self, request: Release, timeout: float) -> None:
        """As ``Transport.release``."""
        ...
