# SPDX-License-Identifier: MIT
"""The cached functions of this process, by all that a message may name them with."""

from __future__ import annotations

import weakref
from _thread import RLock

from cachekit._versions import is_tag_key, tag_slot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from cachekit._core import CachedFunction

__all__ = ["Members"]


class _Member:
    """A function that is kept coherent. Immutable but for the function's end."""

    __slots__ = (
        *("channel", "computed_tags", "digests", "function", "function_id"),
        *("prefix", "place", "registry", "version_keys"),
    )

    def __init__(
        self,
        function: CachedFunction,
        forget: Callable[[Any], object],
        *,
        channel: str,
        version_keys: tuple[str, ...],
        function_id: bytes,
        prefix: bytes | None,
        computed_tags: bool,
        digests: bool,
        registry: tuple[str | None] | None = None,
    ) -> None:
        self.place = id(function)
        self.function = weakref.ref(function, forget)
        self.channel = channel
        self.version_keys = version_keys
        self.function_id = function_id
        self.prefix = prefix
        self.computed_tags = computed_tags
        self.digests = digests
        self.registry = registry


class Members:
    """Functions, held weakly, under names of several kinds:

    ``"version"``  a version key that all its entries depend on
    ``"entry"``    16 bytes, from the name of its own version key
    ``"digest"``   the same, where memory knows entries by what names them in the store
    ``"channel"``  of its namespace
    ``"prefix"``   of its store keys, where the server reports what is touched
    ``"tags"``     None: entries have tags of their own
    ``"foreign"``  None: the PyPI package may tell of their entries
    ``"registry"`` what it knows the function by; None: not known here

    Read without the lock: each look is one operation on one dict. Changed under the
    lock, in steps that a finalizer may come in between of.
    """

    def __init__(self) -> None:
        self._lock = RLock()
        self._gone: list[weakref.ref[Any]] = []
        self._all: dict[int, _Member] = {}
        self._by_reference: dict[int, _Member] = {}
        #: (what kind of name, the name) -> members by place
        self._index: dict[tuple[str, object], dict[int, _Member]] = {}

    def add(self, function: CachedFunction, **parts: Any) -> None:
        """Know ``function`` by ``parts`` (see `_Member`), and no longer by others."""
        member = _Member(function, self._gone.append, **parts)
        with self._lock:
            self._sweep()
            former = self._all.get(member.place)
            if former is not None:
                self._drop(former)
            self._all[member.place] = member
            self._by_reference[id(member.function)] = member
            for name in self._names(member):
                self._index.setdefault(name, {})[member.place] = member

    @staticmethod
    def _names(member: _Member) -> list[tuple[str, object]]:
        names: list[tuple[str, object]] = [
            ("version", name) for name in member.version_keys
        ]
        names += [
            ("digest" if member.digests else "entry", member.function_id),
            ("channel", member.channel),
        ]
        if member.registry is not None:
            names += [("foreign", None), ("registry", member.registry[0])]
        if member.computed_tags:
            names.append(("tags", None))
        if member.prefix is not None:
            names.append(("prefix", member.prefix))
        return names

    def _sweep(self) -> None:
        """Forget the functions that have ended."""
        while self._gone:
            gone = self._gone.pop()
            member = self._by_reference.get(id(gone))
            if member is not None:
                self._drop(member)

    def _drop(self, member: _Member) -> None:
        self._by_reference.pop(id(member.function), None)
        if self._all.get(member.place) is member:
            del self._all[member.place]
        for name in self._names(member):
            several = self._index.get(name, {})
            if several.get(member.place) is member:
                del several[member.place]
            if not several:
                self._index.pop(name, None)
                if several:  # somebody came in between
                    self._index.setdefault(name, {}).update(several)

    def all(self) -> list[CachedFunction]:
        """Those that live."""
        return _living(self._all)

    def by(self, kind: str, name: object) -> list[CachedFunction]:
        """Those of that name."""
        several = self._index.get((kind, name))
        return _living(several) if several else []

    def expire(self, name: str) -> None:
        """A version key is gone: so is, in memory, all that may carry it."""
        expired = self.by("version", name)
        for function in expired:
            function._expire()
        if is_tag_key(name):
            slot = tag_slot(name)
            for function in self.by("tags", None):
                if function not in expired:
                    function._expire_tag(slot, name)

    def __len__(self) -> int:
        return len(self.all())

    def after_fork(self) -> None:
        """In a forked child: whoever held the lock is not here any more."""
        self._lock = RLock()


def _living(members: dict[int, _Member]) -> list[CachedFunction]:
    found = (member.function() for member in list(members.values()))
    return [function for function in found if function is not None]
