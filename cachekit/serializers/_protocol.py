# SPDX-License-Identifier: MIT
"""What an object needs in order to be a serializer."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

__all__ = ["Serializer"]


@runtime_checkable
class Serializer(Protocol):
    """Turns values into bytes and back.

    ``name``         1 to 64 characters; stored with each entry: an entry that another
                     serializer wrote is a miss
    ``serialize``    the value as bytes, bytearray or memoryview; raises when it cannot
    ``deserialize``  the value again, from a read-only view that is valid during the
                     call; the bytes may be damaged or hostile; raises when they are
                     not a value

    What it raises becomes a ``SerializationError`` or ``DecodeError``: a value that is
    returned uncached, an entry that is a miss.
    """

    @property
    def name(self) -> str:
        """What entries are marked with."""
        ...

    def serialize(self, value: Any, /) -> bytes | bytearray | memoryview:
        """The value as bytes."""
        ...

    def deserialize(self, data: memoryview, /) -> Any:
        """The value again."""
        ...
