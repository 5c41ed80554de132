"""Data frames, tables and arrays come back as what they were, or are refused."""

from __future__ import annotations

import datetime
import decimal
import random

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from absent import run_without

from cachekit import (
    Cache,
    CacheConfig,
    CacheMiss,
    DecodeError,
    SerializationError,
    _core,
)
from cachekit.backends import MemoryBackend
from cachekit.serializers import ArrowSerializer

# The allocators of these libraries and a sanitizer do not agree.
pytestmark = pytest.mark.no_sanitizer

serializer = ArrowSerializer()
DAY = datetime.datetime(2024, 5, 1, 12, tzinfo=datetime.timezone.utc)


def turn(value):
    """The value once to bytes and back."""
    twin = serializer.deserialize(memoryview(bytes(serializer.serialize(value))))
    assert type(twin) is type(value)
    return twin


def refused(value) -> SerializationError:
    with pytest.raises(SerializationError) as caught:
        serializer.serialize(value)
    error = caught.value
    assert error.code == "E004" and error.__cause__ is None
    return error


# -- pandas ---------------------------------------------------------------------------

WIDE = pd.DataFrame(
    {
        "int": [1, 2, 3],
        "float": [1.0, np.nan, -0.0],
        "text": ["a", None, "c"],
        "object": np.array(["x", np.nan, "y"], dtype=object),
        "object_none": np.array(["x", None, "y"], dtype=object),
        "time": pd.date_range("2020", periods=3, tz="Europe/Berlin"),
        "category": pd.Categorical(["a", "b", "a"], ordered=True),
        "nullable": pd.array([1, None, 3], dtype="Int64"),
        "delta": pd.to_timedelta([1, 2, 3], unit="s"),
        "bool": [True, False, True],
        "period": pd.period_range("2020", periods=3),
        "decimal": [decimal.Decimal("1.5")] * 3,
        "date": [datetime.date(2020, 1, 1)] * 3,
        "bytes": [b"x", b"", b"\0"],
    }
)

FRAMES = {
    "wide": WIDE,
    "an index of times": WIDE.set_index("time")[["int", "text"]],
    "a multi-index": WIDE.set_index(["int", "text"])[["float"]],
    "columns without names": pd.DataFrame(np.arange(6).reshape(2, 3)),
    "columns of one name": pd.DataFrame([[1, 2]], columns=["a", "a"]),
    "columns of several levels": pd.DataFrame(
        [[1, 2]],
        columns=pd.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["x", None]),
    ),
    "columns of mixed labels": pd.DataFrame([[1, 2]], columns=["a", 1]),
    "empty": pd.DataFrame(),
    "no columns": pd.DataFrame(index=[5, 6]),
    "no rows": WIDE.iloc[:0],
    "a frequency": pd.DataFrame(
        {"a": [1, 2]}, index=pd.date_range("2020", periods=2, freq="D")
    ),
    "an index named by a number": WIDE[["int"]].rename_axis(7),
    "objects": pd.DataFrame({"a": ["x", "y"]}, dtype=object),
    "a slice": WIDE[["int", "float"]].iloc[1:],
    "a step": WIDE[["int"]].iloc[::2],
    "only None": pd.DataFrame({"a": [None, None]}, dtype=object),
    "intervals": pd.DataFrame({"a": pd.interval_range(0, 2)}),
    "arrow dtypes": pd.DataFrame({"a": pd.array([1, 2], dtype="int32[pyarrow]")}),
}


@pytest.mark.parametrize("name", FRAMES)
def test_data_frame_comes_back(name):
    frame = FRAMES[name]
    before = frame.copy()
    pd.testing.assert_frame_equal(
        turn(frame), frame, check_exact=True, check_freq=True, check_column_type="exact"
    )
    pd.testing.assert_frame_equal(frame, before)


@pytest.mark.parametrize("name", ["text", "category", "time"])
def test_series_comes_back(name):
    pd.testing.assert_series_equal(turn(WIDE[name]), WIDE[name])


