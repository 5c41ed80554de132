# SPDX-License-Identifier: MIT
"""The default serializer: MessagePack that keeps every type."""

from __future__ import annotations

from cachekit import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["DEFAULT_SERIALIZER", "DefaultSerializer"]


class DefaultSerializer:
    """MessagePack with extension types; what goes in comes out, equal and of its type.

    Takes None, bool, int of any size, float, complex, str, bytes, bytearray, list,
    tuple, dict, set, frozenset, the containers of ``collections``, dates and times,
    UUID, Decimal, Fraction, IP addresses, paths, NumPy scalars and arrays. Anything
    else, subclasses of these included, raises ``SerializationError`` (E004).

    >>> serializer = DefaultSerializer()
    >>> serializer.deserialize(serializer.serialize({"point": (1, 2.0)}))
    {'point': (1, 2.0)}
    """

    __slots__ = ()

    @property
    def name(self) -> str:
        """Stored with each entry: ``default``."""
        return "default"

    def serialize(self, value: Any, /) -> bytes:
        """The bytes of ``value``; raises ``SerializationError`` with the path in it."""
        return _core.encode(value)

    def deserialize(self, data: bytes | bytearray | memoryview, /) -> Any:
        """The value of ``data``; raises ``DecodeError`` for anything but one value."""
        return _core.decode(data)

    def __repr__(self) -> str:
        return "DefaultSerializer()"


#: What a function uses unless it says otherwise.
DEFAULT_SERIALIZER = DefaultSerializer()
