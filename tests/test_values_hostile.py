# SPDX-License-Identifier: MIT
"""Stored bytes are hostile: whatever they hold gives a value or DecodeError."""

from __future__ import annotations

import dataclasses
import decimal
import random
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from value_samples import (
    SMALL,
    Colour,
    D,
    Frozen,
    Pair,
    Point,
    User,
    decode_or_refuse,
    ext,
    name_of,
)

from cachekit import _core
from cachekit._errors import DecodeError


@pytest.mark.parametrize("item", SMALL, ids=name_of)
def test_truncated_and_extended_bytes_are_refused(item: tuple[Any, Any]) -> None:
    value, returns = item
    data = _core.encode(value, returns)
    for cut in range(len(data)):
        with pytest.raises(DecodeError):
            _core.decode(data[:cut], returns)
    with pytest.raises(DecodeError):
        _core.decode(data + b"\xc0", returns)


@pytest.mark.parametrize("item", SMALL, ids=name_of)
def test_changed_bytes_give_a_value_or_an_error(item: tuple[Any, Any]) -> None:
    value, returns = item
    data = bytearray(_core.encode(value, returns))
    chance = random.Random(len(data))
    for at in range(len(data)):
        old = data[at]
        for new in {0, 0x7F, 0x80, 0xFF, old ^ 1, old ^ 0x80, chance.randrange(256)}:
            data[at] = new
            decode_or_refuse(bytes(data), returns)
        data[at] = old


@given(st.binary(max_size=64))
def test_random_bytes_give_a_value_or_an_error(data: bytes) -> None:
    decode_or_refuse(data)


@given(st.integers(1, 33), st.binary(max_size=40))
def test_random_extensions_give_a_value_or_an_error(code: int, content: bytes) -> None:
    decode_or_refuse(b"\xc7" + bytes([len(content), code]) + content, User | Pair)


def test_every_input_of_two_bytes() -> None:
    for number in range(65536):
        decode_or_refuse(number.to_bytes(2, "big"))


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\xc1", b"\x81\x90\x01", b"\x82\x01\x01\x01\x01", b"\x82\x01\x01\xc3\x01",
        b"\xdd\xff\xff\xff\xff", b"\xdf\x7f\xff\xff\xff", b"\xc6\xff\xff\xff\xffx",
        b"\x91" * 513 + b"\xc0", b"\xa1\xff", b"\xa2\xed\xa0", b"\xa3\xed\xa0\x80",
        ext(0, b""), ext(99, b""), ext(0xFF, b"\0\0\0\0"), ext(1, b""), ext(2, b"\0"),
        ext(3, b"\xff"), ext(5, b"\x01"), ext(5, b"\x90\x90"), ext(6, b"\x91\x90"),
        ext(6, b"\x92\x01\x01"), ext(7, b"\x92\x01\xc3"), ext(8, b"\x90"),
        ext(9, b"\xcc\xff\x80"), ext(9, b"\xff\x80"), ext(11, b"\x01\x92\x01\x02"),
        ext(11, b"\xff\x90"), ext(11, ext(2, b"\0" * 16) + b"\x90"),
        ext(12, b"\0\0\x01\x01"), ext(12, b"\x07\xe4\x0d\x01"), ext(12,
        b"\x07\xe4\x02\x1f"),
        ext(13, b"\xff" * 8), ext(14, b"\xff" * 8), ext(14, b"\0" * 8), ext(14,
        b"\0" * 7),
        ext(14, bytes.fromhex("1f90440000000002") + b"\x7f" + b"\xff" * 7),
        ext(14, bytes.fromhex("1f90440000000003") + b"../../etc/passwd"),
        ext(14, bytes.fromhex("1f90440000000003") + b"Nowhere/Land"),
        ext(14, bytes.fromhex("1f90440000000004")),
        ext(15, b"\x7f" + b"\xff" * 3 + b"\0" * 8), ext(15, b"\0" * 4 + b"\xff" * 8),
        ext(16, b"\0" * 15), ext(17, b""), ext(17, b"x"), ext(17, b" 1"), ext(17,
        b"1_0"),
        ext(17, b"1e9999999999999999999"), ext(17, b"1E"), ext(17, b"--1"), ext(17,
        b"NaNx"),
        ext(18, b"\x01\x00"), ext(18, b"\x01\xff"), ext(18, b"\x01\xa1x"), ext(18,
        b"\x01"),
        ext(19, b"1.2.3.4.5"), ext(19, b"9" * 600), ext(21, b"10.0.0.1/8"), ext(25,
        b"\xff"),
        ext(31, b"\xa1X\xa1Y"), ext(32, b"\xa1X\x80"), ext(33, b"\xa1X\x80"), ext(32,
        b""),
    ],
    ids=lambda data: data[:24].hex(),
)  # fmt: skip
def test_impossible_values_are_refused(data: bytes) -> None:
    with pytest.raises(DecodeError):
        _core.decode(data)