def test_names_and_attributes_come_back():
    series = pd.Series([1, 2], name=("a", 1))
    series.attrs = {"unit": ("m", 2)}
    twin = turn(series)
    assert twin.name == ("a", 1)
    assert twin.attrs == {"unit": ("m", 2)}
    assert series.attrs == {"unit": ("m", 2)}


@pytest.mark.parametrize(
    "index",
    [
        pd.Index([1, 2], name="x"),
        pd.Index(["a", "b"]),
        pd.RangeIndex(2, 8, 3),
        pd.date_range("2020", periods=3),
        pd.MultiIndex.from_tuples([(1, "a"), (2, "b")], names=["q", None]),
        pd.CategoricalIndex(["a", "b"]),
    ],
    ids=lambda index: type(index).__name__,
)
def test_index_comes_back(index):
    pd.testing.assert_index_equal(turn(index), index, exact=True)


class SubFrame(pd.DataFrame):
    pass


@pytest.mark.parametrize(
    "value",
    [
        pd.DataFrame({"a": [[1], [2]]}),
        pd.DataFrame({"a": [(1,), (2,)]}),
        pd.DataFrame({"a": [{"x": 1}, {"y": 2}]}),
        pd.DataFrame({"a": [1, "x"]}),
        pd.DataFrame({"a": [1, None]}, dtype=object),
        pd.DataFrame({"a": ["x", None, np.nan]}, dtype=object),
        pd.DataFrame({"a": [True, 1]}, dtype=object),
        pd.DataFrame({"a": pd.arrays.SparseArray([0, 1])}),
        pd.Series([1], name=object()),
        SubFrame({"a": [1]}),
        pd.Timestamp("2020"),
    ],
    ids=[
        *("lists", "tuples", "dicts", "mixed", "an object None", "None and NaN"),
        *("bool and int", "sparse", "a name", "a subclass", "a timestamp"),
    ],
)
def test_pandas_that_would_come_back_changed_is_refused(value):
    refused(value)


def test_pandas_and_numpy_may_be_changed_by_who_gets_them():
    frame = turn(pd.DataFrame({"a": np.arange(3)}))
    frame.iloc[0, 0] = 9
    frame["b"] = 1
    assert frame["a"].tolist() == [9, 1, 2]
    array = turn(np.arange(3))
    array[0] = 9
    assert array.tolist() == [9, 1, 2]


# -- polars ---------------------------------------------------------------------------

POLARS = pl.DataFrame(
    {
        "int": [1, None],
        "text": ["a", "b"],
        "list": [[1], [2, 3]],
        "categorical": pl.Series(["x", "y"], dtype=pl.Categorical),
        "enum": pl.Series(["x", "y"], dtype=pl.Enum(["x", "y"])),
        "struct": [{"a": 1}, {"a": 2}],
        "datetime": [DAY] * 2,
        "decimal": pl.Series(["1.5", "2"]).cast(pl.Decimal(10, 2)),
        "array": pl.Series([[1, 2], [3, 4]], dtype=pl.Array(pl.Int64, 2)),
        "time": [datetime.time(1)] * 2,
        "byte": pl.Series([1, 2], dtype=pl.UInt8),
        "binary": [b"x", b"y"],
        "null": [None, None],
    }
)


@pytest.mark.parametrize(
    "frame",
    [POLARS, POLARS.clear(), pl.DataFrame(), pl.DataFrame(schema={"a": pl.Int8})],
    ids=["wide", "no rows", "empty", "a schema"],
)
def test_polars_frame_comes_back(frame):
    twin = turn(frame)
    assert twin.schema == frame.schema
    assert twin.equals(frame)


@pytest.mark.parametrize("name", POLARS.columns)
def test_polars_series_comes_back(name):
    twin = turn(POLARS[name])
    assert twin.name == name and twin.dtype == POLARS[name].dtype
    assert twin.equals(POLARS[name])


def test_a_lazy_frame_is_refused_with_the_way_out():
    assert "collect()" in refused(POLARS.lazy()).hint


def test_a_polars_column_of_objects_is_refused():
    refused(pl.DataFrame({"a": [object()]}, schema={"a": pl.Object}))


