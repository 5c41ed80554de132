# SPDX-License-Identifier: MIT
"""Entries that have a name of their own: `Cache.get`, `Cache.set`, ``full_key=``.

They are the entries of a function that nobody wrote: its one argument is the name, and
it has nothing to return. So named entries go the way of all entries: the same memory,
frame, guard and kept invalidations, blocking and for asyncio.
"""

from __future__ import annotations

import weakref

from cachekit import _core
from cachekit._checks import to_ns
from cachekit._errors import BackendError, CacheMiss
from cachekit._names import store_prefix
from cachekit._operations import AsyncOperations, Operations
from cachekit._options import FunctionOptions, judge_ttl
from cachekit._plan import Plan
from cachekit._signature import describe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any, NoReturn

    from cachekit._cache import Cache
    from cachekit._checks import Duration
    from cachekit._store import SharedStore
    from cachekit._types import Invalidation, Never

__all__ = ["Names"]

#: How many are asked for at once.
_AT_ONCE = 256


class _Identity:
    """Who the function is that nobody wrote."""

    name = "name"
    data = _core.canonical(("name",))
    shareable = True
    reason = None


NAME: Any = _Identity()


def _nothing(name: str) -> NoReturn:
    raise CacheMiss("nothing is stored under this name")


async def _nothing_async(name: str) -> NoReturn:
    raise CacheMiss("nothing is stored under this name")


class _Plan(Plan):
    """A value that cannot be encoded is told to the caller, and to nobody else."""

    def report(self, event: str, detail: Any) -> None:
        if event != "unencodable":
            super().report(event, detail)


