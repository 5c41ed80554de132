# SPDX-License-Identifier: MIT
"""Small public types without behaviour: what cachekit's calls take and return.

Nothing here imports more than ``enum``: these names are needed at ``import cachekit``.
"""

from __future__ import annotations

from collections import namedtuple
from enum import Enum

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final, NamedTuple, NoReturn

__all__ = ["NEVER", "CacheInfo", "Entry", "Invalidation", "Never", "Strategy"]


class Never(Enum):
    """The type of ``NEVER``, for annotations: ``ttl: float | Never``."""

    NEVER = "never"

    def __repr__(self) -> str:
        return "cachekit.NEVER"

    __str__ = __repr__


#: A lifetime without end: ``@cache(ttl=cachekit.NEVER)``.
NEVER: Final = Never.NEVER


class Strategy(Enum):
    """How a call uses the cache.

    ===========  ============  ===================  ==================  ============
    strategy     reads         on a miss            on a store failure  writes back
    ===========  ============  ===================  ==================  ============
    FRESH        yes           raises CacheMiss     raises              no
    REFRESH      yes           calls the function   calls the function  yes
    INVALIDATE   deletes first calls the function   calls the function  yes
    BYPASS       no            calls the function   calls the function  yes
    ===========  ============  ===================  ==================  ============
    """

    FRESH = "fresh"
    REFRESH = "refresh"
    INVALIDATE = "invalidate"
    BYPASS = "bypass"

    @classmethod
    def parse(cls, strategy: Strategy | str) -> Strategy:
        """The member of that name, in any case; a member is returned as it is.

        Raises ValueError for another name and TypeError for another type.

        >>> Strategy.parse("Fresh") is Strategy.FRESH
        True
        """
        if isinstance(strategy, cls):
            return strategy
        if not isinstance(strategy, str):
            raise TypeError(
                f"strategy must be one of {cls._accepted()}, in any case, or a "
                f"cachekit.Strategy, not {type(strategy).__name__}"
            )
        try:
            return cls[strategy.upper()]
        except KeyError:
            raise ValueError(
                f"strategy must be one of {cls._accepted()}, in any case, or a "
                f"cachekit.Strategy, not {strategy!r}"
            ) from None

    @classmethod
    def _accepted(cls) -> str:
        return ", ".join(member.name for member in cls)


class Invalidation(Enum):
    """What became of an invalidation."""

    #: The store took it (or there is no store: this process's memory did).
    DELIVERED = "delivered"
    #: The store did not take it; it is kept and sent before the store is read again.
    QUEUED = "queued"


class Entry:
    """One cached result and what is known about it; immutable.

    ``value``          the value, as a call would return it
    ``tier``           where it was found: "memory" or "store"
    ``age``            seconds since the function returned it
    ``remaining_ttl``  seconds of the fresh period that are left, 0.0 when stale, None
                       when it has no end
    ``stale``          whether the fresh period is over
    ``stale_reason``   why it is stale, or None when it is fresh
    """

    __slots__ = ("age", "remaining_ttl", "stale", "stale_reason", "tier", "value")
    __match_args__ = (
        "value",
        "tier",
        "age",
        "remaining_ttl",
        "stale",
        "stale_reason",
    )

    if TYPE_CHECKING:
        value: Any
        tier: str
        age: float
        remaining_ttl: float | None
        stale: bool
        stale_reason: str | None

    def __init__(
        self,
        value: Any,
        tier: str,
        age: float,
        remaining_ttl: float | None,
        stale: bool = False,
        stale_reason: str | None = None,
    ) -> None:
        put = object.__setattr__
        put(self, "value", value)
        put(self, "tier", tier)
        put(self, "age", age)
        put(self, "remaining_ttl", remaining_ttl)
        put(self, "stale", stale)
        put(self, "stale_reason", stale_reason)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"Entry is immutable: cannot set {name!r}")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"Entry is immutable: cannot delete {name!r}")

    def _astuple(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in self.__match_args__)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Entry):
            return NotImplemented
        return self._astuple() == other._astuple()

    def __hash__(self) -> int:
        return hash(self._astuple())

    def __repr__(self) -> str:
        # The value may be a secret or a megabyte: only its type is shown.
        return (
            f"Entry(<{type(self.value).__name__}>, tier={self.tier!r}, "
            f"age={self.age!r}, remaining_ttl={self.remaining_ttl!r}, "
            f"stale={self.stale!r}, stale_reason={self.stale_reason!r})"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._astuple()


if TYPE_CHECKING:

    class CacheInfo(NamedTuple):
        """Counters of one function since it was decorated; ``cache_info()``."""

        hits: int
        misses: int
        maxsize: int | None
        currsize: int
        l1_hits: int
        l2_hits: int
        stale_hits: int
        errors: int
        coalesced: int
        evictions: int
        loads: int
        load_seconds: float
        bytes: int
        unencodable: int
        oversized: int

else:
    # typing.NamedTuple makes the same class and costs the import of typing.
    CacheInfo = namedtuple(
        "CacheInfo",
        "hits misses maxsize currsize l1_hits l2_hits stale_hits errors coalesced "
        "evictions loads load_seconds bytes unencodable oversized",
    )
    CacheInfo.__doc__ = (
        "Counters of one function since it was decorated; ``cache_info()``."
    )

# The public name of each is cachekit.X: that is what a repr and a pickle show.
Strategy.__module__ = Invalidation.__module__ = "cachekit"
Entry.__module__ = CacheInfo.__module__ = "cachekit"
