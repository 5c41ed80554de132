# SPDX-License-Identifier: MIT
"""`Cache`: the object behind ``cache``: decorator, presets, and named entries."""

from __future__ import annotations

import os
from _thread import RLock
from functools import partial, update_wrapper
from weakref import WeakSet

from cachekit import _core
from cachekit._checks import UNSET
from cachekit._config import CacheConfig
from cachekit._functions import CachedClassMethod, is_async, look_like_a_function
from cachekit._logging import default_log
from cachekit._members import Members
from cachekit._options import PRESETS, FunctionOptions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    from cachekit._checks import Duration
    from cachekit._identity import Identities
    from cachekit._named import Names
    from cachekit._pending import Gone
    from cachekit._plan import Plan
    from cachekit._store import SharedStore
    from cachekit._typed import Factory, LocalFactory
    from cachekit._types import Invalidation, Never
    from cachekit._versions import Keyed
else:
    Factory = object

__all__ = ["Cache"]

_MEGABYTE = 1024 * 1024


class Cache(Factory):
    """A memory tier, and a shared store if one is configured, for any number of
    functions.

    ``config``   what to use in place of the environment, field by field
    ``backend``  a backend object, a URL, or None for memory only; default: the
                 configuration's store

    ``cachekit.cache`` is one, made from the environment when it is first used.

    >>> cache = Cache(backend=None)
    >>> @cache(ttl=60)
    ... def double(number: int) -> int:
    ...     return 2 * number
    >>> double(4), double(4), double.cache_info().hits
    (8, 8, 1)
    """

    def __init__(
        self, config: CacheConfig | None = None, *, backend: Any = UNSET
    ) -> None:
        if config is not None and not isinstance(config, CacheConfig):
            raise TypeError(
                f"config must be a CacheConfig, not {type(config).__qualname__}"
            )
        self._given = config
        self._backend = backend
        self._config: CacheConfig | None = None
        self._lock = RLock()
        self._off = _core.Flag()
        self._memory: _core.Memory | None = None
        self._stores: dict[Any, SharedStore] = {}
        self._identities: Identities | None = None
        self._functions: WeakSet[_core.CachedFunction] = WeakSet()  # with a plan
        self._members = Members()  # the same, by what invalidates their entries
        self._named: dict[Any, Names] = {}
        self._own: tuple[SharedStore | None, Names] | None = None
        self._disabled: Any = None  # a ContextVar, made by the first disabled()
        self._enabled = True  # False once ``enabled`` was found to be so
        _all.add(self)

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
            """Cache a function: ``@cache``, ``@cache()``, ``@cache(ttl=60)``.

            Options are keywords; docs/configuration.md lists them. Raises TypeError for
            an unknown one (naming the nearest) or for what is no function, ValueError
            for one out of range, both when decorating.
            """
            return self._decorate("", function, options)

        def minimal(self, function: Any = None, /, **options: Any) -> Any:
            return self._decorate("minimal", function, options)

        def production(self, function: Any = None, /, **options: Any) -> Any:
            return self._decorate("production", function, options)

        def secure(self, function: Any = None, /, **options: Any) -> Any:
            return self._decorate("secure", function, options)

        def dev(self, function: Any = None, /, **options: Any) -> Any:
            return self._decorate("dev", function, options)

        def test(self, function: Any = None, /, **options: Any) -> Any:
            return self._decorate("test", function, options)

        def local(self, function: Any = None, /, **options: Any) -> Any:
            return self._decorate("local", function, options)

        for _name, _preset in PRESETS.items():
            if _name:
                locals()[_name].__doc__ = _preset.doc
        del _name, _preset

    def _decorate(self, preset: str, function: Any, options: dict[str, Any]) -> Any:
        chosen = FunctionOptions.of(preset, options, self._given)
        if function is None:
            return partial(self._wrap, chosen)
        return self._wrap(chosen, function)

    def _wrap(self, options: FunctionOptions, function: Any) -> Any:
        if isinstance(function, staticmethod):
            return staticmethod(self._wrap(options, function.__func__))
        if isinstance(function, classmethod):
            return CachedClassMethod(self._wrap(options, function.__func__))
        return self._cached(function, partial(self._plan_for, options))

    def _cached(self, function: Any, resolve: Callable[[Any], Plan]) -> Any:
        asynchronous = is_async(function)
        operations: Any
        if asynchronous:
            from cachekit._operations import AsyncOperations as operations
        else:
            from cachekit._operations import Operations as operations
        wrapper = _core.CachedFunction(function, resolve, operations, asynchronous)
        update_wrapper(wrapper, function)
        if asynchronous:
            look_like_a_function(wrapper, function)
        return wrapper

    # -- plans ------------------------------------------------------------------------

    @property
    def config(self) -> CacheConfig:
        """What this cache goes by: what it was given, over the environment.

        The environment is read at the first access. Raises ``ConfigurationError`` for a
        bad value in it, and ``NotBuiltYet`` for a setting this version does not have.
        """
        if self._config is None:
            with self._lock:
                if self._config is None:
                    given = self._given or CacheConfig()
                    config = given.over_environment()
                    if not config.enabled:
                        self._enabled = False
                        self._off.value += 1
                    self._config = config
        return self._config

    def _plan_for(self, options: FunctionOptions, wrapper: Any) -> Plan:
        from cachekit._resolve import plan_for

        return plan_for(self, options, wrapper)

    def _memory_of(self, options: FunctionOptions) -> _core.Memory | None:
        if options.max_entries is not None:
            return _core.Memory(max_entries=options.max_entries)
        if not options.l1_enabled and not options.references:
            return None
        if self._memory is None:
            self._memory = _core.Memory(
                max_bytes=int(self.config.l1_max_size_mb * _MEGABYTE),
                max_entries=self.config.l1_max_entries or 0,
            )
        return self._memory

    def _store_of(self, options: FunctionOptions) -> SharedStore | None:
        backend = self._backend if options.backend is UNSET else options.backend
        config = self.config
        if backend is UNSET:
            backend = config.redis_url
        if backend is None:
            return None
        if config.namespace is None and options.namespace is None:
            default_log().once(
                ("namespace", id(self)),
                "warning",
                "entries are shared under the prefix cachekit: because no namespace is "
                "set",
                event="no_namespace",
            )
        return self._store(
            backend, options.enable_circuit_breaker, options.connection_retries
        )

    def _store(self, backend: Any, breaker: bool, retries: int) -> SharedStore:
        """One store for each backend, and for each way of treating it."""
        place = backend if isinstance(backend, str) else id(backend)
        store = self._stores.get((place, breaker, retries))
        if store is None:
            from cachekit._store import SharedStore

            origin = backend
            if isinstance(backend, str):
                from cachekit.backends._redis import RedisBackend

                config = self.config.replace(connection_retries=retries)
                backend = RedisBackend(backend, config)
            twins = (other for other in self._stores.values() if other.place == place)
            store = SharedStore(
                backend,
                self.config,
                breaker=breaker,
                origin=origin,
                twin=next(twins, None),
            )
            self._stores[place, breaker, retries] = store
        return store

    # -- switching off ----------------------------------------------------------------

    def disabled(self) -> _Disabled:
        """``with cache.disabled():`` calls go straight to the functions.

        Holds for this thread or task, and the tasks that it starts. Meanwhile nothing
        is stored or found; invalidations are delivered all the same.
        """
        return _Disabled(self)

    def _is_off(self) -> bool:
        if not self._enabled:
            return True
        return self._disabled is not None and bool(self._disabled.get())

    # -- named entries ----------------------------------------------------------------

    def _names(self, namespace: str | None, store: SharedStore | None) -> Names:
        """The entries that `get`, `set` and ``full_key=`` share."""
        key = (namespace, None if store is None else store.place)
        named = self._named.get(key)
        if named is None:
            from cachekit._named import Names

            if store is not None:  # as the configuration treats it
                config = self.config
                store = self._store(
                    store.origin,
                    config.enable_circuit_breaker,
                    config.connection_retries,
                )
            named = self._named[key] = Names(self, namespace, store)
        return named

    def _mine(self) -> tuple[SharedStore | None, Names]:
        """The store and the named entries of the configuration."""
        if self._own is None:
            with self._lock:
                config = self.config
                config.require_built()
                store = self._store_of(FunctionOptions.of("", {}).resolve(config))
                self._own = (store, self._names(config.namespace, store))
        return self._own

    def get(self, key: str, default: Any = None) -> Any:
        """The value stored under a name, or ``default``.

        With ``fallback_enabled=False`` a failing store raises `BackendError`.
        """
        return self._mine()[1].get(key, default)

    def set(self, key: str, value: Any, ttl: Duration | Never | None = None) -> None:
        """Store ``value`` under a name for ``ttl`` (seconds, timedelta, `NEVER`;
        default: the configured one).

        A value that cannot be encoded raises `SerializationError` E004; a failing store
        raises only with ``fallback_enabled=False``.
        """
        self._mine()[1].put(key, value, ttl)

    def delete(self, key: str) -> Invalidation:
        """Remove a name from memory and store, as ``function.invalidate`` does."""
        return self._mine()[1].delete(key)

    def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        """Those of the names that are stored, with their values."""
        return self._mine()[1].get_many(keys)

    def set_many(
        self, values: Mapping[str, Any], ttl: Duration | Never | None = None
    ) -> None:
        """`set` for each of them."""
        self._mine()[1].put_many(values, ttl)

    # -- invalidating many ------------------------------------------------------------

    def invalidate_tags(self, *tags: str, namespace: str | None = None) -> Invalidation:
        """Invalidate every entry that carries one of ``tags``, in every process.

        ``namespace``  only there; default: in all namespaces of this cache

        Takes constant time. Raises ValueError for a tag that is none. QUEUED: a store
        did not take it yet.
        """
        return self._forget_versions(self._tag_versions(tags, namespace))

    def clear(self, *, namespace: str | None = None) -> Invalidation:
        """Invalidate every entry of a namespace, in every process; constant time.

        ``namespace``  default: all namespaces of this cache

        Of version 3 entries, which carry no versions, those of the functions that this
        process has used; ``ConfigurationError`` where nothing tells which there are.
        Entries of ``interop=`` are left to those who share them.

        QUEUED: a store did not take it yet.
        """
        listed = self._listed(namespace)
        self._empty_memory(namespace)
        results = [self._forget_versions(self._space_versions(namespace))]
        for function, gone in listed:
            try:
                results.append(function._plan.store.invalidate((gone,)))
            finally:
                function._expire()
        return _worst(results)

    def _listed(self, namespace: str | None) -> list[tuple[_core.CachedFunction, Gone]]:
        """The functions whose entries carry no versions, and all their entries."""
        with self._lock:
            functions = [
                one for one in self._functions if one._plan.entries is not None
            ]
        if not functions:
            return []
        from cachekit._operations import all_listed

        return [
            (function, all_listed(function))
            for function in functions
            if namespace in (None, function._plan.options.namespace)
            and function._plan.options.interop is None
        ]

    def _empty_memory(self, namespace: str | None) -> None:
        """Of everything: what is invalidated need not wait to be evicted."""
        if namespace is None:
            with self._lock:
                functions = list(self._functions)
            for function in functions:
                function._sweep()

    def _spaces(self) -> list[tuple[str | None, SharedStore | None]]:
        """The namespaces of this cache, each with the stores it is on."""
        with self._lock:
            plans = [function._plan for function in self._functions]
        spaces = {(plan.options.namespace, plan.store) for plan in plans}
        spaces.add((self.config.namespace, self._mine()[0]))
        return list(spaces)

    def _tag_versions(
        self, tags: tuple[str, ...], namespace: str | None
    ) -> list[tuple[SharedStore | None, str, str]]:
        from cachekit._messages import channel_of
        from cachekit._versions import judge_tags, tag_key

        judged = judge_tags(tags)
        return [
            (store, channel_of(space), tag_key(space, tag, key=key))
            for space, store in self._spaces_named(namespace)
            if store is None or store.versioned
            for key in self._tag_keys(store)
            for tag in judged
        ]

    def _tag_keys(self, store: SharedStore | None) -> list[Keyed | None]:
        """What the names of tags on ``store`` are made with: under each master key that
        is in use there or configured, and None where entries are not encrypted."""
        from cachekit._secrets import keyring_of, names_of

        with self._lock:
            plans = [function._plan for function in self._functions]
        rings = {plan.keyring for plan in plans if plan.store is store}
        rings.add(keyring_of(self.config))
        return [
            None if ring is None else names_of(ring, which)
            for ring in rings
            for which in range(1 if ring is None else ring.count)
        ]

    def _space_versions(
        self, namespace: str | None
    ) -> list[tuple[SharedStore | None, str, str]]:
        from cachekit._messages import channel_of
        from cachekit._versions import namespace_key

        return [
            (store, channel_of(space), namespace_key(space))
            for space, store in self._spaces_named(namespace)
        ]

    def _spaces_named(
        self, namespace: str | None
    ) -> list[tuple[str | None, SharedStore | None]]:
        spaces = self._spaces()
        if namespace is None:
            return spaces
        # Also one that only other processes use.
        return [(namespace, store) for store in {store for _, store in spaces}]

    def _forget_versions(
        self, versions: list[tuple[SharedStore | None, str, str]]
    ) -> Invalidation:
        """Invalidate what carries one of these version keys, here and everywhere."""
        from cachekit._types import Invalidation

        result = Invalidation.DELIVERED
        self._forget_here(versions)
        try:
            for store, gone in _by_store(versions):
                if store.invalidate(gone) is Invalidation.QUEUED:
                    result = Invalidation.QUEUED
        finally:
            # Others may have read entries before they were gone.
            self._forget_here(versions)
        return result

    async def _aforget_versions(
        self, versions: list[tuple[SharedStore | None, str, str]]
    ) -> Invalidation:
        from cachekit._types import Invalidation

        result = Invalidation.DELIVERED
        self._forget_here(versions)
        try:
            for store, gone in _by_store(versions):
                if await store.ainvalidate(gone) is Invalidation.QUEUED:
                    result = Invalidation.QUEUED
        finally:
            self._forget_here(versions)
        return result

    def _forget_here(self, versions: list[tuple[SharedStore | None, str, str]]) -> None:
        for _, _, name in versions:
            self._members.expire(name)

    def _join(self, function: _core.CachedFunction, plan: Plan) -> None:
        """The function has a plan: from now on invalidations reach it."""
        self._functions.add(function)
        named_by: dict[str, Any] = {
            "channel": plan.channel,
            "version_keys": plan.version_names,
            "function_id": plan.function_id,
            "computed_tags": plan.computes_tags,
            "digests": plan.digests,
        }
        self._members.add(function, prefix=None, **named_by)
        if plan.store is not None and plan.memory is not None:
            entries = plan.entries
            plan.store.coherence.join(
                function,
                store_prefix=plan.prefix,
                tracking=plan.tracks,
                registry=None if entries is None else entries.registry,
                foreign=entries is not None and entries.hears,
                **named_by,
            )

    # -- health -----------------------------------------------------------------------

    def ping(self) -> bool:
        """Does the shared store answer? True with memory only. Never raises."""
        from cachekit.health import pings

        return pings(self)

    def health_check(self) -> bool:
        """Is the cache of use? False while the shared store does not answer."""
        return self.ping()

    def detailed_health_check(self) -> dict[str, Any]:
        """Status, store, breaker, pool and memory; see docs/health.md."""
        from cachekit.health import report

        return report(self)

    def close(self) -> None:
        """Close the connections to the stores. Later calls open new ones."""
        for store in list(self._stores.values()):
            store.close()

    # -- the same for asyncio ---------------------------------------------------------

    async def aget(self, key: str, default: Any = None) -> Any:
        """`get`, awaitable."""
        return await self._mine()[1].aget(key, default)

    async def aset(
        self, key: str, value: Any, ttl: Duration | Never | None = None
    ) -> None:
        """`set`, awaitable."""
        await self._mine()[1].aput(key, value, ttl)

    async def adelete(self, key: str) -> Invalidation:
        """`delete`, awaitable."""
        return await self._mine()[1].adelete(key)

    async def aget_many(self, keys: Iterable[str]) -> dict[str, Any]:
        """`get_many`, awaitable; all names are asked for at once."""
        return await self._mine()[1].aget_many(keys)

    async def aset_many(
        self, values: Mapping[str, Any], ttl: Duration | Never | None = None
    ) -> None:
        """`set_many`, awaitable; all are stored at once."""
        await self._mine()[1].aput_many(values, ttl)

    async def ainvalidate_tags(
        self, *tags: str, namespace: str | None = None
    ) -> Invalidation:
        """`invalidate_tags`, awaitable."""
        return await self._aforget_versions(self._tag_versions(tags, namespace))

    async def aclear(self, *, namespace: str | None = None) -> Invalidation:
        """`clear`, awaitable."""
        listed = self._listed(namespace)
        self._empty_memory(namespace)
        results = [await self._aforget_versions(self._space_versions(namespace))]
        for function, gone in listed:
            try:
                results.append(await function._plan.store.ainvalidate((gone,)))
            finally:
                function._expire()
        return _worst(results)

    async def aping(self) -> bool:
        """`ping`, awaitable."""
        from cachekit.health import apings

        return await apings(self)

    async def ahealth_check(self) -> bool:
        """`health_check`, awaitable."""
        return await self.aping()

    async def adetailed_health_check(self) -> dict[str, Any]:
        """`detailed_health_check`, awaitable."""
        from cachekit.health import areport

        return await areport(self)

    async def aclose(self) -> None:
        """`close`, awaitable: also the connections of the running loop."""
        for store in list(self._stores.values()):
            await store.aclose()

    def __repr__(self) -> str:
        stores = ", ".join(store.address for store in self._stores.values())
        return f"<cachekit.Cache on {stores or 'memory'}>"


