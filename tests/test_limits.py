# SPDX-License-Identifier: MIT
"""Limits on depth, count, size, expansion, keys and tags: a value just inside each is
kept, one just outside is not, and neither costs more than it should."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest
import xxhash

from cachekit import Cache, CacheConfig, UncacheableArgument, _core
from cachekit._errors import DecodeError
from cachekit.backends import MemoryBackend

DEPTH, ITEMS, EXPANSION = 512, 2**24, 1000
ENVELOPE = 2


def nested(depth: int, inner: Any = None) -> Any:
    for _ in range(depth):
        inner = [inner]
    return inner


class Counted:
    """One function over one store, asked through two caches that share no memory."""

    def __init__(self, value: Any, **options: Any) -> None:
        self.store, self.runs = MemoryBackend(), 0

        def compute(*_args: Any) -> Any:
            self.runs += 1
            return value

        self.one, self.other = (
            Cache(CacheConfig(namespace="limits"), backend=self.store)(
                ttl=60, name="compute", **options
            )(compute)
            for _ in range(2)
        )

    def entry(self) -> str:
        """The key of the one entry in the store."""
        return str(self.one.key_for())

    def stored(self) -> bytes:
        found = self.store.read(self.entry(), 1.0)
        assert found is not None
        return found[0]

    def replace(self, data: bytes) -> None:
        self.store.write(self.entry(), data, 60_000, 1.0)

    def is_shared(self) -> bool:
        """Does the second cache find what the first one stored?"""
        assert self.one() == self.other()
        return self.runs == 1


# ---- depth ---------------------------------------------------------------------------


def test_value_of_512_levels_is_kept_and_one_of_513_is_not() -> None:
    inside, outside = Counted(nested(DEPTH)), Counted(nested(DEPTH + 1))
    assert inside.is_shared()
    assert not outside.is_shared()
    assert outside.one.cache_info().unencodable == 1


@pytest.mark.parametrize("level", [b"\x91", b"\x81\x01"], ids=["list", "dict"])
def test_bytes_of_512_levels_are_read_and_those_of_513_are_not(level: bytes) -> None:
    assert _core.decode(level * DEPTH + b"\xc0")
    with pytest.raises(DecodeError, match="512 deep"):
        _core.decode(level * (DEPTH + 1) + b"\xc0")


def test_version_3_bytes_of_1024_levels_are_read_and_those_of_1025_are_not() -> None:
    assert _core.wire3_unpack(b"\x91" * 1024 + b"\xc0")
    with pytest.raises(DecodeError, match="1024 deep"):
        _core.wire3_unpack(b"\x91" * 1025 + b"\xc0")


def test_argument_of_64_levels_is_a_key_and_one_of_65_is_not() -> None:
    counted = Counted(1)
    assert counted.one(nested(64)) == counted.one(nested(64)) == 1
    assert counted.runs == 1
    with pytest.raises(UncacheableArgument, match="64 deep"):
        counted.one(nested(65))


# ---- count ---------------------------------------------------------------------------


def test_value_of_two_to_the_24_items_is_kept_and_one_more_is_too_many() -> None:
    rows: list[Any] = [[None] * 4096] * 4095
    inside = [*rows, None]
    data = _core.encode(inside)
    assert _core.decode(data) == inside
    counted = Counted([*rows, None, None])
    assert not counted.is_shared()
    assert counted.one.cache_info().oversized == 1
    # The same in bytes: the first array announces one item more.
    with pytest.raises(DecodeError, match="too many items"):
        _core.decode(data.replace(b"\xdc\x10\x00", b"\xdc\x10\x01", 1) + b"\xc0")


@pytest.mark.parametrize("code", [b"\xdd", b"\xdf"], ids=["list", "dict"])
def test_announced_items_without_bytes_are_refused_at_once(code: bytes) -> None:
    with pytest.raises(DecodeError):
        _core.decode(code + b"\xff\xff\xff\xff" + b"\xc0" * 64)


# ---- size ----------------------------------------------------------------------------


def text_of(size: int) -> bytes:
    """A value that takes `size` bytes in the store's format."""
    value = bytes(size - 3)
    assert len(_core.encode(value)) == size
    return value


def test_entry_of_max_value_size_is_stored_and_one_byte_more_is_not() -> None:
    """In the store a value is as large as its bytes."""
    inside = Counted(text_of(1000), max_value_size=1000, l1_enabled=False)
    outside = Counted(text_of(1001), max_value_size=1000, l1_enabled=False)
    assert inside.is_shared()
    assert inside.one.cache_info().oversized == 0
    assert not outside.is_shared()
    assert outside.one.cache_info().oversized == 1


