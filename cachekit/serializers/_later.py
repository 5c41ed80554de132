# SPDX-License-Identifier: MIT
"""Serializers that this version knows by name only: making one says so."""

from __future__ import annotations

from cachekit._errors import NotBuiltYet

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["ArrowSerializer", "OrjsonSerializer"]


class _Later:
    """Raises ``NotBuiltYet``, whatever it is given."""

    name = ""

    def __init__(self, *args: object, **kwargs: object) -> None:
        raise NotBuiltYet(
            type(self).__name__,
            hint="PickleSerializer(allow_unsigned=True) takes any object",
        )

    def serialize(self, value: Any, /) -> bytes:
        """Not reached: there is no instance."""
        raise NotBuiltYet(type(self).__name__)

    def deserialize(self, data: bytes | bytearray | memoryview, /) -> Any:
        """Not reached: there is no instance."""
        raise NotBuiltYet(type(self).__name__)


class ArrowSerializer(_Later):
    """Data frames and Arrow tables. Not part of this version."""

    name = "arrow"


class OrjsonSerializer(_Later):
    """Values as JSON. Not part of this version."""

    name = "orjson"
