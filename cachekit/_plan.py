# SPDX-License-Identifier: MIT
"""What the core is told about one decorated function.

A plan is made at the function's first use, from its options, the configuration and its
identity; ``_core.CachedFunction`` reads the attributes once. What the core wants to say
to people comes back through ``report``.
"""

from __future__ import annotations

from cachekit import _core
from cachekit._checks import NEVER_NS, to_ns
from cachekit._logging import default_log
from cachekit._signature import bind

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from cachekit._cache import Cache
    from cachekit._identity import Identity
    from cachekit._named import Names
    from cachekit._options import FunctionOptions
    from cachekit._store import SharedStore
    from cachekit._types import Strategy

__all__ = ["MODES", "Plan", "mode_of"]

#: Strategy name -> mode of the core's machine.
MODES = {
    "FRESH": _core.MODE_FRESH,
    "REFRESH": _core.MODE_REFRESH,
    "INVALIDATE": _core.MODE_INVALIDATE,
    "BYPASS": _core.MODE_BYPASS,
}

#: Serializer names that the entry frame has numbers for (csrc/codec/ck_frame.h).
_SERIALIZERS = {"default": 0, "pickle": 1, "arrow": 2, "orjson": 3}
_OTHER = 255


def mode_of(strategy: Strategy) -> int:
    """The core's number of a strategy."""
    return MODES[strategy.name]


