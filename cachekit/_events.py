# SPDX-License-Identifier: MIT
"""What programs of the PyPI package tell each other when entries are gone.

One channel for all functions; a message is a MessagePack map ``{"r": what a function is
known by, "k": key}``, without ``k`` for all entries of the function. Anybody who
reaches the server can write to the channel: ``decode_event`` takes any bytes.
"""

from __future__ import annotations

from cachekit import _core
from cachekit._errors import DecodeError

__all__ = ["CHANNEL", "decode_event", "encode_event"]

CHANNEL = "cachekit:py:invalidate:v1"
#: Bytes of the longest message that is looked at, or sent.
MAX_EVENT = 1024


def encode_event(registry: str, key: str | None) -> bytes | None:
    """One entry of a function is gone, or (None) all.

    A key that is too long is left out; None where that does not help.
    """
    event = {"r": registry} if key is None else {"r": registry, "k": key}
    data = _core.wire3_pack(event)
    if len(data) <= MAX_EVENT:
        return data
    return None if key is None else encode_event(registry, None)


def decode_event(data: bytes) -> str | None:
    """What the function is known by; None when it is no such message.

    >>> decode_event(encode_event("ck:reg:users:00ff", "a key"))
    'ck:reg:users:00ff'
    """
    if not 0 < len(data) <= MAX_EVENT:
        return None
    try:
        event = _core.wire3_unpack(data)
    except DecodeError:
        return None
    registry = event.get("r") if isinstance(event, dict) else None
    return registry if isinstance(registry, str) else None
