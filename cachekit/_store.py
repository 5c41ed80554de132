# SPDX-License-Identifier: MIT
"""One shared store and what stands around it: guard, transports, kept invalidations,
memory's coherence with other processes."""

from __future__ import annotations

from time import monotonic

from cachekit import _core
from cachekit._coherence import Coherence
from cachekit._errors import BackendUnavailable
from cachekit._logging import default_log
from cachekit._pending import AsyncCareful, Careful, Pending, removal_of
from cachekit._types import Invalidation
from cachekit.backends._simple import AsyncSimple, Simple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from cachekit._config import CacheConfig
    from cachekit._limit import Limit
    from cachekit._pending import Gone

__all__ = ["SharedStore"]

_SUCCESS, _FAILURE = _core.Guard.SUCCESS, _core.Guard.FAILURE
_NEUTRAL = _core.Guard.NEUTRAL
_READ, _WRITE = _core.Guard.READ, _core.Guard.WRITE
#: The operations that change nothing in a store.
_READS = ("lookup", "ping")
#: Kinds of failure that tell of us, not of the store.
_NOT_ITS_FAULT = ("busy", "pool", "skipped")


class SharedStore:
    """A backend with its breaker, its deadline and what it has yet to be told.

    One for each backend of a `Cache`, shared by all its functions; those of a preset
    that treats it otherwise have a ``twin`` of it, which knows the same invalidations
    and counts the same requests.

    ``origin``  what the backend was named by: a URL or the backend itself
    """

    def __init__(
        self,
        backend: Any,
        config: CacheConfig,
        *,
        breaker: bool = True,
        origin: Any = None,
        twin: SharedStore | None = None,
    ) -> None:
        self.backend = backend
        self.origin = backend if origin is None else origin
        self.address: str = getattr(backend, "address", type(backend).__name__)
        self.timeout: float = getattr(backend, "timeout", None) or config.socket_timeout
        self.pending: Pending = Pending() if twin is None else twin.pending
        self.last_error: str | None = None
        self._successes = 0  # of the guard, when it failed last
        self._told = 0.0  # monotonic seconds: when its state was last said to be bad
        self.guard = _core.Guard(
            threshold=config.circuit_breaker_failure_threshold,
            timeout=config.circuit_breaker_timeout,
            success_threshold=config.circuit_breaker_success_threshold,
            half_open_requests=config.circuit_breaker_half_open_requests,
            operation_timeout=self.timeout,
            enabled=breaker,
            on_change=self._changed,
            on_writes=self._writes_changed,
            **_probe_of(backend),
        )
        #: ``max_concurrent_requests``: one count for threads and tasks; None: no limit.
        self.limit: Limit | None = (
            _limit(config.max_concurrent_requests) if twin is None else twin.limit
        )
        #: Entries carry version numbers, and fills are claimed.
        self.versioned: bool = getattr(backend, "versioned", False)
        self.coherence: Coherence = (
            Coherence(self.address, getattr(backend, "subscriber", None))
            if twin is None
            else twin.coherence
        )
        self.blocking: Any = backend if self.versioned else Simple(backend)
        if self.limit is not None:
            from cachekit._limit import Limited

            self.blocking = Limited(self.blocking, self.limit)
        self.careful = Careful(self.pending, self.blocking, self.guard)
        self._async_backend: Any = None
        self._async: Any = None
        self._async_careful: AsyncCareful | None = None

    @property
    def async_backend(self) -> Any:
        """The backend's asyncio face, made when first asked for."""
        if self._async_backend is None:
            make = getattr(self.backend, "asyncio", None)
            if make is not None:
                self._async_backend = make()
            else:
                from cachekit.backends._threads import InThreads

                self._async_backend = InThreads(self.backend)
        return self._async_backend

    @property
    def asyncio(self) -> Any:
        """The transport for async functions: the asyncio face, within the limit."""
        if self._async is None:
            transport = self.async_backend
            if not self.versioned:
                transport = AsyncSimple(transport)
            if self.limit is not None:
                from cachekit._limit import AsyncLimited

                transport = AsyncLimited(transport, self.limit)
            self._async = transport
        return self._async

    @property
    def async_careful(self) -> AsyncCareful:
        """The asyncio transport for while invalidations wait."""
        if self._async_careful is None:
            self._async_careful = AsyncCareful(self.pending, self.asyncio, self.guard)
        return self._async_careful

    @property
    def place(self) -> Any:
        """The same for all that stand around one backend."""
        return self.origin if isinstance(self.origin, str) else id(self.origin)

    # -- one operation outside a cached call ------------------------------------------

    def use(self, method: str, *args: Any) -> Any:
        """``method(*args, timeout)`` of the careful transport, under the guard.

        Raises BackendError, also when the guard says to skip the store.
        """
        ticket = self._enter(method)
        try:
            result = getattr(self.careful, method)(*args, ticket[0])
        except BaseException as error:
            self._left(ticket, error)
            raise
        self.guard.leave(ticket, _SUCCESS)
        return result

    async def ause(self, method: str, *args: Any) -> Any:
        """The same for asyncio."""
        ticket = self._enter(method)
        try:
            result = await getattr(self.async_careful, method)(*args, ticket[0])
        except BaseException as error:
            self._left(ticket, error)
            raise
        self.guard.leave(ticket, _SUCCESS)
        return result

    def _enter(self, method: str) -> tuple[float, int, int]:
        ticket = self.guard.enter(_READ if method in _READS else _WRITE)
        if ticket is None:
            raise BackendUnavailable("the shared store is skipped: its breaker is open")
        return ticket

    def _left(self, ticket: tuple[float, int, int], error: BaseException) -> None:
        counts = isinstance(error, Exception) and getattr(error, "counts", True)
        self.guard.leave(ticket, _FAILURE if counts else _NEUTRAL)
        if isinstance(error, Exception):
            self.failed(error)

    # -- invalidation -----------------------------------------------------------------

    def invalidate(self, gone: Sequence[Gone]) -> Invalidation:
        """Remove entries or versions; what the store does not take is kept (and
        QUEUED)."""
        try:
            self.use("remove", removal_of(gone))
        except Exception:
            return self._queue(gone)
        except BaseException:
            self._queue(gone)
            raise
        return Invalidation.DELIVERED

    async def ainvalidate(self, gone: Sequence[Gone]) -> Invalidation:
        """The same for asyncio."""
        try:
            await self.ause("remove", removal_of(gone))
        except Exception:
            return self._queue(gone)
        except BaseException:
            self._queue(gone)
            raise
        return Invalidation.DELIVERED

    def _queue(self, gone: Sequence[Gone]) -> Invalidation:
        for one in gone:
            self.pending.keep(one)
        return Invalidation.QUEUED

    @property
    def fenced(self) -> bool:
        """Are fills kept from overtaking invalidations by the store?"""
        return bool(self.blocking.fenced)

    # -- what is said of it -----------------------------------------------------------

    def failed(self, error: BaseException) -> None:
        """A store operation failed: one WARNING when it begins, DEBUG from then on."""
        kind = str(getattr(error, "kind", None) or type(error).__name__)
        if kind in _NOT_ITS_FAULT:
            self._skipped(kind)
            return
        if kind == "wrongtype":
            self._foreign()
            return
        self.last_error = kind
        log, fields = default_log(), {"event": "store_failed", "store": self.address}
        message = "the shared store %s fails (%s); functions are called instead"
        words = (message, self.address, kind)
        topic = ("store", self.address)
        successes = self.guard.state()["successes"]
        said = log.changed(topic, "failing", "warning", *words, **fields, kind=kind)
        if said or self._told == 0.0:
            # By us, or by another store of this address a moment ago.
            self._told = monotonic()
        elif successes != self._successes and monotonic() - self._told >= log.interval:
            # It had worked in between, too briefly for the breaker to notice; or it
            # answers, and takes no writes.
            log.limited(topic, "warning", *words, **fields, kind=kind)
        self._successes = successes

    def _skipped(self, kind: str) -> None:
        """It was not asked: its breaker is open, or it is busy."""
        if kind != "skipped":
            default_log().limited(
                ("busy", self.address),
                "warning",
                "the shared store %s is busy (%s); functions are called instead",
                self.address,
                kind,
                event="store_busy",
                store=self.address,
                kind=kind,
            )

    def _foreign(self) -> None:
        """It works; where we would put something of ours is something else."""
        default_log().limited(
            ("foreign", self.address),
            "warning",
            "the shared store %s holds what cachekit did not put there under the "
            "name of a fence, a lock or a version; it is left alone, and what depends "
            "on it is not stored",
            self.address,
            event="foreign_key",
            store=self.address,
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
        if new == "open":
            # Writes are asked for again when it answers, whatever became of them.
            default_log().changed(
                ("writes", self.address),
                "ok",
                "debug",
                "nothing is asked of the shared store %s for now, writes included",
                self.address,
                event="writes_changed",
                store=self.address,
            )

    def _writes_changed(self, old: str, new: str) -> None:
        topic = ("writes", self.address)
        fields = {"event": "writes_changed", "store": self.address}
        if new != "closed":
            default_log().changed(
                topic,
                "skipped",
                "warning",
                "the shared store %s hangs on writes: they are skipped, reads are not",
                self.address,
                **fields,
            )
        elif default_log().changed(
            topic,
            "ok",
            "warning",
            "the shared store %s takes writes again",
            self.address,
            **fields,
        ):
            self.recovered()

    def close(self) -> None:
        """Close the blocking connections, and listen no more."""
        self.coherence.close()
        close = getattr(self.backend, "close", None)
        if close is not None:
            close()

    async def aclose(self) -> None:
        """Close the connections of the running loop, and the blocking ones."""
        if self._async_backend is not None:
            close = getattr(self._async_backend, "close", None)
            if close is not None:
                await close()
        self.close()

    def __repr__(self) -> str:
        return f"<SharedStore {self.address}>"


def _probe_of(backend: Any) -> dict[str, Any]:
    """Where the guard may look for the store by itself; a user's own says nothing."""
    probe = getattr(getattr(backend, "settings", None), "probe", None)
    return probe if isinstance(probe, dict) else {}


def _limit(most: int | None) -> Limit | None:
    if most is None:
        return None
    from cachekit._limit import Limit

    return Limit(most)