# -- Arrow and NumPy ------------------------------------------------------------------

ARROW = {
    "table": pa.table({"a": [1, 2], "s": ["x", None]}, metadata={"k": "v"}),
    "empty table": pa.table({}),
    "batch": pa.record_batch({"a": [1, 2], "l": [[1], None]}),
    "batch of none": pa.record_batch({"a": pa.array([], pa.int8())}),
    "array": pa.array([[1], None]),
    "slice": pa.array([1, 2, 3]).slice(1),
    "dictionary": pa.array(["a", "b", "a"]).dictionary_encode(),
    "chunked": pa.chunked_array([[1], [2, 3]]),
    "chunked of none": pa.chunked_array([], type=pa.int8()),
    "dictionaries": pa.chunked_array(
        [pa.array(["a"]).dictionary_encode(), pa.array(["b"]).dictionary_encode()]
    ),
}


@pytest.mark.parametrize("name", ARROW)
def test_arrow_comes_back(name):
    value = ARROW[name]
    twin = turn(value)
    assert twin.equals(value)
    if hasattr(value, "schema"):
        assert twin.schema.equals(value.schema, check_metadata=True)
    else:
        assert twin.type == value.type


def test_arrow_and_polars_read_without_a_copy():
    data = bytes(serializer.serialize(pa.table({"a": np.arange(1000)})))
    start = pa.py_buffer(data).address
    column = serializer.deserialize(memoryview(data)).column(0).chunk(0)
    at = column.buffers()[1].address
    assert start < at < start + len(data)
    assert at % 8 == 0


@pytest.mark.parametrize(
    "value",
    [
        np.arange(6, dtype="<f4").reshape(2, 3).T,
        np.array(["2020-01-01"], dtype="M8[us]"),
        np.array(5),
        np.float32(1.5),
        np.zeros((0, 3)),
    ],
    ids=["matrix", "times", "no dimension", "scalar", "empty"],
)
def test_numpy_comes_back(value):
    twin = turn(value)
    assert np.array_equal(twin, value) and twin.dtype == value.dtype
    assert twin.shape == value.shape


def test_none_comes_back():
    assert turn(None) is None


@pytest.mark.parametrize(
    "value",
    [{"a": 1}, [WIDE], pa.scalar(1), np.array([object()]), np.ma.array([1]), 1],
    ids=lambda value: type(value).__name__,
)
def test_other_values_are_refused(value):
    refused(value)


# -- hostile bytes --------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "value",
    [WIDE, ARROW["table"], ARROW["dictionaries"], POLARS, np.arange(9)],
    ids=["pandas", "arrow", "dictionaries", "polars", "numpy"],
)
def test_changed_bytes_are_a_value_or_a_decode_error(value):
    data = bytes(serializer.serialize(value))
    chance = random.Random(7)
    for at in range(len(data)):
        changed = bytearray(data)
        changed[at] ^= 1 << chance.randrange(8)
        try:
            serializer.deserialize(memoryview(bytes(changed)))
        except DecodeError as error:
            assert error.__cause__ is None
    for end in range(0, len(data), 5):
        try:
            serializer.deserialize(memoryview(data[:end]))
        except DecodeError:
            pass


def stream(note, table, **options) -> memoryview:
    packed = _core.encode(note)
    head = b"CKA\x01" + len(packed).to_bytes(4, "little") + packed
    sink = pa.BufferOutputStream()
    sink.write(head + bytes(-len(head) % 16))
    options = pa.ipc.IpcWriteOptions(**options)
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table)
    return memoryview(sink.getvalue())


@pytest.mark.parametrize("compression", ["zstd", "lz4"])
@pytest.mark.parametrize(
    "column",
    [pa.array(["x" * 5000] * 10), pa.array(["x" * 5000] * 10).dictionary_encode()],
    ids=["batch", "dictionary"],
)
def test_compressed_streams_are_refused(compression, column):
    table, note = pa.table({"a": column}), {"kind": "table"}
    assert serializer.deserialize(stream(note, table)).equals(table)
    with pytest.raises(DecodeError):
        serializer.deserialize(stream(note, table, compression=compression))


