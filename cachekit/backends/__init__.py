# SPDX-License-Identifier: MIT
"""Shared stores.

A backend is any object with ``read``, ``write`` and ``delete``, as `Backend` says;
`RedisBackend` and `MemoryBackend` are two. ``backend=`` of the decorator and of `Cache`
takes one, or a URL.
"""

from __future__ import annotations

from cachekit._lazy import lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cachekit.backends._later import FileBackend, MemcachedBackend
    from cachekit.backends._memory import MemoryBackend
    from cachekit.backends._protocol import AsyncBackend, Backend
    from cachekit.backends._redis import RedisBackend

__all__ = [
    "AsyncBackend",
    "Backend",
    "FileBackend",
    "MemcachedBackend",
    "MemoryBackend",
    "RedisBackend",
]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "AsyncBackend": "cachekit.backends._protocol",
        "Backend": "cachekit.backends._protocol",
        "FileBackend": "cachekit.backends._later",
        "MemcachedBackend": "cachekit.backends._later",
        "MemoryBackend": "cachekit.backends._memory",
        "RedisBackend": "cachekit.backends._redis",
    },
)