class Names:
    """The named entries of one namespace on one store (or in memory only).

    ``function`` is the one whose entries they are; functions with ``full_key=`` share
    them and `join`.
    """

    def __init__(
        self, cache: Cache, namespace: str | None, store: SharedStore | None
    ) -> None:
        self._cache = cache
        self._store = store
        self._namespace = namespace
        self.identity = NAME
        self._prefix = store_prefix(namespace, NAME.name)
        self._hides_failures: bool = cache.config.fallback_enabled
        # Replaced and never changed: others may be going through it.
        self._sharers: tuple[weakref.ref[_core.CachedFunction], ...] = ()
        self.function = self._make(_nothing, Operations, None)
        self._twin: _core.CachedFunction | None = None

    def _make(
        self, function: Any, operations: Any, names_of: _core.CachedFunction | None
    ) -> _core.CachedFunction:
        def resolve(_: _core.CachedFunction) -> Plan:
            # Never falling back, failures show here, and we choose which to pass on.
            chosen = {
                "returns": None,
                "fallback_enabled": False,
                "namespace": self._namespace,
            }
            options = FunctionOptions.of("", chosen).resolve(self._cache.config)
            plan = _Plan(
                cache=self._cache,
                function=function,
                options=options,
                identity=NAME,
                prefix=self._prefix,
                signature=describe(function, ()),
                memory=self._cache._memory_of(options),
                store=self._store,
                is_async=operations is AsyncOperations,
                names_of=names_of,
                own_versions=False,
            )
            plan.names = self
            return plan

        is_async = operations is AsyncOperations
        made = _core.CachedFunction(function, resolve, operations, is_async)
        made.__wrapped__ = function
        made._ready()
        self._cache._join(made, made._plan)
        self.join(made)
        return made

    @property
    def _async(self) -> _core.CachedFunction:
        """The same for asyncio, made when first asked for."""
        if self._twin is None:
            with self._cache._lock:
                if self._twin is None:
                    self._twin = self._make(
                        _nothing_async, AsyncOperations, self.function
                    )
        return self._twin

    def join(self, function: _core.CachedFunction) -> None:
        """``function`` has its entries here. Holds the lock of the cache."""
        living = (one for one in self._sharers if one() not in (None, function))
        self._sharers = (*living, weakref.ref(function))

    def forget(self, key: bytes) -> None:
        """Remove from memory; whoever is at work on it, for whichever function, does
        not fill it any more."""
        for sharer in self._sharers:
            function = sharer()
            if function is not None:
                function._forget(key)

    # -- blocking ---------------------------------------------------------------------

    def get(self, key: str, default: Any) -> Any:
        name = _checked(key)
        if self._cache._is_off():
            return default
        try:
            return Operations.peek(self.function, name)
        except CacheMiss:
            return default
        except BackendError as error:
            self._hide(error)
            return default

    def put(self, key: str, value: Any, ttl: Duration | Never | None) -> None:
        lifetime = _lifetime(ttl)
        call = self._begin(self.function, _checked(key), value, lifetime)
        if call is None:
            return
        try:
            self.function._drive(call)
        except BackendError as error:
            self._hide(error)

    def delete(self, key: str) -> Invalidation:
        result: Invalidation = Operations.invalidate(self.function, _checked(key))
        return result

    def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        missing = object()
        found = ((key, self.get(key, missing)) for key in keys)
        return {key: value for key, value in found if value is not missing}

    def put_many(self, values: Mapping[str, Any], ttl: Duration | Never | None) -> None:
        for key, value in values.items():
            self.put(key, value, ttl)

    # -- for asyncio ------------------------------------------------------------------

    async def aget(self, key: str, default: Any) -> Any:
        name = _checked(key)
        if self._cache._is_off():
            return default
        try:
            return await AsyncOperations.peek(self._async, name)
        except CacheMiss:
            return default
        except BackendError as error:
            self._hide(error)
            return default

    async def aput(self, key: str, value: Any, ttl: Duration | Never | None) -> None:
        from cachekit._aio import drive

        lifetime = _lifetime(ttl)
        call = self._begin(self._async, _checked(key), value, lifetime)
        if call is None:
            return
        try:
            await drive(call)
        except BackendError as error:
            self._hide(error)

    async def adelete(self, key: str) -> Invalidation:
        return await AsyncOperations.invalidate(self._async, _checked(key))

    async def aget_many(self, keys: Iterable[str]) -> dict[str, Any]:
        missing = object()
        wanted = list(dict.fromkeys(keys))
        values = await _at_once([self.aget(key, missing) for key in wanted])
        found = zip(wanted, values, strict=True)
        return {key: value for key, value in found if value is not missing}

    async def aput_many(
        self, values: Mapping[str, Any], ttl: Duration | Never | None
    ) -> None:
        await _at_once([self.aput(key, value, ttl) for key, value in values.items()])

    # -- parts ------------------------------------------------------------------------

    def _begin(
        self,
        function: _core.CachedFunction,
        name: str,
        value: Any,
        lifetime: int | None,
    ) -> _core.Call | None:
        """A call that stores ``value``, up to where a driver goes on."""
        if self._cache._is_off():
            return None
        self.forget(function._key(name))
        return function._begin(
            _core.MODE_BYPASS,
            (name,),
            {},
            value,
            -1 if lifetime is None else lifetime,
        )

    def _hide(self, failure: BackendError) -> None:
        """Raise it, where failures are to show."""
        if not self._hides_failures:
            raise failure


async def _at_once(jobs: list[Any]) -> list[Any]:
    """What each gave, in order; the first failure is raised when all have ended."""
    from asyncio import gather

    results: list[Any] = []
    try:
        while jobs:
            some, jobs = jobs[:_AT_ONCE], jobs[_AT_ONCE:]
            results += await gather(*some, return_exceptions=True)
    finally:
        for job in jobs:
            job.close()
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


def _checked(key: str) -> str:
    if not isinstance(key, str):
        raise TypeError(f"a name must be text, not {type(key).__qualname__}")
    return str(key)


def _lifetime(ttl: Duration | Never | None) -> int | None:
    judged = judge_ttl(ttl)
    return None if judged is None else to_ns(judged)
