# SPDX-License-Identifier: MIT
"""What the fuzz targets inside an interpreter demand of an input: see embed.h."""

from __future__ import annotations

import _imp
import dataclasses
import enum
import importlib.machinery
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
import pydantic

if "cachekit._core" in sys.builtin_module_names:
    # Linked into the program, under a name with a dot: no importer looks there.
    _linked = _imp.create_builtin(
        importlib.machinery.ModuleSpec("cachekit._core", None)
    )
    sys.modules["cachekit._core"] = _linked
    _imp.exec_builtin(_linked)

from cachekit import _core as _typed_core
from cachekit._errors import DecodeError, SerializationError

_core: Any = _typed_core


class Colour(enum.Enum):
    RED = 1
    GREEN = "g"


class Right(enum.Flag):
    READ = 1
    WRITE = 2


class Pair(NamedTuple):
    left: Any
    right: Any = None


@dataclasses.dataclass
class User:
    name: str
    friends: list[User] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class Point:
    __slots__ = ("x",)
    x: int


class Row(msgspec.Struct):
    x: int
    more: list[Row] = []


class Page(pydantic.BaseModel):
    title: str
    pages: dict[str, Page] = {}


BARE, CHECKED, ENVELOPE = range(3)
RETURNS = (None, User | Colour | Pair, list[Point | Right], dict[str, User], Row | Page)


def decoded(data: bytes, returns: Any) -> tuple[Any] | None:
    try:
        return (_core.decode(data, returns),)
    except DecodeError:
        return None


def refused(function: Callable[..., Any], *args: Any) -> bool:
    """Does it refuse the value? Any other exception is a finding."""
    try:
        function(*args)
    except SerializationError:
        return True
    return False


def check_value(data: bytes) -> None:
    """A byte that chooses what `returns` names, then a value, or none. What was decoded
    can be written, and what was written reads and is written alike."""
    if not data:
        return
    returns = RETURNS[(data[0] & 7) % len(RETURNS)]
    found = decoded(data[1:], returns)
    if found is None:
        return
    try:
        written = _core.encode(found[0], returns)
    except SerializationError:
        # Values that only bytes can make, as tuples in a deque of tuples in ... a set.
        raise AssertionError(f"decoded, not encoded: {data!r}") from None
    again = decoded(written, returns)
    assert again is not None, data
    # A set's items may come in another order.
    assert sorted(_core.encode(again[0], returns)) == sorted(written), data
    if data[0] & 0x80:
        tier, held, _ = _core.hold(found[0], returns)
        assert tier
        refused(_core.hold_copy, found[0], returns)
        assert _core.sizeof(found[0]) >= 0
        refused(_core.encode, found[0], returns, len(written) // 2)


def hook(value: dict[Any, Any]) -> Any:
    if 1 in value:
        raise ValueError("a hook that refuses")
    return tuple(value)


def check_unpack(data: bytes, how: int) -> None:
    try:
        value = _core.wire3_unpack(data, hook if how & 1 else None)
    except DecodeError:
        return
    for style in range(3):
        try:
            written = _core.wire3_pack(value, style)
        except SerializationError:
            continue
        again = _core.wire3_unpack(written)
        if style == 1:
            assert _core.wire3_pack(again, 1) == written, data
        refused(_core.wire3_dump, again, "default", bool(how & 2), len(written))


def check_entry(data: bytes, how: int) -> None:
    foreign = False
    try:
        parsed = _core.wire3_parse(data)
        foreign = parsed is None
    except DecodeError:
        parsed = None
    for integrity in (True, False):
        try:
            loaded = _core.wire3_load(data, "default", integrity)
        except DecodeError:
            continue
        assert loaded is None or not foreign
    if parsed is None:
        return
    serializer, form, original, compressed, encrypted, tenant, mark, payload = parsed
    if form is None:
        return
    built = _core.wire3_build(
        serializer,
        form,
        original,
        compressed,
        payload,
        tenant if encrypted else None,
        mark,
    )
    again = _core.wire3_parse(built)
    assert again is not None
    assert again[:5] + again[6:] == parsed[:5] + parsed[6:], data
    assert again[5] == (tenant if encrypted else None)


def check_body(data: bytes, how: int) -> None:
    body = how % 3
    try:
        raw = _core.wire3_open(data, body)
    except DecodeError:
        raw = data
    if raw:
        assert _core.wire3_open(_core.wire3_wrap(raw, body), body) == raw


def check_whole(data: bytes, how: int) -> None:
    """An entry around the value: nobody finds its check by chance."""
    body = ENVELOPE if how & 1 else BARE
    if not data:
        return
    entry = _core.wire3_build(
        "default", "msgpack", "msgpack", body == ENVELOPE, _core.wire3_wrap(data, body)
    )
    try:
        loaded = _core.wire3_load(entry, "default", body == ENVELOPE)
    except DecodeError:
        loaded = None
    try:
        value = (_core.wire3_unpack(data),)
    except DecodeError:
        value = None
    assert (loaded is None) == (value is None), data


CHECKS = (check_unpack, check_entry, check_body, check_whole)


def check_wire3(data: bytes) -> None:
    """A byte that chooses; then a value, an entry, a payload, or an entry's value."""
    if data:
        CHECKS[data[0] & 3](data[1:], data[0] >> 2)
