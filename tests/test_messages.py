"""The messages on the channel: what is written is read, and nothing else is."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cachekit._messages import (
    ENTRY,
    VERSION,
    WAKE,
    Message,
    channel_of,
    entry_message,
    parse,
    version_message,
    wake_message,
)

ORIGIN = bytes(range(8))
FUNCTION = bytes(range(100, 116))

origins = st.binary(min_size=8, max_size=8)
ids = st.binary(min_size=16, max_size=16)
keys = st.binary(max_size=1024)
names = st.text(
    st.characters(exclude_categories=["Cs"]), min_size=1, max_size=250
).filter(lambda name: len(name.encode()) <= 1024)


def test_a_channel_belongs_to_a_namespace():
    assert channel_of("shop") == "shop:invalidate"
    assert channel_of(None) == channel_of("") == "cachekit:invalidate"


def test_the_layout_is_this():
    assert entry_message(ORIGIN, FUNCTION, b"key") == (
        b"CKI\x01" + ORIGIN + b"k" + FUNCTION + b"key"
    )
    assert version_message(ORIGIN, "a:v:é") == b"CKI\x01" + ORIGIN + b"va:v:\xc3\xa9"
    assert wake_message(ORIGIN, "a:b:1") == b"CKI\x01" + ORIGIN + b"wa:b:1"


@given(origins, ids, keys)
def test_an_entry_is_read_as_written(origin, function, key):
    message = parse(entry_message(origin, function, key))
    assert message == Message(ENTRY, origin, function, key)


@given(origins, names)
@pytest.mark.parametrize(
    "kind, write", [(VERSION, version_message), (WAKE, wake_message)]
)
def test_a_name_is_read_as_written(kind, write, origin, name):
    assert parse(write(origin, name)) == Message(kind, origin, b"", name.encode())


HEAD = b"CKI\x01" + ORIGIN


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"C",
        b"CKI\x01",
        HEAD,
        HEAD + b"k",
        HEAD + b"k" + FUNCTION[:15],
        HEAD + b"v",
        HEAD + b"w",
        HEAD + b"x" + b"name",
        HEAD + b"V" + b"name",
        b"CKI\x02" + ORIGIN + b"vname",
        b"cki\x01" + ORIGIN + b"vname",
        HEAD + b"v\xff",
        HEAD + b"v\xed\xa0\x80",
        HEAD + b"w\xc3",
        HEAD + b"v" + b"n" * 1025,
        HEAD + b"k" + FUNCTION + b"k" * 1025,
        b"hello",
        b"\0" * 5000,
    ],
)
def test_anything_else_is_garbage(data):
    assert parse(data) is None


def test_the_longest_of_each_is_read():
    assert parse(entry_message(ORIGIN, FUNCTION, b"k" * 1024)) is not None
    assert parse(entry_message(ORIGIN, FUNCTION, b"")) is not None
    assert parse(version_message(ORIGIN, "n" * 1024)) is not None


@pytest.mark.parametrize(
    "write",
    [
        lambda: entry_message(b"short", FUNCTION, b""),
        lambda: entry_message(ORIGIN, b"short", b""),
        lambda: entry_message(ORIGIN, FUNCTION, b"k" * 1025),
        lambda: version_message(ORIGIN, ""),
        lambda: wake_message(ORIGIN, "n" * 1025),
        lambda: wake_message(b"", "name"),
        lambda: wake_message(ORIGIN, "\ud800"),
    ],
)
def test_what_could_not_be_read_is_not_written(write):
    with pytest.raises(ValueError):
        write()


def judge(data):
    message = parse(data)
    if message is None:
        return
    assert message.kind in (ENTRY, VERSION, WAKE)
    assert len(message.origin) == 8
    assert len(message.function_id) == (16 if message.kind == ENTRY else 0)
    assert len(message.body) <= 1024
    if message.kind != ENTRY:
        assert message.body.decode()
    assert bytes(data) == b"".join(
        (b"CKI\x01", message.origin, message.kind, message.function_id, message.body)
    )


@given(st.binary(max_size=2000))
@example(HEAD + b"v\x80")
def test_no_bytes_raise(data):
    judge(data)
    judge(HEAD + data)
    judge(b"CKI\x01" + data)


@given(keys, st.integers(0, 1100), st.integers(0, 255))
def test_a_changed_byte_and_a_cut_do_not_raise(key, at, byte):
    message = bytearray(entry_message(ORIGIN, FUNCTION, key))
    judge(bytes(message[:at]))
    message[at % len(message)] = byte
    judge(bytes(message))
