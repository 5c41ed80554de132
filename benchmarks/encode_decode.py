# SPDX-License-Identifier: MIT
"""P10: values to bytes and back, beside the fastest MessagePack packages.

Ours keeps what MessagePack has no types for (tuples, sets, dates, wide ints ...), has
limits on depth and count, and says where in a value the trouble is. The others are
given their ready encoder and decoder objects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import values
from harness import (
    Row,
    Settings,
    Times,
    best_of,
    compare,
    loop,
    race,
    rounds_of,
    skipped,
)
from rivals import Unavailable, rival

from cachekit._core import decode, encode

SLOWEST = "msgpack-python"
Pair = tuple[Callable[[Any], Any], Callable[[Any], Any]]


def measure(settings: Settings) -> Iterator[Row]:
    """P10."""
    pairs, missing = _pairs()
    for name, value in (
        ("a small dict", values.small()),
        ("a 10 KB document", values.document()),
        ("1,000 dicts", values.thousand_dicts()),
        ("a str of 1 MB", values.long_text()),
    ):
        yield from _one(name, value, pairs, settings)
    for package, why in missing.items():
        yield skipped("P10", "encode and decode", why, package)


def _pairs() -> tuple[dict[str, Pair], dict[str, str]]:
    """Who encodes and decodes here, and why the others do not."""
    pairs: dict[str, Pair] = {"ours": (encode, decode)}
    missing = {}
    for name, find in (
        ("msgspec", _msgspec),
        ("ormsgpack", _ormsgpack),
        (SLOWEST, _msgpack),
    ):
        try:
            pairs[name] = find()
        except Unavailable as why:
            missing[name] = str(why)
    return pairs, missing


def _msgspec() -> Pair:
    msgpack = rival("msgspec").msgpack
    return msgpack.Encoder().encode, msgpack.Decoder().decode


def _ormsgpack() -> Pair:
    ormsgpack = rival("ormsgpack")
    return ormsgpack.packb, ormsgpack.unpackb


def _msgpack() -> Pair:
    msgpack = rival("msgpack")
    return msgpack.packb, msgpack.unpackb


def _one(
    name: str, value: Any, pairs: dict[str, Pair], settings: Settings
) -> Iterator[Row]:
    for direction, verb in enumerate(("encode", "decode")):
        contestants = {"empty loop": loop("pass")}
        for package, pair in pairs.items():
            data = pair[0](value)
            assert pair[1](data) == value, package
            given = data if direction else value
            contestants[package] = loop("call(it)", call=pair[direction], it=given)
        ready = {
            package: rounds_of(timed, settings.seconds)
            for package, timed in contestants.items()
        }
        times = race(ready, settings.rounds)
        empty = times.pop("empty loop")
        net = {package: taken.less(empty) for package, taken in times.items()}
        yield from _rows(f"{verb} {name}", net)


def _rows(work: str, net: dict[str, Times]) -> Iterator[Row]:
    if SLOWEST in net:
        yield compare("P10", work, net["ours"], SLOWEST, net[SLOWEST], at_most=1.0)
    rivals = [package for package in net if package != "ours"]
    if rivals:
        best = best_of(net, rivals)
        yield compare(
            "P10", work, net["ours"], f"the fastest: {best}", net[best], at_most=1.2
        )
