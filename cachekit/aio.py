# SPDX-License-Identifier: MIT
"""cachekit for code that is async throughout: awaitable methods under the plain names.

>>> import asyncio
>>> from cachekit import aio
>>> cache = aio.Cache(backend=None)
>>> @aio.cached(cache=cache, ttl=60)
... async def double(number: int) -> int:
...     return 2 * number
>>> async def main() -> None:
...     await cache.set("greeting", "hello")
...     print(await double(4), await cache.get("greeting"))
>>> asyncio.run(main())
8 hello
"""

from __future__ import annotations

import cachekit
from cachekit._cache import Cache as _Blocking
from cachekit._checks import UNSET

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping
    from contextlib import AbstractContextManager
    from typing import Any, overload

    from typing_extensions import Unpack

    from cachekit._checks import Duration
    from cachekit._config import CacheConfig
    from cachekit._options import Keywords
    from cachekit._typed import (
        AsyncCached,
        Cached,
        Decorator,
        Factory,
        LocalFactory,
        P,
        R,
    )
    from cachekit._types import Invalidation, Never
else:
    Factory = object

__all__ = ["Cache", "cached"]


class Cache(Factory):
    """`cachekit.Cache` with every method that may do I/O awaitable.

    ``config``   what to use in place of the environment, field by field
    ``backend``  a backend object, a URL, or None for memory only; default: the
                 configuration's store

    It decorates as the other does: ``@cache``, ``@cache(ttl=60)``, ``@cache.minimal``.
    ``cache.blocking`` is the same cache, entries and all, with blocking methods.
    """

    def __init__(
        self, config: CacheConfig | None = None, *, backend: Any = UNSET
    ) -> None:
        self.blocking = _Blocking(config, backend=backend)

    # -- the decorator ----------------------------------------------------------------

    if TYPE_CHECKING:
        # The overloads of __call__ come with Factory.
        minimal: Factory
        production: Factory
        secure: Factory
        dev: Factory
        test: Factory
        local: LocalFactory
    else:

        def __call__(self, function: Any = None, /, **options: Any) -> Any:
            """As `cachekit.Cache.__call__`."""
            return self.blocking(function, **options)

        def minimal(self, function: Any = None, /, **options: Any) -> Any:
            """As `cachekit.Cache.minimal`."""
            return self.blocking.minimal(function, **options)

        def production(self, function: Any = None, /, **options: Any) -> Any:
            """As `cachekit.Cache.production`."""
            return self.blocking.production(function, **options)

        def secure(self, function: Any = None, /, **options: Any) -> Any:
            """As `cachekit.Cache.secure`."""
            return self.blocking.secure(function, **options)

        def dev(self, function: Any = None, /, **options: Any) -> Any:
            """As `cachekit.Cache.dev`."""
            return self.blocking.dev(function, **options)

        def test(self, function: Any = None, /, **options: Any) -> Any:
            """As `cachekit.Cache.test`."""
            return self.blocking.test(function, **options)

        def local(self, function: Any = None, /, **options: Any) -> Any:
            """As `cachekit.Cache.local`."""
            return self.blocking.local(function, **options)

    @property
    def config(self) -> CacheConfig:
        """As `cachekit.Cache.config`."""
        return self.blocking.config

    def disabled(self) -> AbstractContextManager[None]:
        """As `cachekit.Cache.disabled`: a plain ``with``, nothing is waited for."""
        return self.blocking.disabled()

    # -- named entries ----------------------------------------------------------------

    async def get(self, key: str, default: Any = None) -> Any:
        """The value stored under a name, or ``default``.

        With ``fallback_enabled=False`` a failing store raises `BackendError`.
        """
        return await self.blocking.aget(key, default)

    async def set(
        self, key: str, value: Any, ttl: Duration | Never | None = None
    ) -> None:
        """Store ``value`` under a name for ``ttl`` (seconds, timedelta, `NEVER`;
        default: the configured one).

        A value that cannot be encoded raises `SerializationError` E004; a failing store
        raises only with ``fallback_enabled=False``.
        """
        await self.blocking.aset(key, value, ttl)

    async def delete(self, key: str) -> Invalidation:
        """Remove a name from memory and store, as ``function.invalidate`` does."""
        return await self.blocking.adelete(key)

    async def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        """Those of the names that are stored, with their values."""
        return await self.blocking.aget_many(keys)

    async def set_many(
        self, values: Mapping[str, Any], ttl: Duration | Never | None = None
    ) -> None:
        """`set` for each of them."""
        await self.blocking.aset_many(values, ttl)

    async def invalidate_tags(
        self, *tags: str, namespace: str | None = None
    ) -> Invalidation:
        """Invalidate every entry that carries one of ``tags``; see
        `cachekit.Cache.invalidate_tags`."""
        return await self.blocking.ainvalidate_tags(*tags, namespace=namespace)

    async def clear(self, *, namespace: str | None = None) -> Invalidation:
        """Invalidate every entry of a namespace, or of all; see
        `cachekit.Cache.clear`."""
        return await self.blocking.aclear(namespace=namespace)

    # -- health -----------------------------------------------------------------------

    async def ping(self) -> bool:
        """Does the shared store answer? True with memory only. Never raises."""
        return await self.blocking.aping()

    async def health_check(self) -> bool:
        """Is the cache of use? False while the shared store does not answer."""
        return await self.blocking.ahealth_check()

    async def detailed_health_check(self) -> dict[str, Any]:
        """Status, store, breaker, pool and memory; see docs/health.md."""
        return await self.blocking.adetailed_health_check()

    async def close(self) -> None:
        """Close the connections to the stores. Later calls open new ones."""
        await self.blocking.aclose()

    async def __aenter__(self) -> Cache:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return repr(self.blocking).replace("cachekit.Cache", "cachekit.aio.Cache", 1)


if TYPE_CHECKING:

    @overload
    def cached(  # type: ignore[overload-overlap]
        function: Callable[P, Coroutine[Any, Any, R]],
        /,
        *,
        cache: Cache | _Blocking | None = None,
        **options: Unpack[Keywords],
    ) -> AsyncCached[P, R]: ...
    @overload
    def cached(
        function: Callable[P, R],
        /,
        *,
        cache: Cache | _Blocking | None = None,
        **options: Unpack[Keywords],
    ) -> Cached[P, R]: ...
    @overload
    def cached(
        *, cache: Cache | _Blocking | None = None, **options: Unpack[Keywords]
    ) -> Decorator: ...


def cached(
    function: Any = None,
    /,
    *,
    cache: Cache | _Blocking | None = None,
    **options: Any,
) -> Any:
    """Cache the results of a function: ``@cached(cache=cache, ttl=60)``.

    ``cache``  which one, of either kind; default: ``cachekit.cache``

    The other keywords are those of ``@cache``.
    """
    if cache is None:
        cache = cachekit.cache
    elif not isinstance(cache, (Cache, _Blocking)):
        raise TypeError(f"cache must be a Cache, not {type(cache).__qualname__}")
    return cache(function, **options)
