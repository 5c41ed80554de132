# SPDX-License-Identifier: MIT
"""Arrow's IPC streams: written without compression, read without a copy.

A stream from a store may hold anything. Its messages are looked through before they are
read: a compressed one could ask for a thousand times its size. Then Arrow validates the
data in full: it follows offsets and indices in the bytes without looking again.
"""

from __future__ import annotations

import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["read_stream", "stream_of"]

#: Items that cost no bytes (nulls): beyond these, each must stand for some.
_FREE = 1 << 22
#: How Arrow numbers the headers of its messages.
_DICTIONARY, _BATCH = 2, 3


def stream_of(pa: Any, head: bytes, data: Any) -> memoryview:
    """``head`` and the stream of a table or of one record batch."""
    sink = pa.BufferOutputStream()
    sink.write(head)
    options = pa.ipc.IpcWriteOptions(compression=None)
    with pa.ipc.new_stream(sink, data.schema, options=options) as writer:
        writer.write(data if data.num_rows else _empty_batch(pa, data))
    return memoryview(sink.getvalue())


def _empty_batch(pa: Any, data: Any) -> Any:
    """A batch of no rows: a table writes none, and dictionaries go with a batch."""
    if isinstance(data, pa.RecordBatch):
        return data
    columns = [
        column.chunk(0) if column.num_chunks else pa.array([], column.type)
        for column in data.columns
    ]
    return pa.RecordBatch.from_arrays(columns, schema=data.schema)


def read_stream(pa: Any, view: memoryview, one_batch: bool) -> Any:
    """The table of a stream, or its only batch; it keeps ``view``."""
    buffer = pa.py_buffer(view)
    _look_through(pa, buffer)
    with pa.ipc.open_stream(buffer) as reader:
        if one_batch:
            data = reader.read_next_batch()
            for _ in reader:
                raise ValueError("more than one batch")
        else:
            data = reader.read_all()
    data.validate()  # before that, not even the parts of an array may be looked at
    for column in data.columns:
        for array in column.chunks if hasattr(column, "chunks") else [column]:
            _check_lengths(pa, array, _FREE + 8 * len(view))
    if data.num_rows > _FREE + 8 * len(view):
        raise ValueError("more rows than its bytes can stand for")
    data.validate(full=True)
    return data


def _check_lengths(pa: Any, array: Any, most: int) -> None:
    """Raise where an array, or one inside it, is longer than its bytes can stand for:
    nulls take none, and a library that is handed them makes an object of each."""
    kinds, kind = pa.types, array.type
    if len(array) > most or kinds.is_run_end_encoded(kind):
        raise ValueError("longer than its bytes can stand for")
    inner: list[Any] = []
    if isinstance(array, pa.ExtensionArray):
        inner = [array.storage]
    elif kinds.is_dictionary(kind):
        inner = [array.dictionary]
    elif kinds.is_struct(kind) or kinds.is_union(kind):
        inner = [array.field(i) for i in range(kind.num_fields)]
    elif hasattr(array, "values"):
        inner = [array.values]
    for part in inner:
        _check_lengths(pa, part, most)


def _look_through(pa: Any, buffer: Any) -> None:
    """Raise for a stream with compressed messages."""
    for message in pa.ipc.MessageReader.open_stream(buffer):
        if _is_compressed(memoryview(message.metadata)):
            raise ValueError("compressed")


def _is_compressed(meta: memoryview) -> bool:
    """Does the flatbuffer of a message have a ``compression`` in its record batch?"""
    (root,) = struct.unpack_from("<I", meta, 0)
    kind_at = _field(meta, root, 1)
    header = _follow(meta, _field(meta, root, 2))
    kind = 0 if kind_at is None else meta[kind_at]
    if kind == _DICTIONARY and header is not None:
        header, kind = _follow(meta, _field(meta, header, 1)), _BATCH
    if kind != _BATCH or header is None:
        return False
    return _field(meta, header, 3) is not None


def _field(meta: memoryview, table: int, number: int) -> int | None:
    """Where field ``number`` of the table stands; None where it is left out."""
    (back,) = struct.unpack_from("<i", meta, table)
    vtable = table - back
    if vtable < 0:
        raise ValueError("no flatbuffer")
    (size,) = struct.unpack_from("<H", meta, vtable)
    if 4 + 2 * number + 2 > size:
        return None
    (offset,) = struct.unpack_from("<H", meta, vtable + 4 + 2 * number)
    return table + offset if offset else None


def _follow(meta: memoryview, at: int | None) -> int | None:
    if at is None:
        return None
    (offset,) = struct.unpack_from("<I", meta, at)
    return int(at + offset)
