# SPDX-License-Identifier: MIT
"""P1 and P2: a hit in memory, of a ``def`` function, beside functools.lru_cache.

What misleads: one hot key keeps everything in the processor's nearest cache, so the
same is done over a thousand keys in turn. lru_cache keeps no time and its keyword path
builds a tuple for every call; ours checks a ttl and counts.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

from harness import Row, Settings, Times, best_of, compare, loop, race, rounds_of

from cachekit import Cache

ENTRIES = 10_000
KEYS = 1000
OURS = ("@cache", "@cache.local")


def decorated(function: Callable[..., Any]) -> dict[str, Callable[..., Any]]:
    """The function under each contestant."""
    cache = Cache(backend=None)
    return {
        "@cache": cache(function),
        "@cache.local": cache.local(function),
        "lru_cache": functools.lru_cache(ENTRIES)(function),
        "plain function": function,
    }


def by_number(number: int) -> int:
    return number


def by_name(name: str) -> str:
    return name


def one_key(
    function: Callable[..., Any], call: str, settings: Settings
) -> dict[str, Times]:
    """`call` of the decorated function, on one hot key."""
    contestants = {"empty loop": loop("pass")}
    for name, cached in decorated(function).items():
        contestants[name] = loop(call, call=cached)
    return _race(contestants, settings)


def many_keys(
    function: Callable[..., Any], keys: list[Any], settings: Settings
) -> dict[str, Times]:
    """Calls over `keys` in turn."""

    def over(statement: str, **names: Any) -> Callable[[int], float]:
        inner = f"for key in keys: {statement}"
        timed = loop(inner, keys=keys, **names)
        return lambda count: timed(-(-count // len(keys)))

    contestants = {"empty loop": over("pass")}
    for name, cached in decorated(function).items():
        contestants[name] = over("call(key)", call=cached)
    return _race(contestants, settings, at_least=len(keys))


def _race(
    contestants: dict[str, Any], settings: Settings, at_least: int = 1
) -> dict[str, Times]:
    ready = {
        name: _whole(timed, settings, at_least) for name, timed in contestants.items()
    }
    times = race(ready, settings.rounds)
    empty = times.pop("empty loop")
    return {name: taken.less(empty) for name, taken in times.items()}


def _whole(timed: Any, settings: Settings, at_least: int) -> Callable[[], float]:
    return rounds_of(timed, settings.seconds, at_least)


def rows(line: str, work: str, times: dict[str, Times], bound: float) -> Iterator[Row]:
    for name in OURS:
        yield compare(
            line,
            f"memory hit, def, {work}, {name}",
            times[name],
            "functools.lru_cache",
            times["lru_cache"],
            at_most=bound,
        )


def positional(settings: Settings) -> Iterator[Row]:
    """P1."""
    yield from rows("P1", "an int", one_key(by_number, "call(7)", settings), 0.9)
    yield from rows("P1", "a str", one_key(by_name, "call('amber')", settings), 0.9)
    numbers = list(range(1000, 1000 + KEYS))
    times = many_keys(by_number, numbers, settings)
    yield from rows("P1", f"{KEYS:,} ints in turn", times, 0.9)
    names = [f"user:{number}" for number in numbers]
    times = many_keys(by_name, names, settings)
    yield from rows("P1", f"{KEYS:,} strs in turn", times, 0.9)
    yield compare(
        "P1",
        "the plain function, called 1,000 times",
        times["plain function"],
        "the better of ours",
        times[best_of(times, OURS)],
    )


def keyword(settings: Settings) -> Iterator[Row]:
    """P2."""
    times = one_key(by_number, "call(number=7)", settings)
    yield from rows("P2", "a keyword", times, 0.4)
