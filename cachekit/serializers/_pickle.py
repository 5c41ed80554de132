# SPDX-License-Identifier: MIT
"""Pickle, for those who ask for it by name."""

from __future__ import annotations

import pickle

from cachekit._checks import held
from cachekit._errors import DecodeError, SerializationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["PickleSerializer"]

# Every interpreter that is supported reads it.
_PROTOCOL = 5


class PickleSerializer:
    """Any value that ``pickle`` takes.

    Whoever can write to the store can run code in a process that unpickles from it. So
    a function with a shared store is refused this serializer unless it is given
    ``allow_unsigned=True``, which says that only trusted programs reach the store.
    Entries in memory alone need none. An entry is unpickled only by a function that
    itself names this serializer.

    ``allow_unsigned``  accept entries of the store that carry no signature

    >>> serializer = PickleSerializer()
    >>> serializer.deserialize(serializer.serialize({1, 2}))
    {1, 2}
    """

    __slots__ = ("_allow_unsigned",)

    def __init__(self, *, allow_unsigned: bool = False) -> None:
        if not isinstance(allow_unsigned, bool):
            raise TypeError(
                f"allow_unsigned must be true or false, not {held(allow_unsigned)}"
            )
        self._allow_unsigned = allow_unsigned

    @property
    def name(self) -> str:
        """Stored with each entry: ``pickle``."""
        return "pickle"

    @property
    def allow_unsigned(self) -> bool:
        """Whether entries without a signature are read from a store."""
        return self._allow_unsigned

    @property
    def requires_signing(self) -> bool:
        """Whether a shared store needs a signature to go with it."""
        return not self._allow_unsigned

    def serialize(self, value: Any, /) -> bytes:
        """The pickle of ``value``; raises ``SerializationError`` when there is none."""
        try:
            return pickle.dumps(value, protocol=_PROTOCOL)
        except Exception as error:
            # No chain: what pickle says may quote the value.
            refused = SerializationError(
                f"Could not serialize object of type {type(value).__qualname__}",
                hint=f"pickle raised {type(error).__qualname__}",
            )
            refused.type_name = type(value).__qualname__
            raise refused from None

    def deserialize(self, data: bytes | bytearray | memoryview, /) -> Any:
        """The value of ``data``; raises ``DecodeError`` when it is no pickle."""
        try:
            return pickle.loads(data)
        except Exception as error:
            raise DecodeError(
                "stored bytes are not a pickle that this program can read",
                hint=f"pickle raised {type(error).__qualname__}",
            ) from None

    def __repr__(self) -> str:
        if self._allow_unsigned:
            return "PickleSerializer(allow_unsigned=True)"
        return "PickleSerializer()"
