# SPDX-License-Identifier: MIT
"""One shared store and what stands around it: guard, transports, kept invalidations."""

from __future__ import annotations

from cachekit import _core
from cachekit._errors import BackendError, BackendUnavailable
from cachekit._logging import default_log
from cachekit._pending import AsyncCareful, Careful, Pending
from cachekit._types import Invalidation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from cachekit._config import CacheConfig

__all__ = ["SharedStore"]

_SUCCESS, _FAILURE = _core.Guard.SUCCESS, _core.Guard.FAILURE
_NEUTRAL = _core.Guard.NEUTRAL


class SharedStore:
    """A backend with its breaker, its deadline and what it has yet to be told.

    One for each backend of a `Cache`, shared by all its functions.
    """

    def __init__(
        self, backend: Any, config: CacheConfig, *, breaker: bool = True
    ) -> None:
        self.backend = backend
        self.address: str = getattr(backend, "address", type(backend).__name__)
        self.timeout: float = getattr(backend, "timeout", None) or config.socket_timeout
        self.pending = Pending()
        self.last_error: str | None = None
        settings = getattr(backend, "settings", None)
        self.guard = _core.Guard(
            threshold=config.circuit_breaker_failure_threshold,
            timeout=config.circuit_breaker_timeout,
            success_threshold=config.circuit_breaker_success_threshold,
            half_open_requests=config.circuit_breaker_half_open_requests,
            operation_timeout=self.timeout,
            enabled=breaker,
            on_change=self._changed,
            **({} if settings is None else settings.probe),
        )
        self.blocking = _limited(backend, config.max_concurrent_requests)
        self.careful = Careful(self.pending, self.blocking)
        self._async: Any = None
        self._async_careful: AsyncCareful | None = None
        self._limit = config.max_concurrent_requests

    @property
    def asyncio(self) -> Any:
        """The transport for async functions, made when first asked for."""
        if self._async is None:
            make = getattr(self.backend, "asyncio", None)
            if make is not None:
                transport = make()
            else:
                from cachekit.backends._threads import InThreads

                transport = InThreads(self.backend)
            self._async = _limited_async(transport, self._limit)
        return self._async

    @property
    def async_careful(self) -> AsyncCareful:
        """The asyncio transport for while invalidations wait."""
        if self._async_careful is None:
            self._async_careful = AsyncCareful(self.pending, self.asyncio)
        return self._async_careful

    # -- one operation outside a cached call ------------------------------------------

    def use(self, method: str, *args: Any) -> Any:
        """``method(*args, timeout)`` of the careful transport, under the guard.

        Raises BackendError, also when the guard says to skip the store.
        """
        ticket = self._enter()
        allowance = self.guard.allowance
        try:
            result = getattr(self.careful, method)(*args, allowance)
        except BaseException as error:
            self._left(ticket, error)
            raise
        self.guard.leave(ticket, _SUCCESS)
        return result

    async def ause(self, method: str, *args: Any) -> Any:
        """The same for asyncio."""
        ticket = self._enter()
        allowance = self.guard.allowance
        try:
            result = await getattr(self.async_careful, method)(*args, allowance)
        except BaseException as error:
            self._left(ticket, error)
            raise
        self.guard.leave(ticket, _SUCCESS)
        return result

    def _enter(self) -> int:
        ticket = self.guard.enter()
        if ticket is None:
            raise BackendUnavailable("the shared store is skipped: its breaker is open")
        return ticket

    def _left(self, ticket: int, error: BaseException) -> None:
        counts = isinstance(error, Exception) and getattr(error, "counts", True)
        self.guard.leave(ticket, _FAILURE if counts else _NEUTRAL)
        if isinstance(error, Exception):
            self.failed(error)

    # -- invalidation -----------------------------------------------------------------

    def invalidate(self, names: Sequence[str], prefix: str) -> Invalidation:
        """Remove entries; what the store does not take is kept (and QUEUED)."""
        try:
            self.use("delete", names)
        except Exception:
            return self._queue(names, prefix)
        except BaseException:
            self._queue(names, prefix)
            raise
        return Invalidation.DELIVERED

    async def ainvalidate(self, names: Sequence[str], prefix: str) -> Invalidation:
        """The same for asyncio."""
        try:
            await self.ause("delete", names)
        except Exception:
            return self._queue(names, prefix)
        except BaseException:
            self._queue(names, prefix)
            raise
        return Invalidation.DELIVERED

    def _queue(self, names: Sequence[str], prefix: str) -> Invalidation:
        for name in names:
            self.pending.keep(name, prefix)
        return Invalidation.QUEUED

    # -- what is said of it -----------------------------------------------------------

    def failed(self, error: BaseException) -> None:
        """A store operation failed: one WARNING when it begins, DEBUG from then on."""
        kind = getattr(error, "kind", None) or type(error).__name__
        self.last_error = str(kind)
        default_log().changed(
            ("store", self.address),
            "failing",
            "warning",
            "the shared store %s fails (%s); functions are called instead",
            self.address,
            kind,
            event="store_failed",
            store=self.address,
            kind=kind,
        )

    def recovered(self) -> None:
        """It answers again."""
        default_log().changed(
            ("store", self.address),
            "ok",
            "warning",
            "the shared store %s answers again",
            self.address,
            event="store_recovered",
            store=self.address,
        )

    def _changed(self, old: str, new: str) -> None:
        default_log().changed(
            ("breaker", self.address),
            "ok" if new == "closed" else new,
            "warning",
            "the breaker of %s went from %s to %s",
            self.address,
            old,
            new,
            event="breaker_changed",
            store=self.address,
            old=old,
        )
        if new == "closed":
            self.recovered()

    def close(self) -> None:
        """Close the blocking connections."""
        close = getattr(self.backend, "close", None)
        if close is not None:
            close()

    async def aclose(self) -> None:
        """Close the connections of the running loop, and the blocking ones."""
        if self._async is not None:
            close = getattr(self._async, "close", None)
            if close is not None:
                await close()
        self.close()

    def __repr__(self) -> str:
        return f"<SharedStore {self.address}>"


def _limited(transport: Any, limit: int | None) -> Any:
    if limit is None:
        return transport
    from cachekit._limit import Limited

    return Limited(transport, limit)


def _limited_async(transport: Any, limit: int | None) -> Any:
    if limit is None:
        return transport
    from cachekit._limit import AsyncLimited

    return AsyncLimited(transport, limit)


def describe(error: BaseException) -> str:
    """A failure in one word, for a health report."""
    if isinstance(error, BackendError):
        return str(getattr(error, "kind", None) or type(error).__name__)
    return type(error).__name__
