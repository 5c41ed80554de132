# SPDX-License-Identifier: MIT
"""One decorated function whose entries in the store are version 3, or interop.

Everything is decided at the function's first use; what differs from call to call are
arguments and tenant. The rest of the package asks for names, bytes and values.
"""

from __future__ import annotations

from inspect import BoundArguments, Parameter, signature
from typing import NamedTuple

from cachekit._errors import CacheKitError, ConfigurationError
from cachekit._events import encode_event
from cachekit._secrets import DEFAULT_TENANT
from cachekit._wire3._dialect import dialect_of
from cachekit._wire3._entries import Bond, EntryForm, read_entry, write_entry
from cachekit._wire3._interop import (
    InteropName,
    interop_arguments,
    read_interop,
    write_interop,
)
from cachekit._wire3._keys import (
    MAX_PREFIX,
    Name,
    call_names,
    custom_names,
    function_id,
    function_start,
    serializer_code,
    tenant_start,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

__all__ = ["LISTED_SECONDS", "Listing", "Wire3Function"]

#: Seconds that the set of a function's keys is kept after a write.
LISTED_SECONDS = 7 * 24 * 3600


class Listing(NamedTuple):
    """The set of a function's keys, and where its entries are."""

    #: The key of the set.
    name: str
    #: What stands before each of its members in the store.
    prefix: str


class Wire3Function:
    """How the entries of one function are named, written and read.

    ``name``        ``module.qualname``
    ``wire``        ``3`` or ``3:`` and a release; None: interop alone
    ``tenant``      whose entries they are; None where each call says so
    ``prefixed``    the store was found by its configured URL: keys begin with a tenant
    ``keyring``     made with ``wire=3``; None: not encrypted
    ``integrity``   entries carry a check; keys say so, too
    ``serializer``  None: the default one
    ``key_of``      ``key=``
    ``interop``     the operation, in place of all that concerns names
    """

    def __init__(
        self,
        *,
        function: Callable[..., Any],
        name: str,
        wire: str | None,
        namespace: str | None,
        tenant: str | None,
        prefixed: bool,
        keyring: Any,
        integrity: bool,
        serializer: Any,
        key_of: Callable[..., Any] | None,
        interop: str | None,
    ) -> None:
        self._signature = signature(function)
        self._name = name
        self._namespace = namespace
        self._tenant = tenant
        self._prefixed = prefixed and interop is None
        self._keyring = keyring
        self._key_of = key_of
        self._interop: InteropName | None = None
        self._dialect = dialect_of(wire or "3")
        self._form = _form(serializer, integrity)
        self._code = "s" if serializer is None else _code(serializer)
        #: Entries that the core reads and writes by itself.
        self.plain = (
            keyring is None and interop is None and self._form.family == "default"
        )
        self.checked = integrity
        #: What others know the function by; None: they do not.
        self.registry: str | None = None
        self._tells = False
        if interop is not None:
            if namespace is None:
                raise ConfigurationError(
                    "interop= needs namespace=: both are part of the shared keys"
                )
            self._interop = InteropName(namespace, interop)
        if keyring is None and not self._prefixed and tenant != DEFAULT_TENANT:
            raise _no_tenant("interop=" if interop else "wire=3 and a given backend=")
        if interop is not None:
            return
        if key_of is not None:
            function_id(name)
        if self._prefixed and self._dialect.registry:
            self._tells = self._dialect.events
            self.registry = _registry(namespace, name)

    # -- names ------------------------------------------------------------------------

    def names(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], tenant: str
    ) -> tuple[Name, ...]:
        """The names of a call, the one to write under first."""
        if self._interop is not None:
            digits = interop_arguments(self._signature, args, kwargs)
            key = self._interop.key(digits)
            return (Name(key, key),)
        owner = self.owner(tenant)
        if self._key_of is not None:
            return custom_names(
                self._name,
                self._key_of(*args, **kwargs),
                dialect=self._dialect,
                namespace=self._namespace,
                tenant=owner,
            )
        return call_names(
            self._name,
            args,
            kwargs,
            dialect=self._dialect,
            code=self._code,
            integrity=self._form.integrity,
            namespace=self._namespace,
            tenant=owner,
        )

    def all_names(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], tenant: str
    ) -> tuple[Name, ...]:
        """Those of all ways to write the call: for these keys ``f(1)`` and ``f(n=1)``
        are two calls, for everybody else one."""
        found = dict.fromkeys(self.names(args, kwargs, tenant))
        if self._interop is None and self._key_of is None:
            for other_args, other_kwargs in self._forms(args, kwargs):
                found.update(
                    dict.fromkeys(self.names(other_args, other_kwargs, tenant))
                )
        return tuple(found)

    def _forms(
        self, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError:
            return []
        forms = [_positional(bound), _named(bound)]
        bound.apply_defaults()
        return [*forms, _positional(bound), _named(bound)]

    def owner(self, tenant: str) -> str | None:
        """The tenant that keys begin with; None: they do not.

        One that is the same for all calls and has entries of its own by encryption is
        no part of that package's keys.
        """
        if not self._prefixed:
            return None
        if self._keyring is not None and self._tenant is not None:
            return DEFAULT_TENANT
        return tenant

    # -- entries ----------------------------------------------------------------------

    def write(self, value: Any, name: Name, tenant: str) -> bytes:
        """The entry of a value. Raises ``SerializationError``."""
        bond = self._bond(name, tenant)
        if self._interop is not None:
            return write_interop(value, bond)
        return write_entry(value, self._form, bond)

    def read(self, data: bytes, name: Name, tenant: str) -> tuple[Any] | None:
        """``(value,)``, or None for an entry that is another one's. Raises
        ``DecodeError`` or ``DecryptionError``."""
        bond = self._bond(name, tenant)
        if self._interop is not None:
            return (read_interop(data, bond),)
        return read_entry(data, self._form, bond)

    def _bond(self, name: Name, tenant: str) -> Bond | None:
        if self._keyring is None:
            return None
        keys = dict.fromkeys((name.bound(self._dialect), name.stored, name.bare))
        return Bond(self._keyring, (tenant,), tuple(keys))

    # -- what others are told ---------------------------------------------------------

    def event(self, name: Name | None) -> bytes | None:
        """What is published when an entry is gone, or (None) all of them; None:
        nothing. Keys that a ``key=`` function made are not told apart."""
        if not self._tells or self.registry is None:
            return None
        one = name is not None and self._key_of is None
        return encode_event(self.registry, name.bare if one and name else None)

    def listing(self, tenant: str) -> Listing | None:
        """Where the keys of the function's entries are noted; None: nowhere."""
        owner = self.owner(tenant)
        if self.registry is None or owner is None:
            return None
        prefix = tenant_start(owner)
        return Listing(prefix + self.registry, prefix)

    def start(self, tenant: str) -> str:
        """What all keys of the function in the store begin with."""
        prefix = tenant_start(self.owner(tenant))
        if self._key_of is None:
            start = function_start(self._name, self._namespace)
        else:
            start = custom_names(
                self._name, "", dialect=self._dialect, namespace=self._namespace
            )[0].bare
        return prefix + start[:MAX_PREFIX]

    @property
    def hears(self) -> bool:
        """Programs of that package may tell of invalidations."""
        return self._prefixed


def _form(serializer: Any, integrity: bool) -> EntryForm:
    if serializer is None:
        return EntryForm("default", integrity)
    if serializer.name in ("orjson", "arrow"):
        return EntryForm(serializer.name, integrity)
    return EntryForm(type(serializer).__name__, integrity, serializer)


def _code(serializer: Any) -> str:
    known = serializer.name in ("orjson", "arrow")
    return serializer_code(serializer.name if known else serializer)


def _registry(namespace: str | None, name: str) -> str | None:
    try:
        return f"ck:reg:{namespace or ''}:{function_id(name)}"
    except CacheKitError:
        from cachekit._logging import default_log

        default_log().once(
            "wire3_registry",
            "warning",
            "without the package blake3 (the extra wire3) programs of the PyPI package "
            "do not hear of our invalidations, and invalidate_all() does not reach "
            "version 3 entries",
            event="wire3_registry",
        )
        return None


def _no_tenant(what: str) -> ConfigurationError:
    return ConfigurationError(
        f"the keys of {what} carry no tenant, so tenants would share entries",
        hint="Use a master key, which keeps them apart, or name the store by redis_url",
    )


def _positional(bound: BoundArguments) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return bound.args, bound.kwargs


def _named(bound: BoundArguments) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """As much by name as can be."""
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    variadic = any(
        parameter.kind is Parameter.VAR_POSITIONAL and bound.arguments.get(name)
        for name, parameter in bound.signature.parameters.items()
    )
    if variadic:
        return bound.args, bound.kwargs
    for name, value in bound.arguments.items():
        kind = bound.signature.parameters[name].kind
        if kind is Parameter.POSITIONAL_ONLY:
            args.append(value)
        elif kind is Parameter.VAR_KEYWORD:
            kwargs.update(value)
        elif kind is not Parameter.VAR_POSITIONAL:
            kwargs[name] = value
    return tuple(args), kwargs
