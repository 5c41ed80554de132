# SPDX-License-Identifier: MIT
"""What the core is told about one decorated function.

A plan is made at the function's first use, from its options, the configuration and its
identity; ``_core.CachedFunction`` reads the attributes once. What the core wants to say
to people comes back through ``report``.
"""

from __future__ import annotations

import os
import sys

from cachekit import _core
from cachekit._checks import NEVER_NS, to_ns
from cachekit._events import CHANNEL as EVENTS
from cachekit._logging import default_log
from cachekit._messages import (
    DIGEST,
    ENTRY,
    channel_of,
    entry_message,
    wake_message,
)
from cachekit._names import tenant_prefix
from cachekit._secrets import DEFAULT_TENANT, keyring_for, names_of
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
    from collections.abc import Callable, Iterable
    from typing import Any

    from cachekit._cache import Cache
    from cachekit._identity import Identity
    from cachekit._locks import Held
    from cachekit._named import Names
    from cachekit._options import FunctionOptions
    from cachekit._pending import Gone
    from cachekit._store import SharedStore
    from cachekit._types import Strategy
    from cachekit._wire3 import Name
    from cachekit._wire3._function import Wire3Function
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
        wire3: Wire3Function | None = None,
    ) -> None:
        self.cache = cache
        self.function = function
        self.options = options
        self.store = store
        self.names: Names | None = None  # those that the entries belong to
        self.name = identity.name
        # what the core reads
        self.identity = self._for_all_tenants = identity.data
        self.prefix = self._plain_prefix = prefix
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
        self._read_secrets(options)
        self._read_options(options)
        self.store_budget = 0 if store is None else int(store.timeout * 1e9)
        self._read_versions(options, own_versions)
        self._read_wire3(wire3)
        log = default_log()
        self._log = log

    def _read_secrets(self, options: FunctionOptions) -> None:
        """Whose entries these are, and under which keys."""
        config = self.cache.config
        tenant = config.tenant if options.tenant is None else options.tenant
        self.keyring = keyring_for(options, config)
        #: How often an entry has a name: under each master key.
        self.rings = 1 if self.keyring is None else self.keyring.count
        self.fail_closed = (
            config.encryption_fail_closed
            if options.fail_closed is None
            else options.fail_closed
        )
        self.tenant_of = None if isinstance(tenant, str) else _asking(tenant)
        self.tenant = tenant if isinstance(tenant, str) else ""
        if self.tenant_of is None and self.tenant != DEFAULT_TENANT:
            self.prefix = self.prefix_of(self.tenant)
            if self.keyring is None:
                self.identity += b"@" + self.tenant.encode()

    def prefix_of(self, tenant: str) -> str:
        """What the store keys of a tenant begin with."""
        if tenant == DEFAULT_TENANT:
            return self._plain_prefix
        return tenant_prefix(self.options.namespace, self.name, tenant)

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
        self.tracks = options.coherence == "tracking"
        self.digests = (
            self.tracks or self.keyring is not None or self.tenant_of is not None
        )
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
        self.namespace_key = namespace_key(space)
        self.channel = channel_of(space)
        self.computes_tags = callable(options.tags)
        self.tags_of = self._tags_of if self.computes_tags else None
        # Where entries are encrypted the names of versions are keyed, too, for all
        # tenants alike; under each master key there is another one.
        self._name_keys = [
            None if self.keyring is None else names_of(self.keyring, which)
            for which in range(self.rings)
        ]
        #: For each master key the function's version key, and all names that entries
        #: depend on, those of computed tags aside.
        self.version_keys = [
            function_key(self._plain_prefix, self._for_all_tenants, key=key)
            for key in self._name_keys
        ]
        self._names = [self._fixed_names(which) for which in range(self.rings)]
        self.version_key = self.version_keys[0]
        self.version_names = self._names[0]
        self.function_id = function_id(self.version_key)
        self.sides = self.version_names if versioned else ()
        self.claims = versioned
        self.hearing = None
        if store is not None and self.memory is not None:
            self.hearing = store.coherence.flag
        # An entry may be asked to live for as long as its longest stale period.
        stale = max(options.stale_ttl_ns, options.stale_if_error_ttl_ns)
        life = self.ttl + stale if self.ttl else to_ns(self.cache.config.default_ttl)
        self._life_ms = 0 if life >= NEVER_NS else -(-life // 1_000_000)

    def _read_wire3(self, wire3: Wire3Function | None) -> None:
        """Names and entries of version 3: those carry no version numbers."""
        self.entries = wire3
        self.wire3 = wire3 is not None
        self.wire3_plain = wire3 is not None and wire3.plain
        self.wire3_checked = wire3 is not None and wire3.checked
        if wire3 is not None:
            self.sides = ()

    def _fixed_names(self, which: int) -> tuple[str, ...]:
        """Version keys under master key number ``which``."""
        tags = self.options.tags
        own = (self.version_keys[which],) if self.own_versions else ()
        given = () if callable(tags) else self._tag_names(tags, which)
        return (*own, self.namespace_key, *given)

    def _tag_names(self, tags: Iterable[str], which: int) -> tuple[str, ...]:
        space, key = self.options.namespace, self._name_keys[which]
        return tuple(tag_key(space, tag, key=key) for tag in tags)

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
        names = self._tag_names(self._tags(args, kwargs), 0)
        slots = b"".join(tag_slot(name).to_bytes(2, sys.byteorder) for name in names)
        return (*self.version_names, *names), slots

    def _tags(
        self, args: tuple[Any, ...], kwargs: dict[str, Any] | None
    ) -> tuple[str, ...]:
        tags = self.options.tags
        assert callable(tags)
        return judge_tags(tags(*args, **(kwargs or {})))

    # -- entries of version 3 ---------------------------------------------------------

    def wire3_names(self, call: _core.Call) -> tuple[str, ...]:
        """What the entry of a call goes by, in the store; the first is the one to write
        under."""
        names = self._names3(call.args, call.kwargs, self._tenant_in(call.key))
        return tuple(name.stored for name in names)

    def _names3(
        self, args: tuple[Any, ...], kwargs: dict[str, Any] | None, tenant: str
    ) -> tuple[Name, ...]:
        assert self.entries is not None
        return self.entries.names(args, kwargs or {}, tenant)

    def _tenant_in(self, key: bytes) -> str:
        """Whose entry it is: where calls have tenants of their own, the key says so."""
        if self.tenant_of is None:
            return self.tenant
        return key[32 * self.rings :].decode()

    def _name3(self, call: _core.Call, which: int) -> Name:
        from cachekit._wire3 import Name
        from cachekit._wire3._keys import tenant_start

        assert self.entries is not None
        stored, tenant = call.names[which], self._tenant_in(call.key)
        start = tenant_start(self.entries.owner(tenant))
        return Name(stored, stored[len(start) :])

    def wire3_write(self, call: _core.Call, value: Any) -> bytes:
        """The entry of what the function returned."""
        assert self.entries is not None
        tenant = self._tenant_in(call.key)
        return self.entries.write(value, self._name3(call, 0), tenant)

    def wire3_read(
        self, call: _core.Call, data: bytes, which: int
    ) -> tuple[Any] | None:
        """The value of an entry that was found under name number ``which``."""
        assert self.entries is not None
        tenant = self._tenant_in(call.key)
        return self.entries.read(data, self._name3(call, which), tenant)

    def key_for(self, function: _core.CachedFunction, args: Any, kwargs: Any) -> str:
        """The name of a call's entry in the store."""
        key = function._key(*args, **kwargs)
        if self.entries is None:
            return function._store_key(key)
        return self._names3(args, kwargs, self._tenant_in(key))[0].stored

    def _told(self, name: Name | None) -> tuple[tuple[str, bytes], ...]:
        """What programs of the PyPI package are told of an entry, or of all."""
        event = None if self.entries is None else self.entries.event(name)
        return () if event is None else ((EVENTS, event),)

    def _gone3(self, key: bytes, names: Iterable[Name]) -> list[Gone]:
        from cachekit._pending import Gone

        whole = self.gone_whole(self._tenant_in(key))
        message = self._message(key)
        return [
            Gone(name.stored, False, self.channel, message, whole, self._told(name))
            for name in names
        ]

    def gone_whole(self, tenant: str) -> Gone | None:
        """All entries of the function; None where nobody knows their names."""
        from cachekit._messages import version_message
        from cachekit._pending import Gone

        assert self.store is not None and self.entries is not None
        listing = self.entries.listing(tenant)
        if listing is None:
            return None
        # No such key is in the store: the name says which entries are meant.
        return Gone(
            f"{self.entries.start(tenant)}v:{self.function_id.hex()}",
            True,
            self.channel,
            version_message(self.store.coherence.origin, self.version_key),
            None,
            self._told(None),
            (listing.name, listing.prefix),
        )

    def lookup_sides(self, call: _core.Call) -> tuple[str, ...]:
        """What is read beside an entry while former master keys are configured: its
        version keys, then for each of those its name and version keys under that."""
        sides = list(call.sides)
        tags = self._tags(call.args, call.kwargs) if self.computes_tags else ()
        for which in range(1, self.rings):
            sides.append(call.function._store_key(call.key, which))
            if call.sides:
                sides += (*self._names[which], *self._tag_names(tags, which))
        return tuple(sides)

    def _others(self, call: _core.Call) -> tuple[tuple[str, bytes], ...]:
        """The entry's names under former master keys, and what is said of each."""
        if self.entries is not None:
            return tuple((name, self._message(call.key)) for name in call.names[1:])
        store_key, key = call.function._store_key, call.key
        return tuple(
            (store_key(key, which), self._message(key, which))
            for which in range(1, self.rings)
        )

    def every_name(self, call: _core.Call) -> tuple[str, ...]:
        """The entry under all its names, to be evicted."""
        return (call.store_key, *(name for name, _ in self._others(call)))

    def claim_request(self, call: _core.Call) -> Claim:
        """What the store is told before the function runs."""
        from cachekit.backends._protocol import Claim

        deletes = call.action == _core.DELETE
        if call.wants_lock:
            # Known to the call before the store is asked: if nobody comes for the
            # answer, the lock is given back all the same.
            call.token = os.urandom(8).hex()
        replaces = call.mode in _NEWER
        return Claim(
            key=call.store_key,
            sides=call.sides if self.claims else (),
            life_ms=self._life_ms,
            fence_ttl_ms=self._fence_ttl_ms,
            replace=replaces,
            lock_ms=LOCK_MS if call.wants_lock else 0,
            lock=call.token or "",
            unseen=call.absent,
            head=replaces and not deletes and (self.version >= 0 or self.schema >= 0),
            delete=deletes,
            others=self._others(call) if replaces or deletes else (),
            channel=self.channel,
            message=self._message(call.key) if deletes else None,
            also=self._told(self._name3(call, 0)) if deletes and self.wire3 else (),
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
            others=self._others(call),
            channel=self.channel,
            message=self._message(call.key) if tells else None,
            wake=self._wake(call.store_key) if call.lock else b"",
            also=self._told(self._name3(call, 0)) if tells and self.wire3 else (),
            listed=self._listed(call) if self.wire3 else None,
        )

    def _listed(self, call: _core.Call) -> tuple[str, str, int] | None:
        """Where programs of the PyPI package look for the names of entries."""
        from cachekit._wire3._function import LISTED_SECONDS

        assert self.entries is not None
        listing = self.entries.listing(self._tenant_in(call.key))
        if listing is None:
            return None
        return listing.name, self._name3(call, 0).bare, LISTED_SECONDS

    def hold_lock(self, call: _core.Call, token: str) -> Held:
        """The claim got the lock: renew it until it is given back."""
        from cachekit._locks import hold

        assert self.store is not None
        key = call.store_key
        return hold(self.store, key, token, LOCK_MS, self.channel, self._wake(key))

    def _message(self, key: bytes, which: int = 0) -> bytes:
        assert self.store is not None
        function = function_id(self.version_keys[which])
        kind = DIGEST if self.digests else ENTRY
        name = key[32 * which : 32 * which + 32] if self.digests else key
        return entry_message(self.store.coherence.origin, function, name, kind)

    def _wake(self, store_key: str) -> bytes:
        assert self.store is not None
        return wake_message(self.store.coherence.origin, store_key)

    def gone(
        self, function: _core.CachedFunction, key: bytes, args: Any, kwargs: Any
    ) -> list[Gone]:
        """One entry under all its names, as something to be removed."""
        from cachekit._pending import Gone

        assert self.store is not None
        if self.entries is not None:
            tenant = self._tenant_in(key)
            return self._gone3(key, self.entries.all_names(args, kwargs or {}, tenant))
        return [
            Gone(
                function._store_key(key, which),
                False,
                self.channel,
                self._message(key, which),
                gone_version(self.store, self.channel, self._names[which][0]),
            )
            for which in range(self.rings)
        ]

    def keep_invalidation(self, call: _core.Call) -> None:
        """The store did not take an invalidation."""
        assert self.store is not None
        for gone in self.gone(call.function, call.key, call.args, call.kwargs):
            self.store.pending.keep(gone)

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


def _asking(tenant: Any) -> Callable[..., str]:
    """``tenant=`` of each call: a callable of the arguments, or a ContextVar."""
    get = getattr(tenant, "get", None)
    if get is None or not hasattr(tenant, "reset"):
        asking: Callable[..., str] = tenant
        return asking
    return lambda *_, **__: get()


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
