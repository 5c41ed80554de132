# SPDX-License-Identifier: MIT
"""Values as JSON, by orjson."""

from __future__ import annotations

from cachekit import _core
from cachekit._errors import DecodeError, SerializationError
from cachekit.serializers._parts import load, refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["OrjsonSerializer"]

_PLAIN = (str, int, float, bool, type(None))


class OrjsonSerializer:
    """JSON, for values that JSON keeps: other programs can read the payload.

    Takes None, bool, int from -2^63 to 2^64 - 1, finite float, str, and lists and dicts
    (with str keys) of these. What JSON would give back as something else (a tuple, a
    set, an int as a key, NaN, a date, any subclass) raises ``SerializationError``
    (E004) that names the place. Nothing is changed on the way.

    Needs orjson: ``pip install 'cachekit[orjson]'``; ``ConfigurationError`` without it.

    >>> serializer = OrjsonSerializer()
    >>> bytes(serializer.serialize({"a": [1, 2.5, None]}))
    b'{"a":[1,2.5,null]}'
    """

    __slots__ = ("_dumps", "_loads", "_options")

    def __init__(self) -> None:
        orjson = load("OrjsonSerializer", "orjson", "orjson")
        self._dumps = orjson.dumps
        self._loads = orjson.loads
        self._options = orjson.OPT_PASSTHROUGH_SUBCLASS

    @property
    def name(self) -> str:
        """Stored with each entry: ``orjson``."""
        return "orjson"

    def serialize(self, value: Any, /) -> bytes:
        """The JSON of ``value``; raises ``SerializationError`` with the path in it."""
        try:
            # The one refuses members of enums and what is no value at all; the other
            # refuses subclasses; what then is equal after a turn is what JSON keeps.
            # None of them walks in Python.
            _core.encode(value)
            data: bytes = self._dumps(value, option=self._options)
            if self._loads(data) == value:
                return data
        except (TypeError, ValueError, RecursionError):
            pass
        raise _judge(value)

    def deserialize(self, data: bytes | bytearray | memoryview, /) -> Any:
        """The value of ``data``; raises ``DecodeError`` when it is no JSON."""
        try:
            return self._loads(data)
        except ValueError:
            # No chain: what orjson says quotes the text.
            raise DecodeError("stored bytes are not JSON") from None

    def __repr__(self) -> str:
        return "OrjsonSerializer()"


def _judge(value: Any) -> SerializationError:
    """Why ``value`` is refused: the first thing in it that JSON does not keep."""
    todo = [(value, "$", 0)]
    while todo:
        item, path, depth = todo.pop()
        kind = type(item)
        why = _why_not(item)
        if why is not None:
            return refusal(item, why, path)
        if depth > 250:
            return refusal(item, "it is nested too deep for JSON", "$...")
        if kind is list:
            inside = [(e, f"{path}[{i}]", depth + 1) for i, e in enumerate(item)]
            todo.extend(reversed(inside))
        elif kind is dict:
            inside = []
            for key, element in item.items():
                if type(key) is not str or not _is_text(key):
                    return refusal(key, "JSON has only text as keys", f"{path}[...]")
                shown = f".{key}" if key.isidentifier() and len(key) <= 64 else "[...]"
                inside.append((element, f"{path}{shown}", depth + 1))
            todo.extend(reversed(inside))
    return refusal(value, "orjson would give it back changed", "$")


def _why_not(item: Any) -> str | None:
    kind = type(item)
    if kind is int and not -(2**63) <= item < 2**64:
        return "JSON readers keep whole numbers of 64 bits at most"
    if kind is float and (item != item or item in (float("inf"), -float("inf"))):
        return "JSON has no such number"
    if kind is str and not _is_text(item):
        return "it holds lone surrogates, which are not in Unicode text"
    if kind in (list, dict, *_PLAIN):
        return None
    return (
        "JSON would give it back as something else. Return None, bool, int, float, "
        "str, lists and dicts, or use the default serializer, which keeps it"
    )


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