def test_indices_that_lead_out_of_a_dictionary_are_refused():
    wild = pa.DictionaryArray.from_arrays(
        pa.array([0, 10**6], pa.int32()), pa.array(["a"]), safe=False
    )
    with pytest.raises(DecodeError):
        serializer.deserialize(stream({"kind": "table"}, pa.table({"a": wild})))


NULLS = pa.Array.from_buffers(pa.null(), 2**31 - 1, [None])  # costs nothing


@pytest.mark.parametrize(
    "column",
    [
        NULLS,
        pa.StructArray.from_arrays([NULLS], ["a"]),
        pa.RunEndEncodedArray.from_arrays(pa.array([2**31 - 1]), pa.array([1])),
        pa.ListArray.from_arrays(
            pa.array([0, 2**30], pa.int32()),
            pa.Array.from_buffers(pa.null(), 2**30, [None]),
        ),
    ],
    ids=["nulls", "struct", "run ends", "list"],
)
@pytest.mark.parametrize("kind", ["frame", "polars", "table"])
def test_items_that_cost_no_bytes_do_not_become_memory(column, kind):
    note = {"kind": kind, "objects": [], "nan": [], "names": [None]}
    with pytest.raises(DecodeError):
        serializer.deserialize(stream(note, pa.table({"0": column})))


@pytest.mark.parametrize(
    "note",
    [{}, [], {"kind": "none such"}, {"kind": ["table"]}, {"kind": "frame"}, 1],
)
def test_notes_that_are_not_ours_are_refused(note):
    with pytest.raises(DecodeError):
        serializer.deserialize(stream(note, ARROW["table"]))


# -- as the serializer of a function --------------------------------------------------


def test_hits_in_memory_and_store_are_equal_and_apart():
    store = MemoryBackend()

    def make(n: int) -> pd.DataFrame:
        return pd.DataFrame({"n": range(n)})

    def cached(memory: bool, serializer=serializer):
        config = CacheConfig(l1_enabled=memory)
        return Cache(config, backend=store)(name="frames", serializer=serializer)(make)

    one, two = cached(True), cached(False)
    made = one(3)
    made.iloc[0, 0] = 9
    hit = one(3)
    hit.iloc[1, 0] = 9
    assert one(3)["n"].tolist() == two(3)["n"].tolist() == [0, 1, 2]
    assert one.cache_info().l1_hits == 2 and two.cache_info().l2_hits == 1
    with pytest.raises(CacheMiss):
        cached(False, None).using("fresh")(3)


def test_an_arrow_hit_outlives_its_entry():
    cache = Cache(backend=None)

    @cache(name="outlives", serializer=serializer)
    def table(n: int) -> pa.Table:
        return pa.table({"n": np.arange(n)})

    table(1000)
    hit = table(1000)
    cache_info = table.cache_info()
    table.cache_clear()
    assert cache_info.hits == 1
    assert hit.column("n").to_pylist() == list(range(1000))


def test_without_the_library_one_clear_line():
    code = """
from cachekit import ConfigurationError
from cachekit.serializers import ArrowSerializer
try:
    ArrowSerializer()
except ConfigurationError as error:
    print(error)
"""
    assert run_without(code, "pyarrow") == (
        "ArrowSerializer needs pyarrow, which is not installed. "
        "pip install 'cachekit[arrow]'"
    )


def test_arrow_and_numpy_work_without_pandas_and_polars():
    code = """
import pyarrow as pa
from cachekit.serializers import ArrowSerializer
s = ArrowSerializer()
print(s.deserialize(s.serialize(pa.table({"a": [1]}))).to_pydict())
"""
    assert run_without(code, "pandas", "polars") == "{'a': [1]}"


def test_nothing_is_imported_before_it_is_used():
    code = """
import sys
from cachekit.serializers import ArrowSerializer
ArrowSerializer()
print(sorted({"pyarrow", "pandas", "polars", "numpy"} & set(sys.modules)))
"""
    assert run_without(code) == "[]"
