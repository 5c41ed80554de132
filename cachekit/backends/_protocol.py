# SPDX-License-Identifier: MIT
"""What a backend is.

All times are seconds, lifetimes milliseconds. A failure is raised as a
`cachekit.BackendError` (any other exception counts as one). ``timeout`` bounds the
whole operation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["AsyncBackend", "Backend"]


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
