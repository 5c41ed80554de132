# SPDX-License-Identifier: MIT
"""Backends that this version knows by name only."""

from __future__ import annotations

from cachekit._errors import NotBuiltYet

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

__all__ = ["FileBackend", "MemcachedBackend"]


class _Later:
    def __new__(cls, *args: Any, **kwargs: Any) -> NoReturn:
        raise NotBuiltYet(cls.__name__)


class FileBackend(_Later):
    """The embedded store. Not part of this version: raises `NotBuiltYet`."""


class MemcachedBackend(_Later):
    """Memcached. Not part of this version: raises `NotBuiltYet`."""
