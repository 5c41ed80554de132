# SPDX-License-Identifier: MIT
"""From a decorated function to its plan: what happens at its first use."""

from __future__ import annotations

from cachekit._checks import UNSET
from cachekit._errors import ConfigurationError
from cachekit._functions import is_async
from cachekit._identity import Identities
from cachekit._logging import default_log, enable_debug
from cachekit._names import store_prefix
from cachekit._plan import Plan
from cachekit._signature import describe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cachekit._cache import Cache
    from cachekit._config import CacheConfig
    from cachekit._identity import Identity
    from cachekit._options import FunctionOptions
    from cachekit._store import SharedStore
    from cachekit._wire3._function import Wire3Function

__all__ = ["plan_for"]


def plan_for(cache: Cache, options: FunctionOptions, wrapper: Any) -> Plan:
    """Decide everything about one function of ``cache``.

    Raises ``ConfigurationError`` for what only shows now: a bad variable, two
    functions of one ``name=``, a serializer that a shared store must not have.
    """
    function = wrapper.__wrapped__
    with cache._lock:
        config = cache.config
        config.require_built()
        options = options.resolve(config)
        if options.debug:
            enable_debug()
        if cache._identities is None:
            cache._identities = Identities()
        identity = cache._identities.identify(function, options.name)
        store = cache._store_of(options)
        named = None
        if options.full_key is not None:
            named = cache._names(options.namespace, store)
            named.join(wrapper)
            identity = named.identity
        elif store is not None and not identity.shareable:
            _tell_not_shared(identity)
            store = None
        prefix = store_prefix(options.namespace, identity.name)
        scope = prefix.encode("utf-8", "surrogatepass") + b"\0" + identity.data
        serializer = _signing(options, config, store, scope)
        _check_tags(options, store)
        _check_size(options, config, store)
        wire3 = _wire3(cache, options, config, store, function)
        plan = Plan(
            cache=cache,
            function=function,
            options=options,
            identity=identity,
            prefix=prefix,
            signature=describe(function, options.ignore),
            memory=cache._memory_of(options),
            store=store,
            is_async=is_async(function),
            returns=_returns(function, options.returns),
            tokens=_tokens() if options.references else None,
            names_of=None if named is None else named.function,
            own_versions=named is None,
            wire3=wire3,
        )
        if plan.serializer is not None:
            # In a form that the others under these names cannot read.
            plan.names_of = None
            plan.serializer = serializer
        plan.names = named
        cache._join(wrapper, plan)
        return plan


def _signing(
    options: FunctionOptions,
    config: CacheConfig,
    store: SharedStore | None,
    scope: bytes,
) -> Any:
    """The serializer of the function; where a shared store asks for it, one that signs
    with the master key for this function alone."""
    serializer = options.serializer
    if store is None or not getattr(serializer, "requires_signing", False):
        return serializer
    from cachekit._secrets import DEFAULT_TENANT, keyring_of

    bind = getattr(serializer, "bind", None)
    keyring = keyring_of(config, master_key=options.master_key)
    if bind is None or keyring is None:
        raise ConfigurationError(
            "a function with a shared store cannot use this serializer without signing",
            hint="Set CACHEKIT_MASTER_KEY, give it allow_unsigned=True if only trusted "
            "programs reach the store, or use backend=None",
        )
    tenant = config.tenant if options.tenant is None else options.tenant
    # Of one that differs from call to call, the signature says nothing: that the entry
    # is of the right tenant, its key and its encryption see to.
    return bind(keyring, tenant if isinstance(tenant, str) else DEFAULT_TENANT, scope)


#: What entries of version 3 have no place for.
_NOT_IN_WIRE3 = ("stale_ttl", "tags", "version", "schema", "ignore")


