# SPDX-License-Identifier: MIT
"""What the core is told about one decorated function.

A plan is made at the function's first use, from its options, the configuration and its
identity; ``_core.CachedFunction`` reads the attributes once. What the core wants to say
to people comes back through ``report``.
"""

from __future__ import annotations

import sys

from cachekit import _core
from cachekit._checks import NEVER_NS, to_ns
from cachekit._messages import channel_of, entry_message, wake_message
from cachekit._logging import default_log
from cachekit._signature import bind
from cachekit._versions import (
    function_id,
    function_key,
    judge_tags,
    namespace_key,
    tag_key,
    tag_slot,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from cachekit._cache import Cache
    from cachekit._identity import Identity
    from cachekit._locks import Held
    from cachekit._named import Names
    from cachekit._options import FunctionOptions
    from cachekit._pending import Gone
    from cachekit._store import SharedStore
    from cachekit._types import Strategy
    from cachekit.backends._protocol import Claim, Fill

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
#: Milliseconds that a lock across processes lives; its holder renews it.
LOCK_MS = 5000


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
        own_versions: bool = True,
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
        self._read_versions(options, own_versions)
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
        self.soft_timeout = options.soft_timeout_ns
        self.hard_timeout = options.hard_timeout_ns
        self.version = -1 if options.version is None else options.version
        self.schema = -1 if options.schema is None else _fingerprint(options.schema)
        self.locks = options.distributed_lock
        self.early = options.early_refresh
        self.digests = options.coherence == "tracking"
        self._fence_ttl_ms = -(-options.fence_ttl_ns // 1_000_000)
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

    def _read_versions(self, options: FunctionOptions, own: bool) -> None:
        """What entries carry so that many can be invalidated at once."""
        store, space = self.store, options.namespace
        versioned = store is not None and store.versioned
        self.own_versions = own
        self.version_key = function_key(self.prefix, self.identity)
        self.function_id = function_id(self.version_key)
        self.namespace_key = namespace_key(space)
        self.channel = channel_of(space)
        names = [self.version_key] if own else []
        names.append(self.namespace_key)
        tags = options.tags
        self._tags = tags if callable(tags) else None
        if not callable(tags):
            names += [tag_key(space, tag) for tag in tags]
        #: Names of the version keys, those of computed tags aside.
        self.version_names = tuple(names)
        self.computes_tags = self._tags is not None
        self.tags_of = self._tags_of if self.computes_tags else None
        self.sides = self.version_names if versioned else ()
        self.claims = versioned
        self.hearing = None
        if store is not None and self.memory is not None:
            self.hearing = store.coherence.flag
        # An entry may be asked to live for as long as its longest stale period.
        stale = max(options.stale_ttl_ns, options.stale_if_error_ttl_ns)
        life = self.ttl + stale if self.ttl else to_ns(self.cache.config.default_ttl)
        self._life_ms = 0 if life >= NEVER_NS else -(-life // 1_000_000)

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

    def _tags_of(
        self, args: tuple[Any, ...], kwargs: dict[str, Any] | None
    ) -> tuple[tuple[str, ...], bytes]:
        """``tags=callable``: the version keys of a call, and its slots in memory."""
        assert self._tags is not None
        tags = judge_tags(self._tags(*args, **(kwargs or {})))
        keys = [tag_key(self.options.namespace, tag) for tag in tags]
        slots = b"".join(tag_slot(key).to_bytes(2, sys.byteorder) for key in keys)
        return (*self.version_names, *keys), slots

    def claim_request(self, call: _core.Call) -> Claim:
        """What the store is told before the function runs."""
        from cachekit.backends._protocol import Claim

        deletes = call.action == _core.DELETE
        replaces = call.mode in _NEWER
        return Claim(
            key=call.store_key,
            sides=call.sides if self.claims else (),
            life_ms=self._life_ms,
            fence_ttl_ms=self._fence_ttl_ms,
            replace=replaces,
            lock_ms=LOCK_MS if call.wants_lock else 0,
            head=replaces and not deletes and (self.version >= 0 or self.schema >= 0),
            delete=deletes,
            channel=self.channel,
            message=self._message(call.key) if deletes else None,
        )

    def fill_request(self, call: _core.Call) -> Fill:
        """What the store is told when the function has returned."""
        from cachekit.backends._protocol import Fill

        data, life, planned = call.payload, call.payload_ttl, self._life_ms
        assert data is not None
        outlives = planned != 0 and (life == 0 or life > planned)
        tells = call.mode in (_core.MODE_BYPASS, _core.MODE_RENEW)
        return Fill(
            key=call.store_key,
            data=data,
            ttl_ms=life,
            fence=call.fence,
            lock=call.lock,
            sides=call.sides if outlives and self.claims else (),
            channel=self.channel,
            message=self._message(call.key) if tells else None,
            wake=self._wake(call.store_key) if call.lock else b"",
        )

    def hold_lock(self, call: _core.Call, token: str) -> Held:
        """The claim got the lock: renew it until it is given back."""
        from cachekit._locks import hold

        assert self.store is not None
        key = call.store_key
        return hold(self.store, key, token, LOCK_MS, self.channel, self._wake(key))

    def _message(self, key: bytes) -> bytes:
        assert self.store is not None
        return entry_message(self.store.coherence.origin, self.function_id, key)

    def _wake(self, store_key: str) -> bytes:
        assert self.store is not None
        return wake_message(self.store.coherence.origin, store_key)

    def gone(self, store_key: str, key: bytes) -> Gone:
        """One entry, as something to be removed."""
        from cachekit._pending import Gone

        whole = self.gone_whole(self.version_names[0])
        return Gone(store_key, False, self.channel, self._message(key), whole)

    def gone_whole(self, name: str) -> Gone:
        """A version key, as something to be removed."""
        assert self.store is not None
        return gone_version(self.store, self.channel, name)

    def keep_invalidation(self, call: _core.Call) -> None:
        """The store did not take an invalidation."""
        assert self.store is not None
        self.store.pending.keep(self.gone(call.store_key, call.key))

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

    def _asleep(self, _: object) -> None:
        assert self.store is not None
        self.store.coherence.wake()

    def _deaf(self, _: object) -> None:
        assert self.store is not None
        self.store.coherence.suspect()

    def _kept_deaf(self, _: object) -> None:
        assert self.store is not None
        self.store.coherence.missed()

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


#: Modes whose value is newer than whatever was begun before.
_NEWER = (_core.MODE_BYPASS, _core.MODE_RENEW, _core.MODE_INVALIDATE)


def gone_version(store: SharedStore, channel: str, name: str) -> Gone:
    """A version key of ``store``, as something to be removed."""
    from cachekit._messages import version_message
    from cachekit._pending import Gone

    message = version_message(store.coherence.origin, name)
    return Gone(name, True, channel, message, None)


def _fingerprint(schema: Any) -> int:
    from cachekit._schema import fingerprint

    return fingerprint(schema)


_REPORTS: dict[str, Callable[[Plan, Any], None]] = {
    "asleep": Plan._asleep,
    "deaf": Plan._deaf,
    "kept_deaf": Plan._kept_deaf,
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
