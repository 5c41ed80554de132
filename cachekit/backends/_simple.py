# SPDX-License-Identifier: MIT
"""A basic backend as a full one: what it cannot do is left out.

No fences, no locks, no versions: a fill is a plain write, and a function or a namespace
is invalidated by removing its entries one by one, where the backend can do that.
"""

from __future__ import annotations

from time import monotonic

from cachekit._errors import BackendUnavailable
from cachekit.backends._protocol import Claimed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from cachekit.backends._protocol import (
        AsyncBackend,
        Backend,
        Claim,
        Fill,
        Found,
        Release,
        Removal,
    )

__all__ = ["AsyncSimple", "Simple"]

_UNFENCED = Claimed(None, "", False, (), None)
_DIGITS = frozenset("0123456789abcdef")


def _prefix_of(version: str) -> str:
    """What the keys begin with that a version key ``{prefix}v:{32 hex}`` stands for.

    >>> _prefix_of("shop:get_user:v:" + 32 * "0")
    'shop:get_user:'
    """
    prefix, _, digits = version.rpartition("v:")
    if len(digits) != 32 or not _DIGITS.issuperset(digits) or prefix[-1:] != ":":
        _refuse("cannot invalidate by tag")
    return prefix


def _refuse(what: str) -> NoReturn:
    raise BackendUnavailable(f"the backend {what}")


def _names_in(request: Claim | Fill) -> tuple[str, ...]:
    """The entry's name, then its further ones."""
    return (request.key, *(name for name, _ in request.others))


def _left(deadline: float) -> float:
    return max(0.0, deadline - monotonic())


class _Adapter:
    fenced = False
    versioned = False

    def __init__(self, backend: Any) -> None:
        self.backend = backend

    def _sweep(self) -> Any:
        """The backend's ``delete_prefix``."""
        sweep = getattr(self.backend, "delete_prefix", None)
        if sweep is None:
            _refuse("cannot remove the entries of a whole function")
        return sweep

    def __getattr__(self, name: str) -> Any:
        """Everything else is the backend's: ``read``, ``ping``, ``address``, ..."""
        if name == "backend":  # not made yet, or being copied
            raise AttributeError(name)
        return getattr(self.backend, name)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.backend!r}>"


class Simple(_Adapter):
    """A `Backend` as a `Transport`.

    >>> from cachekit.backends import MemoryBackend
    >>> Simple(MemoryBackend()).lookup("a", (), timeout=1.0)
    (None, -2, ())
    """

    backend: Backend

    def lookup(self, key: str, sides: tuple[str, ...], timeout: float) -> Found:
        end = monotonic() + timeout
        found = self.backend.read(key, timeout)
        if found is not None:
            return (*found, ())
        # Nobody asks for versions here: these are further names of the entry.
        others = (self.backend.read(side, _left(end)) for side in sides)
        return None, -2, tuple(None if one is None else one[0] for one in others)

    def claim(self, request: Claim, timeout: float) -> Claimed:
        if request.delete:
            self.backend.delete(_names_in(request), timeout)
        return _UNFENCED

    def fill(self, request: Fill, timeout: float) -> bool:
        end = monotonic() + timeout
        self.backend.write(request.key, request.data, request.ttl_ms, timeout)
        if request.others:
            self.backend.delete(_names_in(request)[1:], _left(end))
        return True

    def remove(self, request: Removal, timeout: float) -> None:
        # What cannot be done is said before anything is.
        prefixes = [_prefix_of(version) for version in request.versions]
        sweep: Any = self._sweep() if prefixes else None
        deadline = monotonic() + timeout
        if request.keys:
            self.backend.delete(request.keys, timeout)
        for prefix in prefixes:
            sweep(prefix, _left(deadline))

    def renew(self, key: str, lock: str, ttl_ms: int, timeout: float) -> bool:
        return True

    def release(self, request: Release, timeout: float) -> None:
        pass


class AsyncSimple(_Adapter):
    """An `AsyncBackend` as an `AsyncTransport`."""

    backend: AsyncBackend

    async def lookup(self, key: str, sides: tuple[str, ...], timeout: float) -> Found:
        end = monotonic() + timeout
        found = await self.backend.read(key, timeout)
        if found is not None:
            return (*found, ())
        others = [await self.backend.read(side, _left(end)) for side in sides]
        return None, -2, tuple(None if one is None else one[0] for one in others)

    async def claim(self, request: Claim, timeout: float) -> Claimed:
        if request.delete:
            await self.backend.delete(_names_in(request), timeout)
        return _UNFENCED

    async def fill(self, request: Fill, timeout: float) -> bool:
        end = monotonic() + timeout
        await self.backend.write(request.key, request.data, request.ttl_ms, timeout)
        if request.others:
            await self.backend.delete(_names_in(request)[1:], _left(end))
        return True

    async def remove(self, request: Removal, timeout: float) -> None:
        prefixes = [_prefix_of(version) for version in request.versions]
        sweep: Any = self._sweep() if prefixes else None
        deadline = monotonic() + timeout
        if request.keys:
            await self.backend.delete(request.keys, timeout)
        for prefix in prefixes:
            await sweep(prefix, _left(deadline))

    async def renew(self, key: str, lock: str, ttl_ms: int, timeout: float) -> bool:
        return True

    async def release(self, request: Release, timeout: float) -> None:
        pass
