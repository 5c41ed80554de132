# SPDX-License-Identifier: MIT
"""What the methods of a cached function do: `invalidate`, `refresh`, `put`, `peek`.

`Operations` serves blocking functions, `AsyncOperations` async ones; both are made of
the core's primitives (csrc/py/function_methods.h).
"""

from __future__ import annotations

from cachekit._core import (
    MODE_BYPASS,
    MODE_FRESH,
    MODE_RENEW,
    CachedFunction,
    Call,
)
from cachekit._errors import CacheMiss, ConfigurationError, LoaderTimeout
from cachekit._plan import mode_of
from cachekit._types import CacheInfo, Entry, Invalidation, Strategy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cachekit._pending import Gone
    from cachekit._timeouts import RunApart

__all__ = ["AsyncOperations", "Operations", "all_listed"]

_FOREVER = float("inf")


class _Common:
    """What needs no waiting, and so is the same for both."""

    @staticmethod
    def mode(strategy: Strategy | str) -> int:
        return mode_of(Strategy.parse(strategy))

    @staticmethod
    def key_for(fn: CachedFunction, /, *args: Any, **kwargs: Any) -> str:
        fn._ready()
        name: str = fn._plan.key_for(fn, args, kwargs)
        return name

    @staticmethod
    def cache_info(fn: CachedFunction) -> CacheInfo:
        counts = fn._info()
        memory = fn._plan.memory
        bound = None if memory is None else memory.stats()["max_entries"] or None
        return CacheInfo(
            hits=counts["l1_hits"] + counts["l2_hits"],
            misses=counts["misses"],
            maxsize=bound,
            currsize=counts["entries"],
            l1_hits=counts["l1_hits"],
            l2_hits=counts["l2_hits"],
            stale_hits=counts["stale_hits"],
            errors=counts["errors"],
            coalesced=counts["coalesced"],
            evictions=counts["evictions"],
            loads=counts["loads"],
            load_seconds=counts["load_seconds"],
            bytes=counts["bytes"],
            unencodable=counts["unencodable"],
            oversized=counts["oversized"],
        )

    @staticmethod
    def cache_clear(fn: CachedFunction) -> None:
        fn._sweep()
        fn._reset()
        tokens = fn._plan.tokens
        if tokens is not None:
            tokens.forget_all()

    @staticmethod
    def _forget(fn: CachedFunction, key: bytes) -> None:
        """Remove from memory; a run under way does not fill it any more."""
        names = fn._plan.names
        if names is None:
            fn._forget(key)
        else:
            names.forget(key)

    @staticmethod
    def _gone(fn: CachedFunction, key: bytes, args: Any, kwargs: Any) -> list[Gone]:
        gone: list[Gone] = fn._plan.gone(fn, key, args, kwargs)
        return gone

    @staticmethod
    def _is_off(fn: CachedFunction) -> bool:
        """Inside ``cache.disabled()`` nothing is found and nothing stored."""
        plan = fn._plan
        return bool(plan.off.value) and plan.is_off()

    @staticmethod
    def _in_memory(fn: CachedFunction, key: bytes) -> Entry | None:
        """Memory's entry, fresh or stale."""
        found = fn._look(key)
        return None if found is None else _entry("memory", *found)

    @staticmethod
    def _silent(fn: CachedFunction, mode: int, args: Any, kwargs: Any) -> Call:
        call: Call = fn._begin(mode, args, kwargs)
        call.silent = True
        return call


def _entry(tier: str, value: Any, age: float, fresh: float, usable: float) -> Entry:
    stale = fresh <= 0
    return Entry(
        value=value,
        tier=tier,
        age=max(0.0, age),
        remaining_ttl=None if fresh == _FOREVER else max(0.0, fresh),
        stale=stale,
        stale_reason="expired" if stale else None,
    )


