# SPDX-License-Identifier: MIT
"""Data frames, tables and arrays as Arrow.

What ``ArrowSerializer`` writes::

    CKA 01 | length of the note (4, little-endian) | note | zeros to 16 | Arrow stream

The note is a value of the default serializer: a dict with ``kind`` and what Arrow has
no place for. The stream is in the IPC format of Arrow, not compressed. NumPy arrays and
None are in the note, without a stream.
"""

from __future__ import annotations

from importlib import import_module

from cachekit import _core
from cachekit._errors import (
    ConfigurationError,
    DecodeError,
    SerializationError,
)
from cachekit.serializers._arrow_stream import read_stream, stream_of
from cachekit.serializers._parts import load, missing, refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["ArrowSerializer"]

_MAGIC = b"CKA\x01"
_HEAD = 8
#: pyarrow before it unpickles what a stream asks it to.
_OLDEST = (15,)


class ArrowSerializer:
    """Data frames, tables and arrays, in the IPC format of Arrow.

    Takes pandas DataFrame, Series and Index; polars DataFrame and Series; Arrow Table,
    RecordBatch, Array and ChunkedArray; NumPy arrays and scalars; None. What comes back
    is of the same type, with the same dtypes, names and index. What Arrow would give
    back changed (lists in an object column, a subclass, a sparse column) raises
    ``SerializationError`` (E004); so does a polars LazyFrame, which holds no data.

    Arrow and polars read from the bytes of the entry, without a copy, and cannot be
    changed. pandas and NumPy get memory of their own, which the caller may change.

    Needs pyarrow: ``pip install 'cachekit[arrow]'``; ``ConfigurationError`` without it.
    """

    __slots__ = ()

    def __init__(self) -> None:
        if not _is_there("pyarrow"):
            raise missing("ArrowSerializer", "pyarrow", "arrow")

    @property
    def name(self) -> str:
        """Stored with each entry: ``arrow``."""
        return "arrow"

    def serialize(self, value: Any, /) -> bytes | memoryview:
        """The bytes of ``value``; raises ``SerializationError`` for another type, and
        for a value that would come back changed."""
        pa = _pyarrow()
        try:
            note, data = _take(pa, value)
            return _joined(pa, note, data)
        except (SerializationError, ConfigurationError):
            raise
        except BaseException as error:
            if not _is_failure(error):
                raise
            # No chain: what the libraries say may quote the value.
            why = f"writing it as Arrow raised {type(error).__qualname__}"
            raise refusal(value, why) from None

    def deserialize(self, data: bytes | bytearray | memoryview, /) -> Any:
        """The value of ``data``; raises ``DecodeError`` for anything but one value."""
        pa = _pyarrow()
        try:
            note, stream = _parted(memoryview(data))
            return _make(pa, note, stream)
        except ConfigurationError:
            raise
        except BaseException as error:
            if not _is_failure(error):
                raise
            raise DecodeError(
                "stored bytes are not Arrow data that this program can read",
                hint=f"{type(error).__qualname__} was raised",
            ) from None

    def __repr__(self) -> str:
        return "ArrowSerializer()"


def _is_there(library: str) -> bool:
    """Could it be imported? Importing it takes half a second: not now."""
    from importlib.util import find_spec

    try:
        return find_spec(library) is not None
    except (ImportError, ValueError):
        return False


def _is_failure(error: BaseException) -> bool:
    """A panic in polars is no Exception; the stack of the caller is sound all the same,
    and bytes that somebody wrote must not end a program."""
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


def _pyarrow() -> Any:
    pa = load("ArrowSerializer", "pyarrow", "arrow")
    load("ArrowSerializer", "pyarrow.ipc", "arrow")
    if tuple(int(part) for part in pa.__version__.split(".")[:1]) < _OLDEST:
        raise ConfigurationError(
            f"ArrowSerializer needs pyarrow {_OLDEST[0]} or newer, not "
            f"{pa.__version__}",
            hint="pip install -U 'cachekit[arrow]'",
        )
    return pa