# -- parts ----------------------------------------------------------------------------


def _worst(results: list[Invalidation]) -> Invalidation:
    from cachekit._types import Invalidation

    queued = Invalidation.QUEUED in results
    return Invalidation.QUEUED if queued else Invalidation.DELIVERED


def _by_store(
    versions: list[tuple[SharedStore | None, str, str]],
) -> list[tuple[SharedStore, list[Gone]]]:
    """What each store has to be told, stores on one place once."""
    from cachekit._plan import gone_version

    stores: dict[Any, tuple[SharedStore, dict[str, Gone]]] = {}
    for store, channel, name in versions:
        if store is not None:
            of = stores.setdefault(store.place, (store, {}))[1]
            of[name] = gone_version(store, channel, name)
    return [(store, list(gone.values())) for store, gone in stores.values()]


_all: WeakSet[Cache] = WeakSet()


def _after_fork() -> None:
    """Whoever held a lock when the process forked is not in the child."""
    for cache in list(_all):
        cache._lock = RLock()
        cache._members.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class _Disabled:
    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._tokens: list[Any] = []

    def __enter__(self) -> None:
        cache = self._cache
        with cache._lock:
            if cache._disabled is None:
                from contextvars import ContextVar

                cache._disabled = ContextVar("cachekit_disabled", default=False)
            cache._off.value += 1
        self._tokens.append(cache._disabled.set(True))

    def __exit__(self, *exc: object) -> None:
        cache = self._cache
        try:
            cache._disabled.reset(self._tokens.pop())
        finally:  # left in another context than it was entered in: the core forgets it
            with cache._lock:
                cache._off.value -= 1
