# SPDX-License-Identifier: MIT
"""What the serializer ``auto`` of version 3 entries writes.

MessagePack in which tuples, sets, UUIDs and arrays are maps with a mark, as
``{"__tuple__": true, "value": [...]}``; an array alone as its dtype, shape and bytes;
a pandas series as a map of its parts.
"""

from __future__ import annotations

import struct
import sys
from importlib import import_module
from math import prod

from cachekit import _core
from cachekit._errors import DecodeError, SerializationError
from cachekit._wire3._arguments import PLAIN
from cachekit._wire3._tables import is_series

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["read", "write"]

_MAGIC = b"NUMPY_RAW"
_MARKS = frozenset(
    ("__tuple__", "__set__", "__uuid__", "__ndarray__")
    + ("__datetime__", "__date__", "__time__")
)
#: Kinds of dtype whose bytes are data: bool, numbers, bytes, text, dates.
_KINDS = "biufcSUMm"
_MAX_DIMENSIONS = 32


def write(value: Any) -> tuple[str, bytes]:
    """What the value is (``msgpack``, ``numpy`` or ``series``), and its bytes."""
    numpy = sys.modules.get("numpy")
    if numpy is not None and type(value) is numpy.ndarray:
        return "numpy", _write_array(value)
    try:
        if is_series(value):
            return "series", _core.wire3_pack(_marked(_series(value)), PLAIN)
        return "msgpack", _core.wire3_pack(_marked(value), PLAIN)
    except RecursionError:
        raise SerializationError("The value is nested too deep") from None


def read(kind: str | None, raw: bytes) -> Any:
    """The value of what ``write`` gave; raises ``DecodeError``."""
    if kind == "numpy":
        return _read_array(raw)
    value = _core.wire3_unpack(raw, _revive)
    return _read_series(value) if kind == "series" else value


# ---- marks ---------------------------------------------------------------------------


def _refuse(value: Any, why: str) -> SerializationError:
    kind = type(value).__qualname__
    return SerializationError(f"Could not serialize object of type {kind}", hint=why)


def _marked(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float, str, bytes, bytearray)):
        return value
    if isinstance(value, tuple):
        return {"__tuple__": True, "value": [_marked(item) for item in value]}
    if isinstance(value, list):
        return [_marked(item) for item in value]
    if isinstance(value, dict):
        return _marked_dict(value)
    if isinstance(value, (set, frozenset)):
        items = [_marked(item) for item in value]
        return {
            "__set__": True,
            "value": items,
            "frozen": isinstance(value, frozenset),
        }
    return _marked_other(value)


def _marked_dict(value: dict[Any, Any]) -> dict[Any, Any]:
    if not all(isinstance(key, str) for key in value):
        raise _refuse(value, "Its keys are not all str")
    if not _MARKS.isdisjoint(value):
        raise _refuse(value, "It would come back as something else")
    return {key: _marked(item) for key, item in value.items()}


def _marked_other(value: Any) -> Any:
    modules = sys.modules
    if "datetime" in modules:
        datetime = modules["datetime"]
        for name in ("datetime", "date", "time"):
            if type(value) is getattr(datetime, name):
                return {f"__{name}__": True, "value": value.isoformat()}
    if "uuid" in modules and type(value) is modules["uuid"].UUID:
        return {"__uuid__": True, "value": str(value)}
    if "numpy" in modules and type(value) is modules["numpy"].ndarray:
        shape = list(value.shape)
        dtype = _dtype_text(value)
        data = value.tobytes()
        return {"__ndarray__": True, "data": data, "shape": shape, "dtype": dtype}
    raise _refuse(value, "Entries of the serializer auto cannot hold its type")


def _revive(found: dict[Any, Any]) -> Any:
    """What a map stands for; itself where it bears no mark."""
    if found.get("__tuple__") is True and len(found) == 2:
        return tuple(found["value"])
    if found.get("__set__") is True and len(found) == 3:
        return (frozenset if found["frozen"] else set)(found["value"])
    if found.get("__uuid__") is True and len(found) == 2:
        from uuid import UUID

        return UUID(found["value"])
    if found.get("__ndarray__") is True and len(found) == 4:
        return _array(found["dtype"], found["shape"], found["data"])
    return found


