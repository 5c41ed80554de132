# SPDX-License-Identifier: MIT
"""The keys of version 3 entries.

    [t:{tenant}:][ns:{namespace}:]func:{module.qualname}:args:{64 digits}:{1|0}{code}
    [t:{tenant}:][{id}-]{namespace or default}:{what a key= function gave}

The first of the names of a call is the one to write under; the others are where
releases with other habits have left entries that may still be read.
"""

from __future__ import annotations

import re
from functools import lru_cache
from hashlib import blake2b
from importlib import import_module
from typing import NamedTuple
from urllib.parse import quote

from cachekit._errors import ConfigurationError
from cachekit._wire3._arguments import argument_digits, uncacheable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from cachekit._wire3._dialect import Dialect

__all__ = [
    "MAX_PREFIX",
    "Name",
    "call_names",
    "custom_names",
    "function_id",
    "function_start",
    "serializer_code",
    "tenant_start",
]

MAX_KEY = 250
#: What a longer key keeps of its beginning.
MAX_PREFIX = 50
_MAX_FUNCTION = 200
_CODES = {
    "default": "s",
    "std": "s",
    "standard": "s",
    "auto": "a",
    "pythonic": "a",
    "orjson": "o",
    "arrow": "w",
}
_SPACE = str.maketrans(" \r\n", "___")


class Name(NamedTuple):
    """A key: as it is stored, and without the tenant that may stand before it."""

    stored: str
    bare: str

    def bound(self, dialect: Dialect) -> str:
        """What a writer of the dialect binds an encrypted entry to."""
        return self.stored if dialect.bound_whole else self.bare


def serializer_code(serializer: object) -> str:
    """The end of a key: of a serializer known by name, or of an instance.

    >>> serializer_code("orjson")
    'o'
    """
    if isinstance(serializer, str):
        code = _CODES.get(serializer)
        if code is None:
            raise ConfigurationError(
                f"version 3 entries know no serializer {serializer!r}",
                hint=f"Known are {', '.join(_CODES)}; or give an instance",
            )
        return code
    name = f"<custom>:{type(serializer).__name__}"
    return "x" + blake2b(name.encode(), digest_size=2).hexdigest()


def function_id(function: str) -> str:
    """16 hex digits of BLAKE3 for ``module.qualname``, which stays as it is."""
    try:
        blake3 = import_module("blake3").blake3
    except ImportError:
        raise ConfigurationError(
            "key= with CACHEKIT_WIRE=3 needs the package blake3",
            hint="Install it with pip install 'cachekit[wire3]'",
        ) from None
    digest: str = blake3(function.encode()).hexdigest(8)
    return digest


def call_names(
    function: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    *,
    dialect: Dialect,
    code: str = "s",
    integrity: bool = True,
    namespace: str | None = None,
    tenant: str | None = None,
) -> tuple[Name, ...]:
    """The names of a call, the one to write under first.

    ``function`` is ``module.qualname``; ``tenant`` is given when keys carry one, as
    they do where the store was found by its URL in the environment. Raises
    ``UncacheableArgument``.
    """
    digits = argument_digits(args, kwargs)
    start = f"{function_start(function, namespace)}{digits}:{int(integrity)}"
    codes = ("s",) if code == "s" else (code, "s") if dialect.codes else ("s", code)
    return _names((_cut(start + end) for end in codes), tenant)


def custom_names(
    function: str,
    key: object,
    *,
    dialect: Dialect,
    namespace: str | None = None,
    tenant: str | None = None,
) -> tuple[Name, ...]:
    """The names of a call whose ``key=`` function gave ``key``, which is not changed.

    Raises ``ConfigurationError`` without the package ``blake3``, whatever the dialect:
    an entry may be under any of the names.
    """
    if not isinstance(key, str):
        raise uncacheable("with CACHEKIT_WIRE=3, key= must give a str")
    plain = f"{namespace or 'default'}:{key}"
    marked = f"{function_id(function)}-{plain}"
    return _names((marked, plain) if dialect.function_id else (plain, marked), tenant)


@lru_cache(1024)
def function_start(function: str, namespace: str | None) -> str:
    """What stands before the digits."""
    space = f"ns:{namespace}:" if namespace else ""
    return f"{space}func:{_clean(function)}:args:".translate(_SPACE)


def _clean(function: str) -> str:
    name = re.sub(r"\.+", ".", re.sub(r"[^A-Za-z0-9_.]", "_", function))
    return name[:_MAX_FUNCTION]


def _cut(key: str) -> str:
    if len(key) <= MAX_KEY:
        return key
    return (
        f"{key[:MAX_PREFIX]}:{blake2b(key.encode(), digest_size=32).hexdigest()[:32]}"
    )


@lru_cache(1024)
def tenant_start(tenant: str | None) -> str:
    """What stands before the key of a tenant; None: nothing.

    >>> tenant_start("default")
    't:default:'
    """
    return "" if tenant is None else f"t:{quote(tenant, safe='')}:"


def _names(keys: Any, tenant: str | None) -> tuple[Name, ...]:
    prefix = tenant_start(tenant)
    return tuple(Name(prefix + key, key) for key in dict.fromkeys(keys))
