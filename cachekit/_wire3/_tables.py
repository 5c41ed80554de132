# SPDX-License-Identifier: MIT
"""Data frames in version 3 entries: files of Arrow IPC, read as pandas data frames."""

from __future__ import annotations

import sys
from importlib import import_module

from cachekit._errors import DecodeError, SerializationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["is_frame", "is_series", "read", "write"]


def is_frame(value: object) -> bool:
    """Is it a pandas data frame?"""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(value, pandas.DataFrame)


def is_series(value: object) -> bool:
    """Is it a pandas series?"""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(value, pandas.Series)


def write(value: Any) -> bytes:
    """The file of a data frame, an Arrow table or a dict of columns."""
    try:
        pyarrow: Any = import_module("pyarrow")
    except ImportError:
        raise SerializationError(
            "entries of the serializer arrow are written with the package pyarrow",
            hint="Install it with pip install 'cachekit[arrow]'",
        ) from None
    kind = type(value).__qualname__
    try:
        if isinstance(value, pyarrow.Table):
            table = value
        elif is_frame(value):
            table = pyarrow.Table.from_pandas(value)
        elif isinstance(value, dict):
            table = pyarrow.table(value)
        else:
            raise SerializationError(f"Could not serialize object of type {kind}")
        sink = pyarrow.BufferOutputStream()
        with pyarrow.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
    except (pyarrow.ArrowException, TypeError, ValueError) as error:
        if isinstance(error, SerializationError):
            raise
        raise SerializationError(f"Could not serialize object of type {kind}") from None
    data: bytes = sink.getvalue().to_pybytes()
    return data


def read(raw: bytes) -> Any:
    """The data frame of a file."""
    try:
        import_module("pandas")  # to_pandas needs it, and says so less well
        pyarrow: Any = import_module("pyarrow")
    except ImportError as error:
        raise DecodeError(
            f"entries with data frames are read with the package {error.name}",
            hint="Install pyarrow and pandas",
        ) from None
    try:
        with pyarrow.ipc.open_file(pyarrow.BufferReader(raw)) as reader:
            table = reader.read_all()
        table.validate(full=True)
        return table.to_pandas()
    except Exception:
        raise DecodeError("The stored bytes are not a file of Arrow") from None