def _wire3(
    cache: Cache,
    options: FunctionOptions,
    config: CacheConfig,
    store: SharedStore | None,
    function: Any,
) -> Wire3Function | None:
    """The other form of entries, where ``wire`` or ``interop=`` ask for it.

    Named entries, those of ``full_key=`` among them, are always version 4: nobody else
    knows them.
    """
    interop = options.interop
    if interop is not None and options.full_key is not None:
        raise ConfigurationError("interop= and full_key= exclude each other")
    if interop is not None and options.key is not None:
        raise ConfigurationError("interop= and key= exclude each other")
    if interop is not None and options.namespace is None:
        raise ConfigurationError(
            "interop= needs namespace=: both are part of the shared keys"
        )
    if store is None or options.full_key is not None:
        return None
    if interop is None and config.wire == 4:
        return None
    form = "interop=" if interop is not None else f"wire={config.wire!r}"
    _check_wire3(options, form, interop is not None)
    from cachekit._secrets import keyring_for
    from cachekit._wire3._function import Wire3Function

    tenant = config.tenant if options.tenant is None else options.tenant
    given = cache._backend if options.backend is UNSET else options.backend
    return Wire3Function(
        function=function,
        # As that package has it: also of the main program.
        name=options.name or f"{function.__module__}.{function.__qualname__}",
        wire=None if interop is not None else str(config.wire),
        namespace=options.namespace,
        tenant=tenant if isinstance(tenant, str) else None,
        prefixed=given is UNSET,
        keyring=keyring_for(options, config, wire=3),
        integrity=options.preset.name != "minimal",
        serializer=options.serializer
        if getattr(options.serializer, "name", "default") != "default"
        else None,
        key_of=options.key,
        interop=interop,
    )


def _check_wire3(options: FunctionOptions, form: str, interop: bool) -> None:
    for name in _NOT_IN_WIRE3:
        if getattr(options, name):
            raise ConfigurationError(
                f"{name}= cannot be had with {form}: those entries have no place for it"
            )
    if options.coherence == "tracking":
        raise ConfigurationError(
            f'coherence="tracking" cannot be had with {form}: memory cannot tell the '
            "keys of those entries"
        )
    serializer = options.serializer
    name = getattr(serializer, "name", "default")
    if name == "pickle" or (interop and name != "default"):
        raise ConfigurationError(
            f"entries with {form} cannot be written by {type(serializer).__name__}",
            hint="interop entries are plain MessagePack; version 3 has its own default "
            "serializer, orjson, arrow, and custom ones",
        )


def _check_tags(options: FunctionOptions, store: SharedStore | None) -> None:
    if not options.tags:
        return
    if options.full_key is not None:
        raise ConfigurationError(
            "tags= and full_key= cannot be combined: whoever reads the name by "
            "cache.get() does not know its tags",
            hint="Use key= in place of full_key=, or invalidate the name itself",
        )
    if store is not None and not store.versioned:
        raise ConfigurationError(
            f"tags= needs a store with version keys; {store.address} has none",
            hint="Use Redis, backend=None, or a backend with the full protocol",
        )


def _check_size(
    options: FunctionOptions, config: CacheConfig, store: SharedStore | None
) -> None:
    """A value that the transports refuse to read must not be written either."""
    if store is None or options.max_value_size <= config.max_value_size:
        return
    raise ConfigurationError(
        f"max_value_size={options.max_value_size} of a function is more than the "
        f"{config.max_value_size} bytes that its store is read with",
        hint="Raise max_value_size in CacheConfig, or CACHEKIT_MAX_VALUE_SIZE",
    )


#: What an annotation may be without saying more than the value itself does.
_PLAIN = frozenset(
    ("None", "bool", "int", "float", "complex", "str", "bytes", "object", "Any")
    + ("list", "tuple", "dict", "set", "frozenset")
)


def _returns(function: Any, given: Any) -> Any:
    """The type that values are read back into: ``returns=``, else the annotation where
    it says more than a value does; None where neither does."""
    if isinstance(given, tuple):
        import typing

        return typing.Union[given]  # noqa: UP007
    if given is not None:
        return given
    annotation = getattr(function, "__annotations__", {}).get("return")
    if annotation is None:
        return None
    if not hasattr(annotation, "__args__"):
        if getattr(annotation, "__name__", annotation) in _PLAIN:
            return None
        if isinstance(annotation, type):
            return annotation
    import typing

    try:
        return typing.get_type_hints(function).get("return")
    except Exception:
        # A name that exists for the type checker only, or not any more.
        return None


def _tokens() -> Any:
    from cachekit._tokens import Tokens

    return Tokens()


def _tell_not_shared(identity: Identity) -> None:
    default_log().once(
        ("not_shared", identity.name),
        "warning",
        "%s is kept in memory only, because %s; give it name= to share its entries",
        identity.name,
        identity.reason,
        event="not_shared",
        function=identity.name,
    )