# -- bytes ----------------------------------------------------------------------------


def _joined(pa: Any, note: dict[str, Any], data: Any) -> bytes | memoryview:
    packed = _core.encode(note)
    head = _MAGIC + len(packed).to_bytes(4, "little") + packed
    if data is None:
        return head
    head += bytes(-len(head) % 16)
    return stream_of(pa, head, data)


def _parted(view: memoryview) -> tuple[dict[str, Any], memoryview]:
    size = int.from_bytes(view[4:_HEAD], "little")
    if view[:4] != _MAGIC or size > len(view) - _HEAD:
        raise ValueError("not ours")
    end = _HEAD + size
    note = _core.decode(view[_HEAD:end])
    if type(note) is not dict:
        raise ValueError("not ours")
    return note, view[end + -end % 16 :]


# -- by library -----------------------------------------------------------------------


def _take(pa: Any, value: Any) -> tuple[dict[str, Any], Any]:
    """The note, and the table or batch that goes with it."""
    if value is None:
        return {"kind": "none"}, None
    library = type(value).__module__.partition(".")[0]
    if library == "numpy":
        return {"kind": "numpy", "value": _core.encode(value)}, None
    if library == "pandas":
        from cachekit.serializers._arrow_pandas import take

        return take(pa, value)
    if library == "polars":
        return _take_polars(value)
    if library == "pyarrow":
        return _take_arrow(pa, value)
    raise refusal(
        value,
        "ArrowSerializer takes data frames, series and arrays of pandas, polars, Arrow "
        "and NumPy. Leave other values to the default serializer",
    )


def _make(pa: Any, note: dict[str, Any], stream: memoryview) -> Any:
    kind = note["kind"]
    if kind == "none":
        return None
    if kind == "numpy":
        return _core.decode(note["value"])
    batch_only = kind in ("batch", "array")
    data = read_stream(pa, stream, batch_only)
    if kind in ("table", "batch"):
        return data
    if kind in ("array", "chunked"):
        return data.column(0)
    if kind in ("frame", "series", "index"):
        from cachekit.serializers._arrow_pandas import make

        return make(data, note)
    return _make_polars(data, note)


def _take_arrow(pa: Any, value: Any) -> tuple[dict[str, Any], Any]:
    if type(value) is pa.Table:
        return {"kind": "table"}, value
    if type(value) is pa.RecordBatch:
        return {"kind": "batch"}, value
    if isinstance(value, pa.Array):
        return {"kind": "array"}, pa.record_batch([value], names=["0"])
    if type(value) is pa.ChunkedArray:
        return {"kind": "chunked"}, pa.table([value], names=["0"])
    raise refusal(value, "of Arrow, tables, record batches and arrays are taken")


def _take_polars(value: Any) -> tuple[dict[str, Any], Any]:
    pl: Any = import_module("polars")
    if type(value) is pl.LazyFrame:
        raise refusal(
            value, "a LazyFrame is a query and holds no data: return its collect()"
        )
    if type(value) not in (pl.DataFrame, pl.Series):
        raise refusal(value, "of polars, DataFrame and Series are taken")
    frame, note = value, {"kind": "polars"}
    if type(value) is pl.Series:
        note = {"kind": "polars series", "name": value.name}
        frame = value.to_frame("0")
    table = frame.to_arrow(compat_level=pl.CompatLevel.newest())
    if pl.from_arrow(table, rechunk=False).schema != frame.schema:
        raise refusal(value, "one of its columns would come back as another dtype")
    return note, table


def _make_polars(data: Any, note: dict[str, Any]) -> Any:
    pl: Any = import_module("polars")
    frame = pl.from_arrow(data, rechunk=False)
    if note["kind"] == "polars":
        return frame
    if note["kind"] == "polars series":
        return frame.to_series(0).rename(note["name"])
    raise ValueError("of another kind")