class Operations(_Common):
    """For ``def`` functions."""

    @classmethod
    def invalidate(
        cls, fn: CachedFunction, /, *args: Any, **kwargs: Any
    ) -> Invalidation:
        key = fn._key(*args, **kwargs)
        cls._forget(fn, key)
        plan = fn._plan
        if plan.store is None:
            return Invalidation.DELIVERED
        try:
            result: Invalidation
            result = plan.store.invalidate(cls._gone(fn, key, args, kwargs))
            return result
        finally:
            # Others may have read the entry before it was gone.
            cls._forget(fn, key)

    @classmethod
    def refresh(cls, fn: CachedFunction, /, *args: Any, **kwargs: Any) -> Any:
        if cls._is_off(fn):
            return fn.__wrapped__(*args, **kwargs)
        return fn._drive(fn._begin(MODE_RENEW, args, kwargs))

    @classmethod
    def put(cls, fn: CachedFunction, value: Any, /, *args: Any, **kwargs: Any) -> None:
        cls.put_for(fn, value, None, args, kwargs)

    @classmethod
    def put_for(
        cls, fn: CachedFunction, value: Any, ttl: int | None, args: Any, kwargs: Any
    ) -> None:
        """`put` with a lifetime (ns) in place of the function's."""
        if cls._is_off(fn):
            return
        lifetime = -1 if ttl is None else ttl
        call = fn._begin(MODE_BYPASS, args, kwargs, value, lifetime)
        fn._drive(call)

    @classmethod
    def peek(cls, fn: CachedFunction, /, *args: Any, **kwargs: Any) -> Any:
        found = cls._in_memory(fn, fn._key(*args, **kwargs))
        if cls._is_off(fn):
            raise CacheMiss("caching is switched off")
        if found is not None and not found.stale:
            return found.value
        return fn._drive(cls._silent(fn, MODE_FRESH, args, kwargs))

    @classmethod
    def entry(cls, fn: CachedFunction, /, *args: Any, **kwargs: Any) -> Entry | None:
        found = cls._in_memory(fn, fn._key(*args, **kwargs))
        if cls._is_off(fn):
            return None
        if found is not None or fn._plan.store is None:
            return found
        call = cls._silent(fn, MODE_FRESH, args, kwargs)
        try:
            value = fn._drive(call)
        except CacheMiss:
            return None
        return _entry("store", value, *call.times)

    @staticmethod
    def invalidate_all(fn: CachedFunction, /) -> Invalidation:
        fn._ready()
        result: Invalidation
        if fn._plan.entries is None:
            result = fn._plan.cache._forget_versions(_whole(fn))
            return result
        gone = all_listed(fn)
        try:
            fn._expire()
            result = fn._plan.store.invalidate((gone,))
        finally:
            fn._expire()
        return result

    @staticmethod
    def check_health(fn: CachedFunction) -> bool:
        from cachekit.health import answers

        return answers(fn._plan.store)

    @staticmethod
    def revalidate(call: Call) -> None:
        """Start the background refresh of a stale entry."""
        from cachekit._background import submit

        submit(lambda: _refresh(call))

    @staticmethod
    def linger(call: Call) -> bool:
        """Wait a moment for the process that holds the lock; False: long enough."""
        from cachekit._locks import linger

        return linger(call)

    @staticmethod
    def run_apart(call: Call) -> tuple[Any] | None:
        """RUN in a thread of its own, under soft_timeout= and hard_timeout=.

        None: the call has been answered. Otherwise the old value, for the caller; the
        call goes on there.
        """
        from cachekit._timeouts import RunApart

        run = RunApart(call.invoke)
        soft, hard = call.soft_timeout, call.hard_timeout
        if soft is not None and (hard is None or soft < hard):
            if not run.wait(soft) and run.leave(lambda: _conclude(run, call)):
                return (call.leave(),)
            hard = None if hard is None else hard - soft
        if run.wait(hard):
            _take(run, call)
        else:
            call.take_exception(LoaderTimeout.of(call.hard_timeout))
        return None


def _take(run: RunApart, call: Call) -> None:
    """What the function came to."""
    if run.exception is not None:
        call.take_exception(run.exception)
    else:
        call.take_value(run.value)


def _conclude(run: RunApart, call: Call) -> None:
    """The caller has left: what remains to be done happens in the thread of the run."""
    _take(run, call)
    try:
        call.function._drive(call)
    except Exception as error:
        call.function._plan.report("refresh_failed", error)


def _whole(fn: CachedFunction) -> list[tuple[Any, str, str]]:
    """The version keys of a function, as something to be forgotten."""
    plan = fn._plan
    if not plan.own_versions:
        raise ConfigurationError(
            f"{plan.name} has no entries of its own: with full_key= they belong to the "
            "namespace",
            hint="Use cache.clear(namespace=), or key= in place of full_key=",
        )
    return [(plan.store, plan.channel, name) for name in plan.version_keys]