def test_object_of_max_value_size_is_held_and_one_byte_more_is_not() -> None:
    """In memory it is as large as the object."""
    value = text_of(1000)
    size = _core.hold(value)[2]
    assert size > 1000
    assert Counted(value, max_value_size=size).is_shared()
    outside = Counted(value, max_value_size=size - 1)
    assert not outside.is_shared()
    assert outside.one.cache_info().oversized == 1


def test_encoder_stops_at_its_limit() -> None:
    value = text_of(500)
    assert len(_core.encode(value, None, 500)) == 500
    with pytest.raises(Exception, match="larger than the limit"):
        _core.encode(value, None, 499)


def test_version_3_header_of_64_kib_is_read_and_written_and_more_is_not() -> None:
    def build(size: int) -> bytes:
        return _core.wire3_build("x" * size, "m", None, False, b"")

    spare = 65536 - (len(build(1)) - 7) + 1
    assert _core.wire3_parse(build(spare)) is not None
    with pytest.raises(ValueError, match="65536"):
        build(spare + 1)
    entry = bytearray(build(spare) + b"}")
    entry[3:7] = struct.pack(">I", 65537)
    with pytest.raises(DecodeError, match="beyond the limits"):
        _core.wire3_parse(bytes(entry))


# ---- expansion -----------------------------------------------------------------------

RAW_AT = 42  # of a compressed entry without other optional fields before it


def envelope(claimed: int, block: bytes) -> bytes:
    size = b"\xce" + struct.pack(">I", claimed)
    block = b"\xc4" + bytes([len(block)]) + block
    return b"\x94" + block + b"\xc4\x08" + bytes(8) + size + b"\xa7msgpack"


@pytest.mark.parametrize(
    ("claimed", "words"),
    [
        (EXPANSION * 10, "damaged"),  # allowed, and no block expands so far
        (EXPANSION * 10 + 1, "beyond the limits"),
        (0, "beyond the limits"),
        (2**32 - 1, "beyond the limits"),
    ],
)
def test_block_may_claim_a_thousand_times_its_size(claimed: int, words: str) -> None:
    with pytest.raises(DecodeError, match=words):
        _core.wire3_open(envelope(claimed, b"\x1fa" + b"\xff" * 8), ENVELOPE)


def sealed(data: bytes) -> bytes:
    """The frame with the check that belongs to it."""
    return data[:-8] + struct.pack("<Q", xxhash.xxh3_64_intdigest(data[:-8]))


def with_raw_length(data: bytes, change: Callable[[int], int]) -> bytes:
    """A compressed entry that claims another raw length, with the right check."""
    flags = struct.unpack_from("<H", data, 3)[0]
    assert flags & 0x40, "compressed"
    at = RAW_AT + 4 * bin(flags & 0x0F00).count("1")
    claimed = change(struct.unpack_from("<I", data, at)[0])
    return sealed(data[:at] + struct.pack("<I", claimed) + data[at + 4 :])


def test_compressed_value_is_found() -> None:
    counted = Counted(b"a" * 50_000)
    counted.one()
    assert len(counted.stored()) < 1000
    counted.replace(with_raw_length(counted.stored(), lambda size: size))
    assert counted.is_shared()


@pytest.mark.parametrize(
    "claimed", [0, 1, 49_999, 2**20, 512 * 2**20, 512 * 2**20 + 1, 2**32 - 1]
)
def test_entry_that_claims_another_raw_length_is_a_miss(claimed: int) -> None:
    counted = Counted(b"a" * 50_000)
    counted.one()
    counted.replace(with_raw_length(counted.stored(), lambda _: claimed))
    assert counted.other() == b"a" * 50_000
    assert counted.runs == 2


# ---- keys and tags -------------------------------------------------------------------


def test_key_of_a_kibibyte_is_kept_and_a_longer_one_becomes_its_digest() -> None:
    spare = 1024 - (len(_core.canonical("x" * 500)) - 500)
    assert len(_core.canonical("x" * spare)) == 1024
    assert len(_core.canonical("x" * (spare + 1))) == 33
    counted = Counted(1)
    for size in (spare - 40, spare, spare + 1, 100_000):
        before = counted.runs
        for _ in range(2):
            counted.one("x" * size)
            counted.other("x" * size)
        assert counted.runs == before + 1


def test_32_tags_are_accepted_and_33_are_not() -> None:
    assert Counted(1, tags=[f"tag{i}" for i in range(32)]).is_shared()
    with pytest.raises(ValueError, match="32"):
        Counted(1, tags=[f"tag{i}" for i in range(33)])


def test_tag_of_200_bytes_is_accepted_and_one_of_201_is_not() -> None:
    assert Counted(1, tags=["é" * 100]).is_shared()
    with pytest.raises(ValueError, match="200"):
        Counted(1, tags=["é" * 100 + "x"])
