# SPDX-License-Identifier: MIT
"""pandas in Arrow.

pyarrow and pandas know how to take each other's columns. The labels of columns and
index, their names and the attributes, which Arrow would turn into text, go into the
note. Before anything is stored, what would come back is made and compared.
"""

from __future__ import annotations

from importlib import import_module

from cachekit.serializers._parts import refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["make", "take"]


def take(pa: Any, value: Any) -> tuple[dict[str, Any], Any]:
    """The note and the table of a DataFrame, Series or Index."""
    pd: Any = import_module("pandas")
    note: dict[str, Any] = {"kind": "frame"}
    if type(value) is pd.Series:
        note = {"kind": "series", "name": value.name}
        frame = value.to_frame(name="0")
    elif isinstance(value, pd.Index):
        note = {"kind": "index"}
        frame = pd.DataFrame(index=value)
    elif type(value) is pd.DataFrame:
        frame = value.copy(deep=False)
    else:
        raise refusal(value, "of pandas, DataFrame, Series and Index are taken")
    _note_labels(pd, frame, note)
    if getattr(value, "attrs", None):
        note["attrs"] = value.attrs
    frame.attrs = {}
    frame.columns = pd.Index([str(i) for i in range(frame.shape[1])], dtype=object)
    frame.index = frame.index.set_names([None] * frame.index.nlevels)
    if frame.shape[1] == 0:
        note["rows"] = True
        frame["rows"] = False
    table = pa.Table.from_pandas(frame)
    if not _same(pd, value, make(table, note)):
        raise refusal(value, "a column, a label or its index would come back changed")
    return note, table


def _note_labels(pd: Any, frame: Any, note: dict[str, Any]) -> None:
    columns = frame.columns
    if note["kind"] == "frame":
        if type(columns) is pd.RangeIndex:
            note["range"] = [columns.start, columns.stop, columns.step]
        else:
            note["labels"] = list(columns)
        if type(columns) is pd.Index:
            note["dtype"] = str(columns.dtype)
        note["columns"] = list(columns.names)
        note["levels"] = type(columns) is pd.MultiIndex
    note["names"] = list(frame.index.names)
    freq = getattr(frame.index, "freqstr", None)
    if freq is not None and type(frame.index) is not pd.PeriodIndex:
        note["freq"] = freq
    objects = [i for i, d in enumerate(frame.dtypes) if _is_object(d)]
    note["objects"] = objects
    note["nan"] = [i for i in objects if _missing_are_nan(frame.iloc[:, i])]


def _is_object(dtype: Any) -> bool:
    return getattr(dtype, "hasobject", False) is True


def _missing_are_nan(column: Any) -> bool:
    missing = column[column.isna()]
    return len(missing) > 0 and all(type(item) is float for item in missing)


def make(table: Any, note: dict[str, Any]) -> Any:
    """What ``take`` was given, in memory of its own."""
    pd: Any = import_module("pandas")
    frame = table.to_pandas().copy()
    if note.get("rows"):
        del frame["rows"]
    for i in note["objects"]:
        column = frame.iloc[:, i].astype(object)
        if i in note["nan"]:
            column = column.where(column.notna(), float("nan"))
        frame.isetitem(i, column)
    frame.index.names = note["names"]
    if "freq" in note:
        frame.index.freq = note["freq"]
    if note["kind"] == "index":
        return frame.index
    if note["kind"] == "series":
        value = frame.iloc[:, 0]
        value.name = note["name"]
    else:
        value = frame
        value.columns = _labels(pd, note)
    value.attrs = note.get("attrs", {})
    return value


def _labels(pd: Any, note: dict[str, Any]) -> Any:
    if "range" in note:
        made = pd.RangeIndex(*note["range"])
    elif note["levels"]:
        made = pd.MultiIndex.from_tuples(note["labels"])
    else:
        made = pd.Index(note["labels"], dtype=note.get("dtype"))
    made.names = note["columns"]
    return made


# -- the comparison -------------------------------------------------------------------


def _same(pd: Any, one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, pd.Index):
        return _same_index(pd, one, other)
    if one.attrs != other.attrs or one.flags != other.flags:
        return False
    if not _same_index(pd, one.index, other.index):
        return False
    if isinstance(one, pd.Series):
        return _same_name(one.name, other.name) and _same_column(one, other)
    return _same_index(pd, one.columns, other.columns) and all(
        _same_column(one.iloc[:, i], other.iloc[:, i]) for i in range(one.shape[1])
    )


def _same_index(pd: Any, one: Any, other: Any) -> bool:
    if type(one) is not type(other) or len(one) != len(other):
        return False
    if not all(map(_same_name, one.names, other.names)):
        return False
    if isinstance(one, pd.MultiIndex):
        return all(
            _same_index(pd, one.get_level_values(i), other.get_level_values(i))
            for i in range(one.nlevels)
        )
    if getattr(one, "freq", None) != getattr(other, "freq", None):
        return False
    return _same_column(one, other)


def _same_column(one: Any, other: Any) -> bool:
    """Series or Index: dtype and values; in object columns the types of these too."""
    if one.dtype != other.dtype or not one.equals(other):
        return False
    return not _is_object(one.dtype) or all(map(_same_item, one, other))


def _same_item(one: Any, other: Any) -> bool:
    return type(one) is type(other) and bool(
        one == other or (one != one and other != other)
    )


def _same_name(one: Any, other: Any) -> bool:
    return type(one) is type(other) and bool(one == other)