def all_listed(fn: CachedFunction) -> Gone:
    """All version 3 entries of a function, as something to be removed."""
    plan = fn._plan
    gone: Gone | None = None
    if plan.tenant_of is None:
        gone = plan.gone_whole(plan.tenant)
    if gone is None:
        raise ConfigurationError(
            f"the entries of {plan.name} cannot be invalidated as a whole: nothing in "
            "the store tells which there are",
            hint="Use invalidate() with arguments. Of version 3 entries a list is kept "
            "where redis_url names the store, all are of one tenant, the extra wire3 "
            "is installed and the release is 0.20 or later",
        )
    return gone


def _refresh(call: Call) -> None:
    call.start()
    try:
        call.function._drive(call)
    except Exception as error:
        call.function._plan.report("refresh_failed", error)


class AsyncOperations(_Common):
    """For ``async def`` functions: what may do I/O is awaitable."""

    @classmethod
    async def invalidate(
        cls, fn: CachedFunction, /, *args: Any, **kwargs: Any
    ) -> Invalidation:
        key = fn._key(*args, **kwargs)
        cls._forget(fn, key)
        plan = fn._plan
        if plan.store is None:
            return Invalidation.DELIVERED
        try:
            result: Invalidation
            result = await plan.store.ainvalidate(cls._gone(fn, key, args, kwargs))
            return result
        finally:
            cls._forget(fn, key)

    @classmethod
    async def refresh(cls, fn: CachedFunction, /, *args: Any, **kwargs: Any) -> Any:
        if cls._is_off(fn):
            return await fn.__wrapped__(*args, **kwargs)
        return await _drive(fn._begin(MODE_RENEW, args, kwargs))

    @classmethod
    async def put(
        cls, fn: CachedFunction, value: Any, /, *args: Any, **kwargs: Any
    ) -> None:
        await cls.put_for(fn, value, None, args, kwargs)

    @classmethod
    async def put_for(
        cls, fn: CachedFunction, value: Any, ttl: int | None, args: Any, kwargs: Any
    ) -> None:
        """`put` with a lifetime (ns) in place of the function's."""
        if cls._is_off(fn):
            return
        lifetime = -1 if ttl is None else ttl
        call = fn._begin(MODE_BYPASS, args, kwargs, value, lifetime)
        await _drive(call)

    @classmethod
    async def peek(cls, fn: CachedFunction, /, *args: Any, **kwargs: Any) -> Any:
        found = cls._in_memory(fn, fn._key(*args, **kwargs))
        if cls._is_off(fn):
            raise CacheMiss("caching is switched off")
        if found is not None and not found.stale:
            return found.value
        return await _drive(cls._silent(fn, MODE_FRESH, args, kwargs))

    @classmethod
    async def entry(
        cls, fn: CachedFunction, /, *args: Any, **kwargs: Any
    ) -> Entry | None:
        found = cls._in_memory(fn, fn._key(*args, **kwargs))
        if cls._is_off(fn):
            return None
        if found is not None or fn._plan.store is None:
            return found
        call = cls._silent(fn, MODE_FRESH, args, kwargs)
        try:
            value = await _drive(call)
        except CacheMiss:
            return None
        return _entry("store", value, *call.times)

    @staticmethod
    async def invalidate_all(fn: CachedFunction, /) -> Invalidation:
        fn._ready()
        result: Invalidation
        if fn._plan.entries is None:
            result = await fn._plan.cache._aforget_versions(_whole(fn))
            return result
        gone = all_listed(fn)
        try:
            fn._expire()
            result = await fn._plan.store.ainvalidate((gone,))
        finally:
            fn._expire()
        return result

    @staticmethod
    async def check_health(fn: CachedFunction) -> bool:
        from cachekit.health import aanswers

        return await aanswers(fn._plan.store)

    @staticmethod
    def revalidate(call: Call) -> None:
        """Start the background refresh of a stale entry."""
        from cachekit._aio import refresh

        refresh(call)


async def _drive(call: Call) -> Any:
    from cachekit._aio import drive

    return await drive(call)
