# SPDX-License-Identifier: MIT
"""What processes tell each other over the channel of a namespace.

::

    "CKI" 0x01   mark and version
    8 bytes      origin: who says it, one process and store
    1 byte       kind
    body         "k": 16 bytes of a function's id, then canonical key bytes: one entry
                 "d": the same with the 32 bytes that name the entry in the store
                 "v": the name of a version key: a function, a namespace or a tag
                 "w": a store key: those who wait for its lock may look again

Anybody who reaches the server can write to the channel: ``parse`` takes any bytes.
"""

from __future__ import annotations

from collections import namedtuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NamedTuple

__all__ = [
    "DIGEST",
    "ENTRY",
    "VERSION",
    "WAKE",
    "Message",
    "channel_of",
    "entry_message",
    "parse",
    "version_message",
    "wake_message",
]

ENTRY, DIGEST, VERSION, WAKE = b"k", b"d", b"v", b"w"
ORIGIN_SIZE = 8
FUNCTION_ID_SIZE = 16
#: Bytes of the longest key and the longest name.
MAX_BODY = 1024

_MARK = b"CKI\x01"
_KIND_AT = len(_MARK) + ORIGIN_SIZE
_BODY_AT = _KIND_AT + 1
_KEY_AT = _BODY_AT + FUNCTION_ID_SIZE
#: Of more than this nothing is looked at.
_MAX_MESSAGE = _KEY_AT + MAX_BODY

if TYPE_CHECKING:

    class Message(NamedTuple):
        """A message that has been checked."""

        kind: bytes
        origin: bytes
        function_id: bytes
        body: bytes

else:
    Message = namedtuple("Message", ("kind", "origin", "function_id", "body"))
    Message.__doc__ = """A message that has been checked.

    ``kind``         ENTRY, DIGEST, VERSION or WAKE
    ``origin``       8 bytes
    ``function_id``  16 bytes of an ENTRY or DIGEST, else empty
    ``body``         key bytes of those two; else a name: valid UTF-8, not empty
    """


def channel_of(namespace: str | None) -> str:
    """The channel on which a namespace's invalidations are published.

    >>> channel_of("shop")
    'shop:invalidate'
    """
    return f"{namespace or 'cachekit'}:invalidate"


def entry_message(
    origin: bytes, function_id: bytes, key: bytes, kind: bytes = ENTRY
) -> bytes:
    """One entry of the functions of that id is gone.

    ``key``   its key in memory, at most 1024 bytes
    ``kind``  DIGEST where that is the digest that names it in the store

    Raises ValueError for parts of another size.
    """
    if len(function_id) != FUNCTION_ID_SIZE:
        raise ValueError("a function id has 16 bytes")
    return _message(origin, kind, function_id, key)


def version_message(origin: bytes, name: str) -> bytes:
    """The version key ``name`` is gone, and with it all entries that carry it."""
    return _message(origin, VERSION, b"", _name(name))


def wake_message(origin: bytes, store_key: str) -> bytes:
    """The lock of ``store_key`` is free; the entry may be there."""
    return _message(origin, WAKE, b"", _name(store_key))


def _message(origin: bytes, kind: bytes, function_id: bytes, body: bytes) -> bytes:
    if len(origin) != ORIGIN_SIZE:
        raise ValueError("an origin has 8 bytes")
    if len(body) > MAX_BODY:
        raise ValueError(f"a message holds at most {MAX_BODY} bytes")
    return b"".join((_MARK, origin, kind, function_id, body))


def _name(name: str) -> bytes:
    if not name:
        raise ValueError("a message needs a name")
    return name.encode("utf-8")


def parse(data: bytes) -> Message | None:
    """The message in ``data``, which may be anything; None when it is none of ours."""
    if not _BODY_AT < len(data) <= _MAX_MESSAGE or data[: len(_MARK)] != _MARK:
        return None
    origin = bytes(data[len(_MARK) : _KIND_AT])
    kind = bytes(data[_KIND_AT:_BODY_AT])
    if kind in (ENTRY, DIGEST):
        if len(data) < _KEY_AT or (kind == DIGEST and len(data) != _KEY_AT + 32):
            return None
        return Message(
            kind, origin, bytes(data[_BODY_AT:_KEY_AT]), bytes(data[_KEY_AT:])
        )
    if kind not in (VERSION, WAKE):
        return None
    name = bytes(data[_BODY_AT:])
    if len(name) > MAX_BODY or not _is_text(name):
        return None
    return Message(kind, origin, b"", name)


def _is_text(name: bytes) -> bool:
    if name.isascii():
        return True
    try:
        name.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
