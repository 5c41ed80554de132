# SPDX-License-Identifier: MIT
"""Is the cache of use? For probes, dashboards and people.

The shared store is asked with a PING of its own, beside the calls of the program: it
has a deadline of its own (the store's, 1 s at most), counts in no statistics, takes no
place of ``max_concurrent_requests``, and is asked also while the breaker is open: an
answer lets calls use the store again at once.

===========  =========================================================================
status       when
===========  =========================================================================
healthy      the store answers within 100 ms, or there is none
degraded     it answers more slowly, or not at all and its failures are hidden
             (``fallback_enabled``): calls are served, by memory and by the functions
unhealthy    it does not answer and its failures are raised, or the configuration is
             wrong: calls fail
===========  =========================================================================

Nothing here raises.
"""

from __future__ import annotations

from time import perf_counter

from cachekit._errors import BackendError, BackendTimeout, CacheKitError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cachekit._cache import Cache
    from cachekit._store import SharedStore

__all__ = [
    "SLOW_MS",
    "aanswers",
    "answers",
    "apings",
    "areadiness",
    "areport",
    "describe",
    "liveness",
    "pings",
    "readiness",
    "report",
]

#: A store that takes longer (milliseconds) is slow, and the cache degraded.
SLOW_MS = 100.0
#: The most that a PING may take, in seconds.
_PATIENCE = 1.0
#: How much longer an asyncio face that does not keep to its deadline is waited for.
_GRACE = 0.1
#: A name that is read where a backend has no ``ping``.
_NOBODY = "cachekit:health"


# -- asking ---------------------------------------------------------------------------


def describe(error: BaseException) -> str:
    """A failure in a few words: its kind and what it says. No secrets: an exception of
    cachekit holds none, and of any other only the type is told.

    >>> describe(ConnectionRefusedError("at 10.0.0.1"))
    'ConnectionRefusedError'
    """
    if isinstance(error, BackendError):
        return f"{error.kind}: {error.message}" if error.message else error.kind
    if isinstance(error, CacheKitError):
        return str(error)
    return type(error).__name__


def _patience(store: SharedStore) -> float:
    return min(store.timeout, _PATIENCE)


def _ask(store: SharedStore) -> float:
    """One PING; how long it took in ms. Raises what the store raises."""
    began = perf_counter()
    ping = getattr(store.backend, "ping", None)
    if ping is not None:
        ping(_patience(store))
    else:
        store.backend.read(_NOBODY, _patience(store))
    return _answered(store, began)


async def _aask(store: SharedStore) -> float:
    """The same for asyncio."""
    import asyncio

    began = perf_counter()
    backend, patience = store.async_backend, _patience(store)
    ping = getattr(backend, "ping", None)
    asking = backend.read(_NOBODY, patience) if ping is None else ping(patience)
    try:
        await asyncio.wait_for(asking, patience + _GRACE)
    except asyncio.TimeoutError as late:
        if isinstance(late, BackendError):
            raise
        raise BackendTimeout("the store did not answer in time") from None
    return _answered(store, began)


def _answered(store: SharedStore, began: float) -> float:
    took = (perf_counter() - began) * 1000.0
    store.guard.answered()
    return took


def answers(store: SharedStore | None) -> bool:
    """Does the store answer a PING in time? True without a store."""
    try:
        if store is not None:
            _ask(store)
    except Exception:
        return False
    return True


async def aanswers(store: SharedStore | None) -> bool:
    """`answers`, awaitable."""
    try:
        if store is not None:
            await _aask(store)
    except Exception:
        return False
    return True


def pings(cache: Cache) -> bool:
    """Is the configuration right, and does the cache's store answer?"""
    try:
        return answers(cache._mine()[0])
    except Exception:
        return False


async def apings(cache: Cache) -> bool:
    """`pings`, awaitable."""
    try:
        return await aanswers(cache._mine()[0])
    except Exception:
        return False


# -- reporting ------------------------------------------------------------------------


def report(cache: Cache) -> dict[str, Any]:
    """What ``cache.detailed_health_check()`` returns. Plain data, fit for JSON.

    ``status``            "healthy", "degraded" or "unhealthy"
    ``backend``           the address of the store, "memory" without one, None when the
                          configuration is wrong
    ``latency_ms``        how long the PING took; None when it was not answered
    ``circuit_breaker``   ``state`` ("closed", "open", "half-open"; "disabled" when
                          switched off), ``failure_count`` and more; ``writes``: "open"
                          while a store that answers reads is asked to write nothing
    ``pool``              the connections: ``size``, ``idle``, ``waiting``, ``created``;
                          ``asyncio``: those of the event loops; ``limit``: the figures
                          of ``max_concurrent_requests``; None without a store
    ``memory``            ``entries``, ``bytes``, ``max_bytes``, ``max_entries``,
                          ``evictions``; None when it is switched off
    ``fenced``            whether what was computed before an invalidation is kept from
                          being stored after it. False: the store takes no scripts
    ``errors``            what makes it worse than healthy, in words
    ``warnings``          what does not, and is worth knowing
    """
    try:
        store = cache._mine()[0]
    except Exception as error:
        return _misconfigured(error)
    failure, latency = None, None
    if store is not None:
        try:
            latency = _ask(store)
        except Exception as error:
            failure = error
    return _picture(cache, store, latency, failure)


