# SPDX-License-Identifier: MIT
"""Any value of any type that the codec knows comes back equal and of the same type."""

from __future__ import annotations

import collections
import datetime as dt
import ipaddress
import pathlib
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from value_samples import UTC, ZONES, Address, Colour, Frozen, Pair, Point, User, same

from cachekit import _core

RETURNS = User | Colour | Frozen | Pair | Point
TEXT = st.text(st.characters(exclude_categories=()), max_size=20)
OFFSETS = st.timedeltas(dt.timedelta(hours=-23), dt.timedelta(hours=23))
NAMES = st.text(st.characters(min_codepoint=97, max_codepoint=122), min_size=1)
ZONED = st.one_of(
    st.sampled_from([None, UTC, *ZONES]),
    OFFSETS.map(dt.timezone),
    st.builds(dt.timezone, OFFSETS, st.text(max_size=4)),
)
NETWORKS = st.builds(
    lambda address, bits: (int(address), address.version, bits),
    st.ip_addresses(),
    st.integers(0, 32),
)


def interface(parts: tuple[int, int, int]) -> Any:
    kind = ipaddress.IPv4Interface if parts[1] == 4 else ipaddress.IPv6Interface
    return kind(parts[0])


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**300), 2**300),
    st.floats(),
    st.complex_numbers(),
    TEXT,
    st.binary(),
    st.dates(),
    st.times(timezones=st.sampled_from([None, UTC, *ZONES])),
    st.datetimes(timezones=ZONED),
    st.timedeltas(),
    st.uuids(),
    st.decimals(),
    st.fractions(),
    st.ip_addresses(),
    NETWORKS.map(interface),
    NETWORKS.map(
        lambda parts: ipaddress.ip_network((parts[0], parts[2]), strict=False)
    ),
    st.lists(NAMES, max_size=4).map(lambda parts: pathlib.PurePosixPath(*parts)),
    st.lists(NAMES, max_size=4).map(lambda parts: pathlib.PureWindowsPath(*parts)),
    st.lists(NAMES, max_size=4).map(lambda parts: pathlib.Path(*parts)),
    st.sampled_from([Colour.RED, Colour.GREEN]),
    st.integers(-128, 127).map(numpy.int8),
    st.integers(0, 2**64 - 1).map(numpy.uint64),
    st.floats(width=32).map(numpy.float32),
    st.floats().map(numpy.float64),
    st.booleans().map(numpy.bool_),
)
KEYS = st.one_of(st.none(), st.integers(), TEXT, st.binary(max_size=5), st.dates())
FACTORIES = st.sampled_from([None, int, list, dict, set, tuple, str])


def containers(inner: Any) -> Any:
    lists, pairs = st.lists(inner, max_size=4), st.dictionaries(KEYS, inner, max_size=4)
    return st.one_of(
        lists,
        lists.map(tuple),
        lists.map(collections.deque),
        st.builds(collections.deque, lists, st.integers(4, 9)),
        pairs,
        pairs.map(collections.OrderedDict),
        st.builds(collections.defaultdict, FACTORIES, pairs),
        pairs.map(collections.Counter),
        st.sets(KEYS, max_size=4),
        st.frozensets(st.tuples(KEYS, KEYS), max_size=4),
        st.binary().map(bytearray),
        st.builds(Pair, inner, inner),
        st.builds(Point, inner, inner),
        st.builds(Frozen, st.integers(), st.none() | st.builds(Frozen, st.integers())),
        st.builds(User, TEXT, st.builds(Address, TEXT, st.just(Colour.RED))),
    )


VALUES = st.recursive(SCALARS, containers, max_leaves=20)


def is_same(left: Any, right: Any) -> bool:
    if type(left) is not type(right):
        return False
    if isinstance(left, numpy.generic):
        return bool(left.tobytes() == right.tobytes())
    # A NaN of NumPy inside a container is not even equal to itself.
    return same(left, right) or _core.encode(left, RETURNS) == _core.encode(
        right, RETURNS
    )


@given(VALUES)
def test_any_value_comes_back_equal_and_of_its_type(value: Any) -> None:
    data = _core.encode(value, RETURNS)
    assert is_same(_core.decode(data, RETURNS), value)


@given(VALUES)
def test_memory_hands_out_any_value_as_it_was(value: Any) -> None:
    assert is_same(_core.hold_copy(value, RETURNS), value)


@given(VALUES, st.data())
def test_no_beginning_of_a_value_is_a_value(value: Any, data: st.DataObject) -> None:
    written = _core.encode(value, RETURNS)
    cut = written[: data.draw(st.integers(0, len(written) - 1))]
    with pytest.raises(Exception, match="not a value"):
        _core.decode(cut, RETURNS)


PLAIN = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(),
        st.text(), st.binary(), st.dates(),
        (st.times() | st.datetimes()).map(lambda when: when.replace(fold=0)),
    ),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=15,
)  # fmt: skip


@given(PLAIN)
def test_any_plain_value_survives_a_version_3_entry(value: Any) -> None:
    for integrity in (True, False):
        entry = _core.wire3_dump(value, "default", integrity)
        loaded = _core.wire3_load(entry, "default", integrity)
        assert loaded is not None and same(loaded[0], value)


@pytest.mark.parametrize("value", [numpy.str_(""), numpy.bytes_(b"")], ids=repr)
def test_empty_numpy_text_comes_back(value: Any) -> None:
    back = _core.decode(_core.encode(value))
    assert type(back) is type(value) and back == value
