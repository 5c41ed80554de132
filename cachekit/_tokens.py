# SPDX-License-Identifier: MIT
"""Numbers that stand for objects in the keys of ``@cache.local``.

An object whose class defines both ``__eq__`` and ``__hash__`` shares its number with
those of the same class that equal it, as keys of a dict do; any other has a number of
its own. A number is never given to a second object, so an entry whose object is gone
can only be missed, never be taken for another's.

An object that is told by identity is held by a weak reference where its class allows
one, and its number ends with it. All others are kept alive, the ``MAX_KEPT`` used last
at least: dropping one costs its entries a miss.

Classes may define ``__eq__`` and ``__hash__`` in Python, and these may come back here
or let other threads in: no lock is held, every step is one operation of a dict.
"""

from __future__ import annotations

from itertools import count
from weakref import ref

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Hashable

__all__ = ["MAX_KEPT", "Tokens"]

#: Objects that one function keeps alive: at least these many, at most twice as many.
MAX_KEPT = 8192

_numbers = count(1)


class _Reference(ref):  # type: ignore[type-arg]
    """A weak reference that knows under which id its object was filed."""

    __slots__ = ("filed", "number")

    filed: int
    number: int


class _Kept:
    """Key -> (object, number), without what was not asked for in a long while.

    Two generations: what is found in the old one moves to the young one, and a full
    young one takes the place of the old.
    """

    __slots__ = ("_old", "_young")

    def __init__(self) -> None:
        self._young: dict[Hashable, tuple[object, int]] = {}
        self._old: dict[Hashable, tuple[object, int]] = {}

    def number(self, key: Hashable, obj: object) -> int:
        found = self._young.get(key)
        if found is None:
            found = self._old.get(key) or (obj, next(_numbers))
            if len(self._young) >= MAX_KEPT:
                self._old, self._young = self._young, {}
            found = self._young.setdefault(key, found)
        return found[1]

    def clear(self) -> None:
        self._young, self._old = {}, {}


class Tokens:
    """The numbers of one function's arguments: ``tokens(obj)`` is an int."""

    def __init__(self) -> None:
        self._equal = _Kept()
        self._same = _Kept()
        self._weak: dict[int, _Reference] = {}

    def __call__(self, obj: object) -> int:
        kind = type(obj)
        if kind.__eq__ is not object.__eq__ and kind.__hash__ is not object.__hash__:
            try:
                return self._equal.number((kind, obj), obj)
            except Exception:  # no hash after all, or == is no comparison
                pass
        reference = self._weak.get(id(obj))
        if reference is not None and reference() is obj:
            return reference.number
        try:
            return self._refer(obj)
        except TypeError:
            return self._same.number(id(obj), obj)

    def _refer(self, obj: object) -> int:
        reference = _Reference(obj, self._dropped)
        reference.filed = id(obj)
        reference.number = next(_numbers)
        # Two threads may come here with one object: the first number stands.
        filed = self._weak.setdefault(reference.filed, reference)
        if filed() is not obj:  # a dead one whose callback is yet to come
            self._weak[reference.filed] = filed = reference
        return filed.number

    def _dropped(self, reference: _Reference) -> None:
        if self._weak.get(reference.filed) is reference:
            del self._weak[reference.filed]

    def forget_all(self) -> None:
        """Let go of every object. Each has a new number from here on."""
        self._equal.clear()
        self._same.clear()
        self._weak = {}