async def areport(cache: Cache) -> dict[str, Any]:
    """`report`, awaitable."""
    try:
        store = cache._mine()[0]
    except Exception as error:
        return _misconfigured(error)
    failure, latency = None, None
    if store is not None:
        try:
            latency = await _aask(store)
        except Exception as error:
            failure = error
    return _picture(cache, store, latency, failure)


def _misconfigured(error: Exception) -> dict[str, Any]:
    return {
        "status": "unhealthy",
        "backend": None,
        "latency_ms": None,
        "circuit_breaker": {"state": "closed", "failure_count": 0},
        "pool": None,
        "memory": None,
        "fenced": False,
        "errors": [describe(error)],
        "warnings": [],
    }


def _picture(
    cache: Cache,
    store: SharedStore | None,
    latency: float | None,
    failure: Exception | None,
) -> dict[str, Any]:
    errors, warnings = [], _warnings(cache, store)
    status = "healthy"
    if failure is not None:
        status = "degraded" if cache.config.fallback_enabled else "unhealthy"
        errors.append(f"the shared store does not answer ({describe(failure)})")
    elif latency is not None and latency > SLOW_MS:
        status = "degraded"
        errors.append(f"the shared store is slow: it answered in {latency:.0f} ms")
    if failure is None and store is not None and _skips_writes(store):
        status = "degraded"
        errors.append("the shared store hangs on writes: they are skipped")
    return {
        "status": status,
        "backend": "memory" if store is None else store.address,
        "latency_ms": None if latency is None else round(latency, 3),
        "circuit_breaker": _breaker(store),
        "pool": None if store is None else _pool(store),
        "memory": _memory(cache),
        "fenced": store is None or store.fenced,
        "errors": errors,
        "warnings": warnings,
    }


def _warnings(cache: Cache, store: SharedStore | None) -> list[str]:
    warnings = []
    if not cache.config.enabled:
        warnings.append("caching is switched off: calls go straight to the functions")
    if store is None:
        return warnings
    if len(store.pending):
        warnings.append(
            f"{len(store.pending)} invalidations wait until the store takes them"
        )
    if not store.fenced:
        warnings.append("fills are not fenced: the store takes no scripts")
    state = store.guard.state()["state"]
    if state == "half-open":
        warnings.append("the breaker is half-open: the next call tries the store")
    elif state == "open":
        warnings.append("the breaker is open: calls do not use the store")
    return warnings


def _skips_writes(store: SharedStore) -> bool:
    return store.guard.state()["writes"] in ("open", "half-open")


def _breaker(store: SharedStore | None) -> dict[str, Any]:
    """Nothing to break without a store: then it never keeps a call from anything."""
    if store is None:
        return {"state": "closed", "failure_count": 0}
    state: dict[str, Any] = store.guard.state()
    return state


def _pool(store: SharedStore) -> dict[str, Any]:
    """What is known of the connections; a user's backend may know nothing."""
    pool: dict[str, Any] = {"size": 0, "idle": 0, "waiting": 0, "created": 0}
    pool.update(_figures(store.backend, "pool_stats"))
    # The asyncio face is not made for the sake of a report.
    pool["asyncio"] = _figures(store._async_backend, "figures") or None
    pool["limit"] = None if store.limit is None else store.limit.figures
    return pool


def _figures(holder: Any, name: str) -> dict[str, Any]:
    method = getattr(holder, name, None)
    try:
        figures = {} if method is None else method()
    except Exception:  # a user's object
        return {}
    return figures if isinstance(figures, dict) else {}


def _memory(cache: Cache) -> dict[str, Any] | None:
    return None if cache._memory is None else cache._memory.stats()


# -- endpoints ------------------------------------------------------------------------


def _of(cache: Cache | None) -> Cache:
    if cache is not None:
        return cache
    import cachekit

    return cachekit.cache


def liveness() -> dict[str, Any]:
    """Is the process alive? It is, if it can answer: never touches the store, so that
    nobody restarts a program because its cache is down.

    >>> liveness()
    {'status': 'alive'}
    """
    return {"status": "alive"}


def readiness(
    cache: Cache | None = None, *, strict: bool = False
) -> tuple[bool, dict[str, Any]]:
    """May the program be sent requests? ``(ready, report)``.

    ``cache``   which one; default: ``cachekit.cache``
    ``strict``  True: only when the status is "healthy". Default: also when it is
                "degraded", since then every call is served
    """
    picture = report(_of(cache))
    return _is_ready(picture, strict), picture


async def areadiness(
    cache: Cache | None = None, *, strict: bool = False
) -> tuple[bool, dict[str, Any]]:
    """`readiness`, awaitable."""
    picture = await areport(_of(cache))
    return _is_ready(picture, strict), picture


def _is_ready(picture: dict[str, Any], strict: bool) -> bool:
    accepted = ("healthy",) if strict else ("healthy", "degraded")
    return picture["status"] in accepted