def test_only_named_classes_are_made() -> None:
    data = _core.encode(Frozen(1), Frozen)
    for returns in (None, Pair, list[Pair], "Frozen"):
        with pytest.raises(DecodeError, match="names"):
            _core.decode(data, returns)


def test_other_kind_of_class_is_refused() -> None:
    sources = [(Colour.RED, Colour), (Frozen(1), Frozen), (Point(1), Point)]
    for value, returns in sources:
        data = bytearray(_core.encode(value, returns))
        for code in (31, 32, 33):
            if data[5] != code:
                changed = data[:5] + bytes([code]) + data[6:]
                with pytest.raises(DecodeError):
                    _core.decode(changed, returns)


def test_changed_class_is_a_decode_error() -> None:
    old = dataclasses.make_dataclass("Item", ["a", "b"])
    new = dataclasses.make_dataclass("Item", ["a", "c"])
    short = dataclasses.make_dataclass("Item", ["a"])
    data = _core.encode(old(1, 2), old)
    for returns in (new, short):
        with pytest.raises(DecodeError, match="changed"):
            _core.decode(data, returns)


def test_too_many_items_are_refused() -> None:
    empty = b"\xdd" + struct.pack(">I", 2**23) + b"\xc0" * 2**23
    with pytest.raises(DecodeError, match="too many items"):
        _core.decode(b"\x93" + empty + empty + b"\x01")


def test_long_digits_take_linear_time() -> None:
    huge = 1 << 8_000_000
    assert _core.decode(_core.encode(huge)) == huge
    digits = b"\xdb" + b"9" * 100
    decode_or_refuse(digits)
    number = _core.decode(ext(17, b"9" * 1_000_000))
    assert number.adjusted() == 999_999
    assert (
        _core.decode(ext(18, _core.encode(huge) + _core.encode(huge + 1))).numerator
        == huge
    )


def test_nesting_inside_extensions_is_bounded() -> None:
    for code, before in (
        (5, b"\x91"),
        (11, b"\xc0\x91"),
        (9, b"\x00\x81\x01"),
        (8, b"\x81\x01"),
    ):
        data = b"\xc0"
        for _ in range(5000):
            data = ext(code, before + data)
        with pytest.raises(DecodeError):
            _core.decode(data)
    for code, before in (
        (18, b""),
        (11, b""),
        (9, b""),
        (31, b""),
        (29, b""),
        (30, b""),
    ):
        data = b"\x01"
        for _ in range(20000):
            data = ext(code, before + data)
        with pytest.raises(DecodeError):
            _core.decode(data)


def test_decoding_runs_under_a_quiet_decimal_context() -> None:
    with decimal.localcontext() as context:
        context.clear_traps()
        context.prec = 2
        value = D("1.23456789")
        assert _core.decode(_core.encode(value)) == value
        with pytest.raises(DecodeError):
            _core.decode(ext(17, b"bad"))


def test_decode_error_does_not_show_data() -> None:
    with pytest.raises(DecodeError) as caught:
        _core.decode(b"\xa9secret123\xff")
    assert "secret" not in str(caught.value)
    with pytest.raises(DecodeError) as caught:
        _core.decode(b"\xa9secret12\xff")
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None and caught.value.__context__ is None


def test_decode_wants_bytes() -> None:
    with pytest.raises(TypeError):
        _core.decode("text")