class Plan:
    """What ``configure`` in csrc/py/cached_function.c reads, and more."""

    def __init__(
        self,
        *,
        cache: Cache,
        function: Callable[..., Any],
        options: FunctionOptions,
        identity: Identity,
        prefix: str,
        signature: tuple[Any, ...],
        memory: _core.Memory | None,
        store: SharedStore | None,
        is_async: bool,
        returns: Any = None,
        tokens: Any = None,
        names_of: _core.CachedFunction | None = None,
    ) -> None:
        self.cache = cache
        self.function = function
        self.options = options
        self.store = store
        self.names: Names | None = None  # those that the entries belong to
        self.name = identity.name
        # what the core reads
        self.identity = identity.data
        self.prefix = prefix
        self.signature = signature
        self.memory = memory
        self.off = cache._off
        self.tokens = tokens
        self.returns = returns
        self.names_of = names_of
        self.pending = None if store is None else store.pending.flag
        self.guard = None if store is None else store.guard
        self.transport: Any = None
        self.careful: Any = None
        if store is not None:
            self.transport = store.asyncio if is_async else store.blocking
            self.careful = store.async_careful if is_async else store.careful
        self._read_options(options)
        self.store_budget = 0 if store is None else int(store.timeout * 1e9)
        log = default_log()
        self._log = log

    def _read_options(self, options: FunctionOptions) -> None:
        serializer = options.serializer
        name = "default" if serializer is None else serializer.name
        negative = options.negative_ttl_ns
        self.ttl = 0 if options.ttl_ns is None else options.ttl_ns
        self.ttl_of = None if options.ttl_ns is not None else self._lifetime_of
        self.stale_ttl = options.stale_ttl_ns
        self.error_ttl = options.stale_if_error_ttl_ns
        # References are all there is: nothing to ask instead.
        self.l1_ttl = NEVER_NS if options.references else options.l1_ttl_ns
        self.negative_ttl = -1 if negative is None else negative
        self.stale_retry = options.stale_retry_ns
        self.flight_timeout = options.single_flight_timeout_ns
        self.ttl_jitter = options.ttl_jitter
        self.max_value_size = options.max_value_size
        self.compress_min = options.compress_min
        self.mode = mode_of(options.strategy)
        self.serializer = None if name == "default" else serializer
        self.serializer_id = _SERIALIZERS.get(name, _OTHER)
        self.serializer_name = name
        self.single_flight = options.single_flight
        self.fallback = options.fallback_enabled
        self.serve_stale_on_error = options.serve_stale_on_error
        self.stale_on = options.stale_on if options.serve_stale_on_error else None
        self.by_reference = options.references
        self.call_uncacheable = options.on_uncacheable == "call"
        self.cache_if = options.cache_if
        self.full_key = options.full_key is not None
        #: Records at DEBUG cost time: they are made when the level asks for them at the
        #: first use of the function.
        self.debug = default_log().debugging
        self.key_of = options.full_key or options.key

    def _lifetime_of(self, value: Any) -> int:
        """``ttl=callable``: the callable's answer, judged like any ttl."""
        from cachekit._options import judge_ttl

        ttl = self.options.ttl
        assert callable(ttl)
        answer = judge_ttl(ttl(value))
        return to_ns(self.cache.config.default_ttl if answer is None else answer)

    # -- asked by the core ------------------------------------------------------------

    def is_off(self) -> bool:
        """Is caching switched off for this caller?"""
        return self.cache._is_off()

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> None:
        """Raise what the function raises for arguments that do not fit."""
        bind(self.function, args, kwargs or {})

    def keep_invalidation(self, name: str, function: _core.CachedFunction) -> None:
        """The store did not take an invalidation."""
        assert self.store is not None
        self.store.pending.keep(name, self.prefix)

    def report(self, event: str, detail: Any) -> None:
        """Something worth a record happened. Never the arguments, never the value."""
        _REPORTS[event](self, detail)

    def _warn(self, key: str, message: str, *args: object, **fields: object) -> None:
        self._log.limited(
            (key, self.name),
            "warning",
            message,
            self.name,
            *args,
            event=key,
            function=self.name,
            **fields,
        )

    def _store_failed(self, failure: BaseException) -> None:
        assert self.store is not None
        self.store.failed(failure)

    def _uncacheable(self, _: object) -> None:
        self._log.once(
            ("uncacheable", self.name),
            "warning",
            "%s was called with an argument that cannot be part of a key; such calls "
            "are not cached",
            self.name,
            event="uncacheable",
            function=self.name,
        )

    def _iterator(self, kind: type) -> None:
        self._log.once(
            ("iterator", self.name),
            "warning",
            "%s returned a %s, which can be used only once; such results are not "
            "cached",
            self.name,
            kind.__name__,
            event="iterator",
            function=self.name,
            type=kind.__name__,
        )

    def _unencodable(self, failure: BaseException) -> None:
        kind = getattr(failure, "type_name", None)
        where = getattr(failure, "path", None)
        way_out = "" if self.store else "; @cache.local keeps any object in memory"
        self._warn(
            "unencodable",
            "a result of %s cannot be encoded and was not cached: %s%s%s",
            getattr(failure, "message", None) or type(failure).__name__,
            f" (at {where})" if where else "",
            way_out,
            type=kind,
            path=where,
        )

    def _oversized(self, _: object) -> None:
        self._warn("oversized", "a result of %s is too large and was not cached")

    def _corrupt(self, _: object) -> None:
        self._warn("corrupt", "a stored entry of %s was damaged and has been removed")

    def _judge_raised(self, error: BaseException) -> None:
        self._warn(
            "judge_raised",
            "cache_if= or ttl= of %s raised %s; the result was not cached",
            type(error).__name__,
        )

    def _stale_on_error(self, error: BaseException | None) -> None:
        self._warn(
            "stale_on_error",
            "%s raised %s; an old value is served",
            "an exception a moment ago" if error is None else type(error).__name__,
        )

    def _refresh_failed(self, error: BaseException) -> None:
        self._warn(
            "refresh_failed",
            "a background refresh of %s raised %s; the old value stays",
            type(error).__name__,
        )

    def _called(self, action: str) -> None:
        self._log.debug(
            "%s: %s", self.name, action, event="call", function=self.name, action=action
        )


_REPORTS: dict[str, Callable[[Plan, Any], None]] = {
    "called": Plan._called,
    "corrupt": Plan._corrupt,
    "iterator": Plan._iterator,
    "judge_raised": Plan._judge_raised,
    "oversized": Plan._oversized,
    "refresh_failed": Plan._refresh_failed,
    "stale_on_error": Plan._stale_on_error,
    "store_failed": Plan._store_failed,
    "uncacheable": Plan._uncacheable,
    "unencodable": Plan._unencodable,
}
