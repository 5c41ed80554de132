# SPDX-License-Identifier: MIT
"""NumPy scalars and arrays in the value codec."""

from __future__ import annotations

import random
from typing import Any

import pytest
from value_samples import decode_or_refuse, ext

from cachekit import _core
from cachekit._errors import DecodeError, SerializationError


def numpy_values() -> list[Any]:
    np = pytest.importorskip("numpy")
    return [
        np.float64(1.5), np.float32(-0.0), np.float16(1), np.int8(-3),
        np.uint64(2**64 - 1),
        np.bool_(True), np.complex64(1j), np.str_("aé"), np.bytes_(b"x"),
        np.datetime64("2020-01-01"), np.datetime64("NaT", "s"), np.timedelta64(3, "ns"),
        np.datetime64("2020-01-01T00:00", "25s"),
        np.arange(10), np.arange(12.0).reshape(3, 4), np.arange(24).reshape(2, 3, 4),
        np.asfortranarray(np.arange(12.0).reshape(3, 4)), np.array(3.0), np.zeros((0,
        3)),
        np.zeros((2, 0, 5), dtype="i2"), np.array([True, False]), np.array(["a",
        "bcé"]),
        np.array([b"a", b"bc"]), np.array(["2020-01-01", "NaT"], dtype="M8[us]"),
        np.arange(4, dtype=">i4"), np.arange(20)[::2], np.arange(20).reshape(4, 5)[:,
        1:3],
        np.arange(5)[::-1], np.array([np.nan, np.inf]), np.array([], dtype="U5"),
    ]  # fmt: skip


def test_numpy_values_round_trip() -> None:
    np = pytest.importorskip("numpy")
    for value in numpy_values():
        for back in (
            _core.decode(_core.encode(value)),
            _core.decode(_core.encode([value]))[0],
            _core.hold_copy(value),
        ):
            assert type(back) is type(value)
            assert back.dtype == value.dtype and back.dtype.str == value.dtype.str
            assert back.shape == value.shape
            assert back.tobytes() == value.tobytes()
            if type(value) is np.ndarray:
                assert (
                    back.flags.writeable and back.flags.owndata and back.flags.aligned
                )
                if value.flags.f_contiguous or value.flags.c_contiguous:
                    assert back.flags.f_contiguous == value.flags.f_contiguous
                    assert back.flags.c_contiguous == value.flags.c_contiguous


def test_numpy_scalar_may_be_a_key() -> None:
    np = pytest.importorskip("numpy")
    back = _core.decode(_core.encode({np.int64(3): 1}))
    assert [type(key) for key in back] == [np.int64]


def test_other_numpy_values_are_refused() -> None:
    np = pytest.importorskip("numpy")
    values = [
        np.array([object()]), np.zeros(2, dtype=[("a", "i4")]), np.zeros(2, dtype="V4"),
        np.zeros(2, dtype=[("a", "i4")])[0], np.ma.array([1]), np.dtype("i4"),
        np.rec.array([(1, 2)]),
    ]  # fmt: skip
    for value in values:
        for function in (_core.encode, _core.hold_copy):
            with pytest.raises(SerializationError):
                function(value)


def test_array_over_the_limit_is_refused_before_it_is_copied() -> None:
    np = pytest.importorskip("numpy")
    with pytest.raises(SerializationError, match="larger than the limit"):
        _core.encode(np.zeros(10**6), limit=10**6)


def test_hostile_arrays_are_refused() -> None:
    pytest.importorskip("numpy")
    pack = _core.encode

    def array(dtype: Any, order: Any, shape: Any, data: Any) -> bytes:
        return ext(30, pack(dtype) + pack(order) + pack(shape) + pack(data))

    assert _core.decode(array("<i4", 0, [2], b"\0" * 8)).tolist() == [0, 0]
    for data in (
        array("<i4", 0, [3], b"\0" * 8), array("<i4", 0, [2**62, 2**62], b"\0" * 8),
        array("<i4", 0, [-1], b""), array("<i4", 0, [0, 2**63], b""),
        array("<i4", 2, [2], b"\0" * 8), array("<i4", 0, [True], b"\0" * 4),
        array("|O8", 0, [1], b"\0" * 8), array("|V8", 0, [1], b"\0" * 8), array("O", 0,
        [], b""),
        array("<i4,<i4", 0, [1], b"\0" * 8), array("(2,)i4", 0, [1], b"\0" * 8),
        array("<i3", 0, [1], b"\0" * 3), array("|b1", 0, [1], b"\x02"),
        array("<U1", 0, [1], b"\xff" * 4), array(">U1", 0, [1], b"\0\x11\0\0"),
        array("<U99999999999", 0, [0], b""), array("<M8[xx]", 0, [1], b"\0" * 8),
        array("<i4", 0, [1] * 33, b"\0" * 4), array("", 0, [], b""), array(5, 0, [],
        b""),
        array("<i4", 0, [2], "text"), array("<i4", 0, 2, b"\0" * 8),
        ext(29, pack("<i4") + pack(b"\0")), ext(29, pack("|O8") + pack(b"\0" * 8)),
    ):  # fmt: skip
        with pytest.raises(DecodeError):
            _core.decode(data)


def test_changed_bytes_of_arrays_give_a_value_or_an_error() -> None:
    chance = random.Random(7)
    for value in numpy_values():
        data = bytearray(_core.encode(value))
        for at in range(len(data)):
            old = data[at]
            for new in (0, 0xFF, old ^ 1, chance.randrange(256)):
                data[at] = new
                decode_or_refuse(bytes(data))
            data[at] = old
