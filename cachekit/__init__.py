# SPDX-License-Identifier: MIT
"""Caching for functions: in memory, and in a shared store one round trip away.

>>> from cachekit import cache
>>> @cache(ttl=300, backend=None)
... def square(number: int) -> int:
...     return number * number
>>> square(3), square(3)
(9, 9)
"""

from __future__ import annotations

from cachekit._cache import Cache
from cachekit._config import CacheConfig
from cachekit._errors import (
    BackendAuthenticationError,
    BackendConnectionError,
    BackendError,
    BackendProtocolError,
    BackendReplyError,
    BackendTimeout,
    BackendUnavailable,
    CacheKitError,
    CacheMiss,
    ConfigurationError,
    DecodeError,
    DecryptionError,
    LoaderTimeout,
    NotBuiltYet,
    PoolTimeout,
    SerializationError,
    UncacheableArgument,
)
from cachekit._types import NEVER, CacheInfo, Entry, Invalidation, Strategy
from cachekit._version import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cachekit import aio as aio
    from cachekit import backends as backends
    from cachekit import core as core
    from cachekit import health as health
    from cachekit import serializers as serializers

__all__ = [
    "NEVER",
    "BackendAuthenticationError",
    "BackendConnectionError",
    "BackendError",
    "BackendProtocolError",
    "BackendReplyError",
    "BackendTimeout",
    "BackendUnavailable",
    "Cache",
    "CacheConfig",
    "CacheInfo",
    "CacheKitError",
    "CacheMiss",
    "ConfigurationError",
    "DecodeError",
    "DecryptionError",
    "Entry",
    "Invalidation",
    "LoaderTimeout",
    "NotBuiltYet",
    "PoolTimeout",
    "SerializationError",
    "Strategy",
    "UncacheableArgument",
    "__version__",
    "cache",
]

#: The default cache, configured by the environment when it is first used.
cache = Cache()


if not TYPE_CHECKING:

    def __getattr__(name):
        """``cachekit.aio`` and its like, imported when they are first used."""
        if name in ("aio", "backends", "core", "health", "serializers"):
            from importlib import import_module

            return import_module(f"cachekit.{name}")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
