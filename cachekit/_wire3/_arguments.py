# SPDX-License-Identifier: MIT
"""The digits that stand for the arguments of a call in keys of version 3.

They are BLAKE2b-256 of the MessagePack of ``[args, kwargs sorted by name]``, after each
value was made plain: a tuple a list, an enum member its value, a path, UUID, Decimal or
aware datetime its text, a small array of numbers its type, shape and digest. Arguments
are taken as they are given; nothing is bound to the signature.
"""

from __future__ import annotations

import sys
from enum import Enum
from hashlib import blake2b
from operator import index

from cachekit import _core
from cachekit._errors import SerializationError, UncacheableArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

__all__ = ["PLAIN", "argument_digits", "digits_of", "text_of", "uncacheable"]

#: The style of ``_core.wire3_pack`` for values that were made plain.
PLAIN = 2
#: Bytes of the largest array that is part of a key.
MAX_ARRAY = 100_000
#: Calls with this keyword are never cached by the releases that know it.
_BYPASS = "_bypass_cache"

_SCALARS = frozenset((type(None), bool, int, float, str, bytes))
_ARRAYS = {"int32": "i32", "int64": "i64", "float32": "f32", "float64": "f64"}


def argument_digits(args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """64 hex digits for the arguments of a call; raises ``UncacheableArgument``.

    >>> argument_digits((42,), {})[:16]
    '3870b2ea5735ae63'
    """
    if _BYPASS in kwargs:
        raise uncacheable(f"calls with {_BYPASS}= are not cached")
    named = {name: kwargs[name] for name in sorted(kwargs)}
    return digits_of([args, named], _plain)


def digits_of(value: Any, plain: Callable[[Any], Any]) -> str:
    """The digits of what ``plain`` makes of a value."""
    try:
        packed = _core.wire3_pack(plain(value), PLAIN)
    except SerializationError:
        raise uncacheable(
            "an int beyond 64 bits, or text with lone surrogates"
        ) from None
    except RecursionError:
        raise uncacheable("it is nested too deep, or holds itself") from None
    return blake2b(packed, digest_size=32).hexdigest()


def uncacheable(reason: str) -> UncacheableArgument:
    """The error for an argument; the caller may know which one it is."""
    return UncacheableArgument(reason)


def text_of(value: Any) -> str | None:
    """The text of a path, UUID or Decimal; None for anything else.

    No module is imported: where there is a value of a type, its module is there.
    """
    for module, name in (("pathlib", "PurePath"), ("uuid", "UUID")):
        kind = getattr(sys.modules.get(module), name, None)
        if kind is not None and isinstance(value, kind):
            return value.as_posix() if name == "PurePath" else str(value)
    decimal = sys.modules.get("decimal")
    if decimal is not None and isinstance(value, decimal.Decimal):
        return str(value)
    return None


def _plain(value: Any) -> Any:
    if type(value) is float:
        return value + 0.0 if value == 0 else value  # -0.0 is 0.0
    if type(value) in _SCALARS:
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return _plain_dict(value)
    if isinstance(value, Enum):
        return _plain(value.value)
    text = text_of(value)
    return text if text is not None else _plain_other(value)


def _plain_dict(value: dict[Any, Any]) -> dict[Any, Any]:
    if not _SCALARS.issuperset(map(type, value)):
        raise uncacheable("a dict whose keys are not plain values")
    try:
        keys = sorted(value)
    except TypeError:
        raise uncacheable("a dict whose keys have no order") from None
    return {key: _plain(value[key]) for key in keys}


def _plain_other(value: Any) -> Any:
    datetime = sys.modules.get("datetime")
    if datetime is not None and isinstance(value, datetime.datetime):
        if value.tzinfo is None:
            raise uncacheable("a datetime without a time zone")
        return value.isoformat()
    numpy = sys.modules.get("numpy")
    if numpy is not None and type(value) is numpy.ndarray:
        return _plain_array(value)
    raise uncacheable(f"keys of version 3 have no place for {type(value).__qualname__}")


def _plain_array(array: Any) -> list[Any]:
    code = _ARRAYS.get(array.dtype.name)
    if code is None or array.ndim != 1 or array.nbytes > MAX_ARRAY:
        raise uncacheable(
            "of arrays, only those with one dimension, of int32, int64, float32 or "
            f"float64 and of at most {MAX_ARRAY} bytes"
        )
    little = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
    digest = blake2b(little, digest_size=32).hexdigest()
    return ["__array_v1__", [index(n) for n in array.shape], code, digest]
