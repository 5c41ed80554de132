# SPDX-License-Identifier: MIT
"""Which functions an invalidation of many entries concerns."""

from __future__ import annotations

from weakref import WeakSet

from cachekit._versions import is_tag_key, tag_slot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from cachekit._core import CachedFunction

__all__ = ["Index"]


class Index:
    """Functions by the version keys that their entries carry."""

    def __init__(self) -> None:
        self._by_name: dict[str, WeakSet[CachedFunction]] = {}
        self._computing: WeakSet[CachedFunction] = WeakSet()

    def add(
        self, function: CachedFunction, names: Iterable[str], computes_tags: bool
    ) -> None:
        """``names``  of its version keys, those of computed tags aside"""
        for name in names:
            self._by_name.setdefault(name, WeakSet()).add(function)
        if computes_tags:
            self._computing.add(function)

    def expire(self, name: str) -> None:
        """A version key is gone: so is, in memory, what carries it."""
        for function in list(self._by_name.get(name, ())):
            function._expire()
        if self._computing and is_tag_key(name):
            slot = tag_slot(name)
            for function in list(self._computing):
                function._expire_tag(slot, name)

    def expire_all(self) -> None:
        """Everything in memory, of all functions."""
        for functions in list(self._by_name.values()):
            for function in list(functions):
                function._expire()