# ---- arrays --------------------------------------------------------------------------


def _dtype_text(array: Any) -> str:
    if array.dtype.kind not in _KINDS:
        raise _refuse(array, "Its dtype holds more than numbers, texts or dates")
    return str(array.dtype)


def _array(dtype: str, shape: Any, data: bytes) -> Any:
    """The array, in memory of its own. The three are hostile."""
    numpy: Any = import_module("numpy")
    kind = numpy.dtype(dtype)
    if kind.kind not in _KINDS or len(shape) > _MAX_DIMENSIONS:
        raise DecodeError("The stored bytes are not an array")
    if prod(shape) * kind.itemsize != len(data) or any(n < 0 for n in shape):
        raise DecodeError("The stored bytes are not an array")
    if not data:
        return numpy.empty(shape, kind)
    return numpy.frombuffer(data, kind).reshape(shape).copy()


def _write_array(array: Any) -> bytes:
    name = _dtype_text(array).encode()
    try:
        shape = struct.pack(f"<{array.ndim}I", *array.shape)
    except struct.error:
        raise _refuse(array, "A dimension is larger than 2^32 - 1") from None
    sizes = (struct.pack("<H", len(part)) + part for part in (name, shape))
    return b"".join((_MAGIC, *sizes, array.tobytes()))


def _read_array(raw: bytes) -> Any:
    def take(at: int) -> tuple[bytes, int]:
        (size,) = struct.unpack_from("<H", raw, at)
        if at + 2 + size > len(raw):
            raise ValueError("short")
        return raw[at + 2 : at + 2 + size], at + 2 + size

    try:
        if not raw.startswith(_MAGIC):
            raise ValueError("foreign")
        name, at = take(len(_MAGIC))
        sizes, at = take(at)
        shape = struct.unpack(f"<{len(sizes) // 4}I", sizes)
        return _array(name.decode(), shape, raw[at:])
    except ImportError:
        raise _no_library("numpy") from None
    except (ValueError, TypeError, SyntaxError, struct.error):
        raise DecodeError("The stored bytes are not an array") from None


def _no_library(name: str) -> DecodeError:
    return DecodeError(
        f"The entry is read with the package {name}", hint=f"Install {name}"
    )


# ---- series --------------------------------------------------------------------------


def _series(value: Any) -> dict[str, Any]:
    pandas = sys.modules["pandas"]
    index: list[Any] | None = list(value.index.tolist())
    if value.index.equals(pandas.RangeIndex(len(value))):
        index = None
    parts: dict[str, Any] = {"name": value.name, "index": index}
    if value.dtype.kind in "iuf" and hasattr(value.dtype, "str"):
        data = value.to_numpy()
        return {
            **parts,
            "type": "numeric",
            "data": data.tobytes(),
            "dtype": str(data.dtype),
        }
    items = [_scalar(item) for item in value.tolist()]
    return {**parts, "type": "object", "data": items}


def _scalar(item: Any) -> Any:
    """Nothing for what pandas takes for nothing; a timestamp as a datetime."""
    pandas = sys.modules["pandas"]
    if item is None or item is pandas.NaT or item is pandas.NA or item != item:
        return None
    return item.to_pydatetime() if isinstance(item, pandas.Timestamp) else item


def _read_series(parts: Any) -> Any:
    try:
        pandas: Any = import_module("pandas")
    except ImportError:
        raise _no_library("pandas") from None
    try:
        data = parts["data"]
        if parts["type"] == "numeric":
            size = import_module("numpy").dtype(parts["dtype"]).itemsize
            data = _array(parts["dtype"], [len(data) // size], data)
        return pandas.Series(data, index=parts["index"], name=parts["name"])
    except (ValueError, TypeError, KeyError, LookupError, ZeroDivisionError):
        raise DecodeError("The stored bytes are not a series") from None
