# SPDX-License-Identifier: MIT
"""P4: a hit in memory that returns a container, which each caller gets for itself.

Beside what else gives a fresh container: copy.deepcopy of the value, and decoding its
MessagePack bytes with the fastest decoders. lru_cache is no rival here: it hands out
the same object to everyone.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import values
from harness import Row, Settings, compare, loop, race, rounds_of, skipped
from rivals import Unavailable, rival

from cachekit import Cache


def measure(settings: Settings) -> Iterator[Row]:
    """P4."""
    yield from _one("a 10-key dict", values.ten_keys(), settings)
    yield from _one("a nested 10 KB document", values.document(), settings)


def _one(name: str, value: Any, settings: Settings) -> Iterator[Row]:
    cache = Cache(backend=None)

    @cache
    def get(number: int) -> Any:
        return value

    assert get(7) == value and get(7) is not get(7)
    contestants = {
        "ours": loop("call(7)", call=get),
        "deepcopy": loop("call(value)", call=copy.deepcopy, value=value),
        "empty loop": loop("pass"),
    }
    decoders, missing = _decoders(value)
    contestants |= decoders
    ready = {
        name: rounds_of(timed, settings.seconds) for name, timed in contestants.items()
    }
    times = race(ready, settings.rounds)
    empty = times.pop("empty loop")
    net = {name: taken.less(empty) for name, taken in times.items()}
    work = f"memory hit, def, returns {name}"
    yield compare("P4", work, net["ours"], "deepcopy", net["deepcopy"], at_most=0.05)
    for decoder in decoders:
        yield compare("P4", work, net["ours"], decoder, net[decoder], at_most=1.0)
    for decoder, why in missing.items():
        yield skipped("P4", work, why, decoder)


def _decoders(value: Any) -> tuple[dict[str, Any], dict[str, str]]:
    """The decoders that are here, and why the others are not."""
    found, missing = {}, {}
    try:
        msgpack = rival("msgspec").msgpack
        data = msgpack.encode(value)
        decode = msgpack.Decoder().decode
        assert decode(data) == value
        found["msgspec decode"] = loop("call(data)", call=decode, data=data)
    except Unavailable as why:
        missing["msgspec decode"] = str(why)
    try:
        ormsgpack = rival("ormsgpack")
        data = ormsgpack.packb(value)
        assert ormsgpack.unpackb(data) == value
        found["ormsgpack decode"] = loop(
            "call(data)", call=ormsgpack.unpackb, data=data
        )
    except Unavailable as why:
        missing["ormsgpack decode"] = str(why)
    return found, missing
