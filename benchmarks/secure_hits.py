# SPDX-License-Identifier: MIT
"""P5: a hit in memory under ``@cache.secure``, where memory holds ciphertext only.

Beside what one would write by hand: ``cryptography`` decrypts with a ready object, and
msgpack unpacks. By hand there is no expiry, no key derivation and no check that the
entry belongs to this key.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import values
from harness import Row, Settings, compare, loop, race, rounds_of, skipped
from rivals import Unavailable, rival

from cachekit import Cache, NotBuiltYet

WORK = "memory hit, def, secure, 200 B dict"
BY_HAND = "cryptography AESGCM + msgpack"
MASTER_KEY = "5e" * 32


def secured(
    function: Callable[..., Any], backend: str | None = None
) -> Callable[..., Any]:
    """`function` under @cache.secure. Raises Unavailable while there is none."""
    try:
        return Cache(backend=backend).secure(master_key=MASTER_KEY)(function)
    except NotBuiltYet:
        raise Unavailable("not built yet") from None


def measure(settings: Settings) -> Iterator[Row]:
    """P5."""
    value = values.two_hundred_bytes()
    try:
        cached = secured(lambda number: value)
        by_hand, sealed = _by_hand(value)
    except Unavailable as why:
        yield skipped("P5", WORK, str(why), BY_HAND)
        return
    assert cached(7) == value and cached(7) is not value
    assert by_hand(sealed) == value
    contestants = {
        "ours": loop("call(7)", call=cached),
        BY_HAND: loop("call(sealed)", call=by_hand, sealed=sealed),
        "empty loop": loop("pass"),
    }
    ready = {
        name: rounds_of(timed, settings.seconds) for name, timed in contestants.items()
    }
    times = race(ready, settings.rounds)
    empty = times.pop("empty loop")
    net = {name: taken.less(empty) for name, taken in times.items()}
    yield compare("P5", WORK, net["ours"], BY_HAND, net[BY_HAND], at_most=0.4)


def _by_hand(value: Any) -> tuple[Callable[[bytes], Any], bytes]:
    msgpack = rival("msgpack")
    rival("cryptography")
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    aead, nonce = AESGCM(os.urandom(32)), os.urandom(12)
    decrypt, unpack = aead.decrypt, msgpack.unpackb

    def read(sealed: bytes) -> Any:
        return unpack(decrypt(sealed[:12], sealed[12:], b"users:get_user"))

    sealed = nonce + aead.encrypt(nonce, msgpack.packb(value), b"users:get_user")
    return read, sealed
